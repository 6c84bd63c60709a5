"""MLflow: a run of its own for each life. Knows, late, mlflow, and its variables in the environment.

The experiment there is ``farflung``, or what MLFLOW_EXPERIMENT_NAME says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from learner.monitoring.sinks.charts import Points

EXPERIMENT = "farflung"
PARAMETERS = 100  # in one request, at most
CHARACTERS = 500  # of a parameter's value: what every release of theirs takes
STRANGE = re.compile(r"[^\w\-. :/]")  # what the name of a metric must not have there


class MlflowSink:
    """uri: of the tracking server, or of a file store."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client: Any = None
        self._run_id = ""

    def start(self, run: str, config: Mapping[str, Any], env_steps: int) -> None:
        """Sink.start."""
        if self._uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer ones refuse what was not asked for
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(tracking_uri=self._uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        tags = {"farflung.run": run, "farflung.from_env_steps": str(env_steps)}
        self._run_id = self._client.create_run(experiment, run_name=run, tags=tags).info.run_id
        told = [Param(key, value[:CHARACTERS]) for key, value in _flat("", config)]
        for first in range(0, len(told), PARAMETERS):
            self._client.log_batch(self._run_id, params=told[first : first + PARAMETERS])

    def scalars(self, points: Points) -> None:
        """Sink.scalars."""
        from mlflow.entities import Metric

        at_ms = int(1e3 * points.unix_s)
        told = [Metric(STRANGE.sub("_", tag), value, at_ms, points.env_steps) for tag, value in points.values.items()]
        self._client.log_batch(self._run_id, metrics=told)

    def end(self, result: Mapping[str, Any]) -> None:
        """Sink.end."""
        for name in ("solved", "exit_code", "return_mean_100", "version"):
            self._client.set_tag(self._run_id, f"farflung.{name}", str(result[name]))
        self._client.set_terminated(self._run_id, "FAILED" if result["exit_code"] == 1 else "FINISHED")


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings by their whole names: ("learner.credit", "2")."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{STRANGE.sub('_', key)}.", value)
        else:
            yield f"{prefix}{STRANGE.sub('_', key)}", str(value)
