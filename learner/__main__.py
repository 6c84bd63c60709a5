"""``python -m learner`` is the command ``learner``."""

from learner.cli import main

main()
