"""What a program that charts a run is asked for, and how a run's lines become that. Pure. No thread, no file, no clock.

A sink is called from one thread alone, in this order: start, scalars as often as there are any, end. It may raise and
it may take its time: that is its feed's worry (``feed.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from learner.monitoring.sinks.charts import Charts, Points


class Sink(Protocol):
    """One program."""

    def start(self, run: str, config: Mapping[str, Any], env_steps: int) -> None:
        """A life of the run begins. config: the experiment's tables. env_steps: that it goes on from."""

    def scalars(self, points: Points) -> None:
        """What is charted at one moment."""

    def end(self, result: Mapping[str, Any]) -> None:
        """The life has ended with this result.json, and nothing is held back any more."""


class NotStarted(Exception):
    """A sink that could not start has nothing to be told."""


class SinkFollower:
    """Hears a run's lines for one sink. earlier_s: asked once, when the life begins: of training in lives before."""

    def __init__(self, sink: Sink, config: Mapping[str, Any], earlier_s: Callable[[], float]) -> None:
        self._sink, self._config, self._earlier_s = sink, config, earlier_s
        self._charts: Charts | None = None
        self._env_steps = 0

    def __call__(self, said: Mapping[str, Any]) -> None:
        """One line of progress.jsonl."""
        event = said["event"]
        if "actor" in said and event != "evaluated":  # what actors say under a name of ours is not heard
            return
        if event == "started":
            self._sink.start(said["run"], self._config, said["env_steps"])
            self._charts = Charts(self._earlier_s())
        elif event in ("progress", "evaluated", "finished"):
            if self._charts is None:
                raise NotStarted("it was not started")
            if event == "finished":
                self._sink.end(said)
            elif (points := self._charts.read(said)) is not None:
                self._sink.scalars(points)
