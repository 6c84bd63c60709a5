"""What this installation lacks for what was asked: a learner's machine may have neither torch nor simulators.

Looks, and imports none of it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from learner.config import Experiment
from protocol.errors import UserError

WITHOUT_TORCH = ("preconditioned", "rmsprop_paper", "lion")  # learner/optim/optimizers.py


class NotInstalled(UserError):
    """Something that the run needs. missing: packages. instead: what would do without them."""

    def __init__(self, missing: str, instead: str) -> None:
        super().__init__(missing, instead)
        self.missing, self.instead = missing, instead

    def __str__(self) -> str:
        return f"not installed here: {self.missing}; {self.instead}"


def require(experiment: Experiment, initial: Path | None) -> None:
    """Raises NotInstalled. initial: file of θ₀, None where this machine is to make it."""
    simulators = find_spec("gymnasium") is not None  # whether the network needs torch, actors say themselves
    if not simulators and experiment.run.actors:
        raise NotInstalled("gymnasium", "say --actors 0, and start actors where it is")
    if not simulators and initial is None:
        raise NotInstalled("gymnasium", "say --initial FILE, which `actor init` writes where it is")
    optimizer = experiment.learner.optimizer.name
    if optimizer not in WITHOUT_TORCH and find_spec("torch") is None:
        raise NotInstalled("torch", f"learner.optimizer = {optimizer} needs it; {', '.join(WITHOUT_TORCH)} do not")
