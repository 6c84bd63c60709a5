"""``python -m actor`` is the command ``actor``."""

from actor.cli import process

process()
