"""Weights & Biases: a run of its own for each life, in one group. Knows, late, wandb, whose variables it obeys.

``WANDB_MODE=offline`` keeps all of it in the run's directory, and ``wandb sync`` uploads that later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from learner.monitoring.sinks.charts import Points
from learner.monitoring.sinks.reach import require_reachable

STEP = "env_steps"  # their own step must not fall, and that of a run that goes on from a checkpoint does
PLAIN = str | int | float | bool
ALONE = ("offline", "dryrun", "disabled")  # modes of theirs in which nobody is asked


class WandbSink:
    """project: there. folder: where their files are kept before they are uploaded. where: the project, for people."""

    def __init__(self, project: str, folder: Path) -> None:
        self.where = f"project {project}"
        self._project, self._folder = project, folder
        self._run: Any = None

    def start(self, run: str, config: Mapping[str, Any], env_steps: int) -> None:
        """Sink.start."""
        import wandb

        theirs = wandb.setup().settings
        if theirs.mode not in ALONE:
            require_reachable(theirs.base_url)
        self._run = wandb.init(
            project=self._project,
            group=run,
            name=run if not env_steps else f"{run}-from-{env_steps}",
            config=dict(config),
            dir=str(self._folder),
            settings=wandb.Settings(console="off", silent=True),  # what the learner prints is its own
        )
        self._run.define_metric("*", step_metric=STEP)

    def scalars(self, points: Points) -> None:
        """Sink.scalars."""
        self._run.log({STEP: points.env_steps, **points.values})

    def end(self, result: Mapping[str, Any]) -> None:
        """Sink.end. Waits until all is uploaded, or on disk where they are offline."""
        self._run.summary.update({name: value for name, value in result.items() if isinstance(value, PLAIN)})
        self._run.finish(exit_code=int(result["exit_code"] == 1))
        import wandb

        wandb.teardown()  # their service writes the last of a file when it ends, and not before
