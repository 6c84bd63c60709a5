"""What result.json says of a life that ended. Reads the state, the machine and the installation; changes nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from msgspec import UNSET

from learner.monitoring.advice import Advice
from learner.progress import RENAMED_IN_RESULT, WINDOW, with_former
from learner.state import LearnerState

PACKAGES = ("farflung", "torch", "numpy", "pyzmq", "gymnasium", "msgspec")  # whose versions can change a result


def result_of(
    state: LearnerState, now: float, started_at: float, exit_code: int, advice: Sequence[Advice] = ()
) -> dict[str, Any]:
    """result.json. now, started_at: ``time.monotonic``, the second when the process began. exit_code: of this life.

    advice: all that was given.
    """
    progress, manifest = state.progress, state.manifest
    judged = sum(progress.rulings.values())
    dense_bytes = 4 * manifest.layout.length
    per_gradient = (
        progress.received_bytes / judged if judged else None
    )  # all that came up, heartbeats and reports included
    told = {
        "env": manifest.env,
        "seed": manifest.seed,
        "run": manifest.run,
        "exit_code": exit_code,
        "solved": state.shutdown.solved,
        "return_mean_100": progress.return_mean if len(progress.scores) == WINDOW else None,
        "return_target": state.experiment.run.until_return,
        "episodes": progress.episodes,
        "env_steps": progress.env_steps,
        "version": progress.version,
        "checkpoint_version": state.saving.version,
        "journal_failure": state.saving.journal_failure,
        "parameters": manifest.layout.length,
        "initial_weights": None if manifest.initial is UNSET else manifest.initial.path,
        "wall_s": 0.0 if state.training_since is None else now - state.training_since,
        "total_s": now - started_at,
        "received_bytes": progress.received_bytes,
        "sent_bytes": progress.sent_bytes,
        "gradient_received_bytes": progress.gradient_received_bytes,
        "bytes_per_gradient": per_gradient,
        "dense_bytes_per_gradient": dense_bytes,
        "compression": dense_bytes / per_gradient if per_gradient else None,
        "lag_mean_updates": progress.lags.mean,
        "lag_max_updates": progress.lags.largest,
        "target_version": state.publisher.published.target_version,
        "evaluations": progress.evaluations,
        "evaluated_best_mean": progress.evaluated_best_mean,
        "evaluated_best_version": progress.evaluated_best_version,
        "staleness_rule": state.settings.staleness_rule.name,
        "rulings": dict(progress.rulings),
        "faults": dict(progress.faults),
        "actor_faults": dict(progress.actor_faults),
        "math_s": progress.math_s,
        "advice": [each._asdict() for each in advice],
        "epoch": state.address.epoch,
        "sessions_granted": progress.sessions_granted,
        "versions": versions(),
        "host": host(),
    }
    return with_former(told, RENAMED_IN_RESULT)


def versions() -> dict[str, str]:
    """Versions of what can change a result, by distribution; torch is asked for without importing it."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"  # Farflung itself, run from a checkout
    return found


def host() -> dict[str, object]:
    """What the run had: cores that this process may use, and the kind of machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count()
    return {"cpus": usable, "machine": platform.machine(), "system": platform.system()}
