"""MLflow: a run of its own for each life. Knows, late, mlflow, and its variables in the environment.

The experiment there is ``farflung``, or what MLFLOW_EXPERIMENT_NAME says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from learner.monitoring.sinks.charts import METRICS, Points
from learner.monitoring.sinks.reach import require_reachable, shown

EXPERIMENT = "farflung"
PARAMETERS = 100  # in one request, at most
CHARACTERS = 500  # of a parameter's value: what every release of theirs takes
LONGEST = 250  # characters of a name
STRANGE = re.compile(r"[^\w\-. :]")  # what a name must not have there; a slash would make a folder of it
REFUSED = "INVALID_PARAMETER_VALUE"  # their word for a name or a value that they do not take


class LeftOut(Exception):
    """Metrics that MLflow does not take, though it takes others. names: which. cause: in its words, of the first."""

    def __init__(self, names: list[str], cause: str) -> None:
        super().__init__(names, cause)
        self.names, self.cause = names, cause

    def __str__(self) -> str:
        return f"it does not take {', '.join(self.names)}, which is left out: {self.cause}"


class Names:
    """A name that MLflow takes for each of ours, and none for two: the later one has a number."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, name: str, head: str = "") -> str:
        """head: what it begins with and keeps."""
        if name not in self._given:
            plain = STRANGE.sub("_", name.removeprefix(head))
            plain = (plain if plain.strip(".") else "_" * len(plain))[: LONGEST - len(head) - 4]
            number, found = 1, head + plain
            while found in self._taken:
                number += 1
                found = f"{head}{plain} {number}"
            self._taken.add(found)
            self._given[name] = found
        return self._given[name]


class MlflowSink:
    """uri: of the tracking server, or of a file store. where: the same, for people."""

    def __init__(self, uri: str) -> None:
        self.where = shown(uri)
        self._uri = uri
        self._client: Any = None
        self._run_id = ""
        self._names, self._refused = Names(), set[str]()

    def start(self, run: str, config: Mapping[str, Any], env_steps: int) -> None:
        """Sink.start."""
        if self._uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer ones refuse what was not asked for
        require_reachable(self._uri)
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(tracking_uri=self._uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        tags = {"farflung.run": run, "farflung.from_env_steps": str(env_steps)}
        self._run_id = self._client.create_run(experiment, run_name=run, tags=tags).info.run_id
        names = Names()
        told = [Param(names.of(key), value[:CHARACTERS]) for key, value in _flat("", config)]
        for first in range(0, len(told), PARAMETERS):
            self._client.log_batch(self._run_id, params=told[first : first + PARAMETERS])

    def scalars(self, points: Points) -> None:
        """Sink.scalars. Raises LeftOut for what was not taken, once each; the rest is."""
        from mlflow.entities import Metric

        at_ms = int(1e3 * points.unix_s)
        told = {
            tag: Metric(self._name(tag), value, at_ms, points.env_steps)
            for tag, value in points.values.items()
            if tag not in self._refused
        }
        try:
            self._client.log_batch(self._run_id, metrics=[*told.values()])
        except Exception as error:
            if getattr(error, "error_code", "") != REFUSED:
                raise
            self._one_by_one(told)

    def end(self, result: Mapping[str, Any]) -> None:
        """Sink.end."""
        for name in ("solved", "exit_code", "return_mean_100", "version"):
            self._client.set_tag(self._run_id, f"farflung.{name}", str(result[name]))
        self._client.set_terminated(self._run_id, "FAILED" if result["exit_code"] == 1 else "FINISHED")

    def _name(self, tag: str) -> str:
        return self._names.of(tag, METRICS) if tag.startswith(METRICS) else tag

    def _one_by_one(self, told: Mapping[str, Any]) -> None:
        """Of a request that was refused nothing was taken, whichever of its metrics it was for."""
        causes: dict[str, str] = {}
        for tag, metric in told.items():
            try:
                self._client.log_batch(self._run_id, metrics=[metric])
            except Exception as error:
                if getattr(error, "error_code", "") != REFUSED:
                    raise
                causes[tag] = str(error)
        self._refused |= causes.keys()
        if causes:
            raise LeftOut([*causes], next(iter(causes.values())))


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings by their whole names: ("learner.credit", "2")."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", str(value)
