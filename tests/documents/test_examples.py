"""What documents show is what happens. Runs the installed commands; knows the examples and the loopback launcher."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from protocol.transport.keys import write_pair
from protocol.transport.learner_sockets import new_pair
from tests.documents.markdown import Dialogue, dialogues, fences, prints
from tests.documents.pages import PAGES, ROOT, text_of
from tests.loopback.system import Launcher

EXAMPLES = ROOT / "docs/examples"
SHOWN = [  # page, language and the file that the page's first block of this language shows
    ("README.md", "python", "corridor.py"),
    ("docs/tutorial.md", "python", "corridor.py"),
    ("docs/tutorial.md", "toml", "corridor.toml"),
    ("docs/curricula.md", "python", "wrappers.py"),
    ("protocol/WIRE.md", "python", "minimal_actor.py"),
]
ORDER = (  # later ones go on with runs/first
    "docs/quickstart.md",
    "docs/fine-tuning.md",
    "docs/comparing.md",
    "docs/tutorial.md",
    "docs/curricula.md",
    "docs/troubleshooting.md",
)
