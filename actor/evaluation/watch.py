"""Shows or records greedy episodes, of a run on disk or of a live one. Knows scenes and files; no sockets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actor.algorithms.curriculum import last
from actor.algorithms.own import declared
from actor.config import read_settings
from actor.evaluation import checkpoints
from actor.evaluation.play import Player
from actor.evaluation.rendering import Mode, check_display, open_scene
from actor.evaluation.video import Recorder
from actor.events import Event, Weights, WeightsWanted
from actor.handoff import WorkerChannel, WorkerFactory
from protocol.codecs.registry import Floats
from protocol.layout import Layout
from protocol.messages import Welcome
from protocol.moments import Moments

NEWER_S = 2.0  # how long the next episode waits for newer weights before it is played with the same


@dataclass(frozen=True, slots=True)
class ViewingOptions:
    """What a person asked for. out: a recording instead of a window. fps: other than the environment's own."""

    episodes: int
    seed: int  # of the first episode; the next one's is one more
    max_steps: int  # where an episode is cut that does not end; >= 1
    fps: float | None
    allowed_modules: frozenset[str]
    out: Path | None = None

    @property
    def mode(self) -> Mode:
        """How the environment renders."""
        return "human" if self.out is None else "rgb_array"

    @contextlib.contextmanager
    def recorder(self) -> Iterator[Recorder | None]:
        """The recording, or None for a window. Raises UserError for a file, an extra or a display that is not there."""
        if self.out is None:
            check_display()
            yield None
            return
        with Recorder(self.out, self.fps) as recorder:
            yield recorder


@dataclass(frozen=True, slots=True)
class WatchedEpisode:
    """One episode. score: undiscounted sum of raw rewards. length: steps. version: of the θ that played.

    cut: whether it was stopped at the step limit.
    """

    number: int
    score: float
    length: int
    version: int
    cut: bool = False

    def __str__(self) -> str:
        cut = "  cut at the step limit" if self.cut else ""
        return f"episode {self.number}  return {self.score:.2f}  length {self.length}  version {self.version}{cut}"


Report = Callable[[WatchedEpisode], None]


class EpisodePlayer:
    """One scene and its player. Raises UserError as a worker does, and where nothing can be rendered."""

    def __init__(self, table: bytes, layout: Layout, viewing: ViewingOptions, recorder: Recorder | None) -> None:
        settings = last(read_settings(table, declared(viewing.allowed_modules)))
        self._scene = open_scene(settings, viewing.allowed_modules, viewing.mode, viewing.fps)
        try:
            self._player = Player(settings, self._scene.spaces, layout, viewing.allowed_modules)
        except BaseException:
            self.close()
            raise
        self._viewing, self._recorder = viewing, recorder
        if recorder is not None:
            recorder.fps = recorder.fps or self._scene.fps

    def episode(
        self,
        number: int,
        version: int,
        theta: Floats,
        moments: Moments | None,
        on_step: Callable[[int], None] = lambda _: None,
    ) -> WatchedEpisode:
        """Plays episode ``number``, from 1, with this θ. on_step: called after each step; what it raises ends it."""
        self._player.load(theta, moments)
        self._player.reset_memory(1)
        observation, starts = self._scene.reset(self._viewing.seed + number - 1), np.ones(1, np.bool_)
        self._record()
        score, length, over = 0.0, 0, False
        while not over and length < self._viewing.max_steps:
            observation, reward, over = self._scene.step(self._player.act(observation, starts, self._scene.masks))
            self._record()
            score, length, starts = score + reward, length + 1, np.zeros(1, np.bool_)
            on_step(1)
        return WatchedEpisode(number, score, length, version, cut=not over)

    def _record(self) -> None:
        if self._recorder is not None:
            self._recorder.add(self._scene.frame())

    def close(self) -> None:
        """Ends the environment and its window."""
        self._scene.close()


def watch(run_dir: Path, viewing: ViewingOptions, best: bool, report: Report) -> Recorder | None:
    """Episodes with the newest good checkpoint, or the best one. Returns the recording. Raises UserError."""
    manifest = checkpoints.read_manifest(run_dir)
    find = checkpoints.best if best else checkpoints.newest
    learnt = find(run_dir / "checkpoints")
    with (
        viewing.recorder() as recorder,
        contextlib.closing(EpisodePlayer(manifest.actor_table, manifest.layout, viewing, recorder)) as show,
    ):
        for number in range(1, viewing.episodes + 1):
            report(show.episode(number, learnt.version, learnt.theta, learnt.moments))
    return recorder


class Watcher:
    """What an actor that watches a live learner does in the place of training: each episode with the newest weights."""

    def __init__(self, show: EpisodePlayer, post: Callable[[Event], None], report: Report, episodes: int) -> None:
        self._show, self._post, self._report, self._episodes = show, post, report, episodes

    def run(self, channel: WorkerChannel, generation: int) -> None:
        """Until all episodes are played or the channel interrupts."""

        def on_step(steps: int) -> None:
            channel.count_steps(steps)
            channel.check(generation)

        weights: Weights | None = None
        for number in range(1, self._episodes + 1):
            weights = channel.newer_weights(weights, generation, NEWER_S)
            self._report(self._show.episode(number, weights.version, weights.theta, weights.moments, on_step))
            self._post(WeightsWanted())

    def close(self) -> None:
        """Ends the environment."""
        self._show.close()


def follow(
    serve: Callable[[WorkerFactory], int], viewing: ViewingOptions, report: Report
) -> tuple[int, Recorder | None]:
    """Watches a live learner. Returns the exit code and the recording. Raises UserError.

    serve: as in ``evaluate.follow``.
    """
    with viewing.recorder() as recorder:

        def make_watcher(welcome: Welcome, post: Callable[[Event], None]) -> Watcher:
            return Watcher(
                EpisodePlayer(welcome.table, welcome.layout, viewing, recorder), post, report, viewing.episodes
            )

        return serve(make_watcher), recorder
