"""What a program that charts a run is asked for, and how a run's lines become that. Pure. No thread, no file, no clock.

A sink is called from one thread alone, in this order: start, scalars as often as there are any, end. It may raise and
it may take its time: that is its feed's worry (``feed.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from learner.monitoring.sinks.charts import Charts, Points

RETRY_S = 30.0  # of the run, between attempts to start what could not: its server may come later


class Sink(Protocol):
    """One program. where: what it was told to tell, for people."""

    @property
    def where(self) -> str: ...

    def start(self, run: str, config: Mapping[str, Any], env_steps: int) -> None:
        """A life of the run begins. config: the experiment's tables. env_steps: that it goes on from."""

    def scalars(self, points: Points) -> None:
        """What is charted at one moment."""

    def end(self, result: Mapping[str, Any]) -> None:
        """The life has ended with this result.json, and nothing is held back any more."""


class NotStarted(Exception):
    """A sink that could not start has nothing to be told."""


class SinkFollower:
    """Hears a run's lines for one sink. earlier_s: asked once, when the life begins: of training in lives before.

    where: the sink's.
    """

    def __init__(self, sink: Sink, config: Mapping[str, Any], earlier_s: Callable[[], float]) -> None:
        self.where = sink.where
        self._sink, self._config, self._earlier_s = sink, config, earlier_s
        self._charts: Charts | None = None
        self._began: Mapping[str, Any] | None = None
        self._retry_unix_s: float | None = None  # None: not known yet

    def __call__(self, said: Mapping[str, Any]) -> None:
        """One line of progress.jsonl."""
        event = said["event"]
        if "actor" in said and event != "evaluated":  # what actors say under a name of ours is not heard
            return
        if event == "started":
            self._began = said
            self._start(said)
        elif event in ("progress", "evaluated", "finished"):
            charts = self._charts or self._start_late(said)
            if event == "finished":
                self._sink.end(said)
            elif (points := charts.read(said)) is not None:
                self._sink.scalars(points)

    def _start(self, began: Mapping[str, Any]) -> Charts:
        self._sink.start(began["run"], self._config, began["env_steps"])
        self._charts = Charts(self._earlier_s())
        return self._charts

    def _start_late(self, said: Mapping[str, Any]) -> Charts:
        """What could not start is tried again, from time to time. Raises NotStarted, or what the sink raises."""
        if self._began is None or said["event"] != "progress":
            raise NotStarted("it was not started")
        if self._retry_unix_s is None:
            self._retry_unix_s = said["unix_s"] + RETRY_S
        if said["unix_s"] < self._retry_unix_s:
            raise NotStarted("it was not started")
        self._retry_unix_s = None
        return self._start(self._began)
