"""Actors and a learner's mathematics in one process, in turns, with a lag of one's choice. No sockets, no threads.

What reaches θ is what would reach it over a network: the real worker, compressor, codec, admission, staleness rule and
optimizer, and nothing that depends on time. With one actor every gradient is late by exactly ``lag`` updates, once that
many were computed. A turn is a whole rollout with all its gradients, so with more actors the lags are a mix. Where they
are ``mixed``, a turn is one gradient of an actor that is drawn at random, and ``lag`` gradients of all of them are
under way: a fleet on a network. With 16 actors of one permit each that is a lag of 15.
``python -m tests.learning.turns EXPERIMENT SEED [--lag N] [--actors N] [--mixed] [TABLE.KEY=VALUE ...]`` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from actor.config import read_settings
from actor.events import Feedback, Settled, Weights, Work
from actor.handoff import Interrupted
from actor.initial import initial
from actor.stats import WorkerStats
from actor.worker import TrainingWorker
from learner.config import Experiment, actor_table
from learner.events import Job
from learner.launch.experiment_file import load
from learner.optim.norms import make_norm_check
from learner.optim.optimizers import make_optimizer
from learner.optim.parameters import Parameters
from learner.optim.staleness import age_rule
from learner.progress import Progress, learning_rate
from learner.stream.writer import StreamWriter
from protocol.messages import Welcome
from protocol.moments import Moments
from protocol.session import Sender
from protocol.shipped import named
from protocol.snapshot import Reconstruction

CURVE_STEPS = 2_000  # between points of a curve
TURN_S = 600.0  # nobody's turn takes longer
EACH = ("actor.local_steps=1", "actor.density=0.05")  # of a study whose lags count gradients: each is a message


@dataclass
class Run:
    """A learner's numbers. held: the newest that actors have of them, as the stream would give it.

    gradients, payload_bytes: handed in so far. spent_s: by all workers, once they are closed.
    """

    experiment: Experiment
    parameters: Parameters
    progress: Progress = field(default_factory=Progress)
    curve: list[tuple[int, float]] = field(default_factory=list)
    target: tuple[int, np.ndarray] | None = None
    target_at: int = 0
    held: Weights | None = None
    gradients: int = 0
    payload_bytes: int = 0
    spent_s: dict[str, float] = field(default_factory=lambda: {"collect": 0.0, "learn": 0.0, "compress": 0.0})

    def weights(self) -> Weights:
        """The newest: one snapshot of each version, for the ring of the staleness rules takes none twice."""
        if self.held is None or self.held.version != self.parameters.version:
            self.held = self._published()
        return self.held

    def _published(self) -> Weights:
        """A new snapshot, and the target network where the run has one."""
        settings, steps = self.experiment.learner, self.progress.env_steps
        record, buffers = StreamWriter(self.parameters, budgeted=False).key_frame(1)
        held = Reconstruction(record.layout, record.length)
        held.apply(record, buffers)
        interval = settings.target_interval_steps
        if interval is not None and (self.target is None or steps - self.target_at >= interval):
            self.target, self.target_at = (held.version, held.theta), steps
        version, theta = self.target if self.target is not None else (None, None)
        return Weights(1, held.version, held.theta, held.moments, steps, theta, version)

    def apply(self, work: Work, sender: Sender = "") -> int:
        """One gradient, as the learner would; how many updates late it was. sender: who has a vote of its norm."""
        report = work.report
        moments = (report.observations, work.moments) if report and work.moments else None
        job = Job(1, 1, work.base_version, work.codec, work.length, work.count, work.payload, moments, 0.0, sender)
        rate = learning_rate(self.experiment.learner, self.progress.env_steps)
        (outcome,) = self.parameters.apply([job], rate).outcomes
        self.progress.rulings[outcome.outcome] += 1
        self.progress.lags.observe(outcome.lag_updates)
        return outcome.lag_updates

    def record(self, work: Work) -> None:
        """The rollout that rides on a gradient."""
        if work.report is None:
            return
        self.progress.record(work.report)
        mean = self.progress.return_mean
        if mean is not None and self.progress.env_steps >= (self.curve[-1][0] if self.curve else 0) + CURVE_STEPS:
            self.curve.append((self.progress.env_steps, mean))


class LateLink:
    """A worker's channel: what is handed in is applied ``lag`` gradients later.

    travelling: what is handed in and not applied; of one actor, or of all. turn: waits for the next one.
    """

    def __init__(
        self, run: Run, lag: int, travelling: deque[tuple[LateLink, Work]], turn: Callable[[], None] = lambda: None
    ) -> None:
        self.stats = WorkerStats()
        self.share = 0.0  # nobody tells
        self._run, self._lag, self._travelling, self._turn = run, lag, travelling, turn
        self._feedback: list[Feedback] = []
        self._settled: list[Settled] = []

    def first_weights(self, generation: int) -> Weights:
        """GradientChannel.first_weights."""
        return self._run.weights()

    def newest(self) -> Weights:
        """GradientChannel.newest."""
        return self._run.weights()

    def await_permit(self, generation: int) -> None:
        """GradientChannel.await_permit: there is no end of them, but others may come first."""
        self._turn()

    @property
    def permits_left(self) -> int:
        """GradientChannel.permits_left: there is no end of them."""
        return 1

    def check(self, generation: int | None) -> None:
        """GradientChannel.check: nothing interrupts."""

    def hand_in(self, work: Work) -> None:
        """GradientChannel.hand_in."""
        self._run.gradients += 1
        self._run.payload_bytes += len(work.payload)
        self._run.record(work)
        self._travelling.append((self, work))
        while len(self._travelling) > self._lag:
            link, late = self._travelling.popleft()
            lag = self._run.apply(late)
            link._feedback.append(Feedback(None, lag, self._run.parameters.version))
            link._settled.append((late.decoded, self._run.parameters.version))

    def collect_feedback(self) -> list[Feedback]:
        """GradientChannel.collect_feedback: how late gradients were. How long they travelled is a matter of time."""
        found, self._feedback = self._feedback, []
        return found

    def collect_settled(self) -> list[Settled]:
        """GradientChannel.collect_settled."""
        found, self._settled = self._settled, []
        return found

    def collect_refused(self) -> list[Work]:
        """GradientChannel.collect_refused."""
        return []


class Baton:
    """Who works next, of workers in threads of their own: one at a time, drawn at random. Ends them all when asked."""

    def __init__(self, workers: int, seed: int) -> None:
        self._gates = [threading.Semaphore(0) for _ in range(workers)]
        self._random = Random(seed)
        self.over = threading.Event()

    def start(self) -> None:
        """The first turn."""
        self._random.choice(self._gates).release()

    def wait(self, number: int) -> None:
        """Waits for this worker's turn. Raises Interrupted once all is over."""
        if not self._gates[number].acquire(timeout=TURN_S):
            raise TimeoutError(f"worker {number} had no turn in {TURN_S:g} s")
        if self.over.is_set():
            raise Interrupted

    def turn(self, number: int) -> None:
        """Ends this worker's turn, and waits for its next."""
        self.start()
        self.wait(number)

    def end(self) -> None:
        """Lets everybody go."""
        self.over.set()
        for gate in self._gates:
            gate.release()


def begin(
    experiment: Experiment,
    actors: int,
    lag: int,
    baton: Baton | None = None,
    make_run: Callable[[Experiment, Parameters], Run] = Run,
) -> tuple[Run, list[tuple[TrainingWorker, LateLink]]]:
    """The run and its workers, none of which has stepped yet. With a baton all of them share what is under way."""
    table, settings = actor_table(experiment), experiment.learner
    first = initial(read_settings(table), experiment.run.seed, ())
    theta = np.array(first.theta, np.float32)
    moments = Moments.empty(first.observation_size) if first.observation_size else None
    optimizer = make_optimizer(settings, theta)
    rule = age_rule(settings)
    screen = make_norm_check(settings, first.layout.length)
    run = make_run(experiment, Parameters(theta, 0, optimizer, rule, screen, first.layout, moments))
    workers = []
    travelling: deque[tuple[LateLink, Work]] = deque()
    for ordinal in range(actors):
        welcome = Welcome(
            instance=1,
            run="turns",
            epoch=1,
            session=1,
            ordinal=ordinal,
            seed=experiment.run.seed,
            credit=lag + 1,
            heartbeat_s=1.0,
            silence_s=10.0,
            quantity=settings.quantity,
            weights="*",
            layout=first.layout,
            table=table,
            table_digest=bytes(8),
            anneal_steps=settings.annealing[0],
            anneal_floor=settings.annealing[1],
            learning_rate=settings.learning_rate,
        )
        worker = TrainingWorker(welcome, frozenset())
        link = LateLink(run, lag, deque())
        if baton is not None:
            link = LateLink(run, lag, travelling, partial(baton.turn, ordinal))
        workers.append((worker, link))
    return run, workers


def train(experiment: Experiment, actors: int = 2, lag: int = 0, over: Callable[[Run], bool] | None = None) -> Run:
    """Until the experiment's target or its step limit, or until ``over``, which is asked after every turn."""
    run, workers = begin(experiment, actors, lag)
    while not (over or done)(run):
        for worker, link in workers:
            worker.step(link, 0)
    return _closed(run, workers)


def _closed(run: Run, workers: Sequence[tuple[TrainingWorker, LateLink]]) -> Run:
    for worker, link in workers:
        for part in ("collect", "learn", "compress"):
            run.spent_s[part] += getattr(link.stats, f"{part}_s")
        worker.close()
    return run


def done(run: Run) -> bool:
    """Whether the experiment's target or its step limit is reached."""
    goal, limit = run.experiment.run.until_return, run.experiment.run.until_steps
    return run.progress.reached(goal) or (limit is not None and run.progress.env_steps >= limit)


def train_mixed(experiment: Experiment, actors: int, lag: int) -> Run:
    """As ``train``, one gradient of an actor drawn at random after the other."""
    baton = Baton(actors, experiment.run.seed)
    return train_by(baton, *begin(experiment, actors, lag, baton))


def train_by(baton: Baton, run: Run, workers: Sequence[tuple[TrainingWorker, LateLink]]) -> Run:
    """As ``train``, one gradient after the other, of whom the baton names."""
    failures: list[BaseException] = []

    def work(number: int, worker: TrainingWorker, link: LateLink) -> None:
        try:
            baton.wait(number)
            while not done(run):
                worker.step(link, 0)
        except Interrupted:
            pass
        except BaseException as error:
            failures.append(error)
        finally:
            baton.end()

    threads = [threading.Thread(target=work, args=(n, *pair), daemon=True) for n, pair in enumerate(workers)]
    for thread in threads:
        thread.start()
    baton.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return _closed(run, workers)


def main(arguments: Sequence[str] | None = None) -> None:
    """One run; its end as JSON."""
    parser = argparse.ArgumentParser("python -m tests.learning.turns", description=__doc__)
    parser.add_argument("experiment", help="a shipped name or a TOML file")
    parser.add_argument("seed", type=int)
    parser.add_argument("settings", nargs="*", metavar="TABLE.KEY=VALUE")
    parser.add_argument("--lag", type=int, default=0)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--mixed", action="store_true", help="a turn is one gradient of an actor drawn at random")
    asked = parser.parse_intermixed_args(arguments)
    file = Path(asked.experiment) if asked.experiment.endswith(".toml") else named(asked.experiment)
    experiment = load(file, [*asked.settings, f"run.seed={asked.seed}"], {})
    run = (train_mixed if asked.mixed else train)(experiment, asked.actors, asked.lag)
    progress = run.progress
    answer = {
        "solved": progress.reached(experiment.run.until_return),
        "env_steps": progress.env_steps,
        "return_mean_100": progress.return_mean,
        "best": progress.return_best_mean if np.isfinite(progress.return_best_mean) else None,
        "lag_mean_updates": progress.lags.mean,
        "rulings": dict(progress.rulings),
        "gradients": run.gradients,
        "bytes_per_gradient": run.payload_bytes / max(1, run.gradients),
        "compress_share": run.spent_s["compress"] / sum(run.spent_s.values()),
        "dense_bytes": 4 * run.parameters.theta.size,
        "curve": run.curve,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
