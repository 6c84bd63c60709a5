"""An evaluating actor and a learner, both real, over the wire's real bytes; the best θ goes to a real disk."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np

from actor import events as a
from actor.events import Identity
from actor.state import ActorState
from actor.stats import WorkerStats
from learner import events as l
from learner.apply_batch import apply_batch
from learner.config import Experiment, learner_settings
from learner.durability.checkpoint import Checkpoint, load_best, save_best
from learner.events import Job
from learner.optim.norms import NormCheck
from learner.optim.optimizers import make_optimizer
from learner.optim.parameters import Parameters, arrays_of
from learner.optim.staleness import age_rule
from learner.progress import Progress
from learner.state import Address, LearnerState
from learner.stream.writer import StreamWriter
from protocol import messages
from protocol.layout import Entry, Layout
from protocol.manifest import Manifest, digest_of
from protocol.moments import Moments

P = 3
LAYOUT = Layout((Entry("w", (P,)),))
JUDGE = b"judge"


class Pair:
    """One learner whose θ moves when the test says so, and one actor that evaluates it."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder, self.now = folder, 0.0
        settings = learner_settings({"anneal": "none", "learning_rate": 1.0})
        theta = np.zeros(P, np.float32)
        moments = Moments(4, np.full(2, 0.5), np.ones(2))
        self.parameters = Parameters(
            theta, 0, make_optimizer(settings, theta), age_rule(settings), NormCheck(1e6), LAYOUT, moments
        )
        manifest = Manifest(
            run="run",
            env="toy",
            seed=1,
            layout=LAYOUT,
            actor_table=b"\x80",
            actor_digest=digest_of(b"\x80"),
            created="",
        )
        self.stream = StreamWriter(self.parameters, budgeted=False)
        snapshot = self.stream.key_frame(1)
        self.learner = LearnerState(
            Experiment(learner=settings), manifest, Address(1, "*"), snapshot, progress, Random(0), self.now
        )
        self.actor = ActorState(Identity("judge", 5, "evaluate"), "learner", Random(1))
        self.adopted: list[a.Weights] = []
        self.told: list[str] = []
        self.to_actor(a.Started())
        self.to_actor(a.WorkerReady())

    def to_actor(self, event: a.Event) -> None:
        effects = self.actor.handle(event, self.now)
        self.actor.validate()
        for effect in effects:
            if isinstance(effect, a.Send):
                message, buffers = messages.decode(messages.encode(effect.message, effect.buffers))
                self.to_learner(l.MessageArrived(JUDGE, message, buffers, 0))
            elif isinstance(effect, a.Adopt):
                self.adopted.append(effect.weights)

    def to_learner(self, event: l.Event) -> None:
        for effect in self.learner.handle(event, self.now):
            if isinstance(effect, l.Send):
                self.to_actor(a.MessageArrived(*messages.decode(messages.encode(effect.message, effect.buffers))))
            elif isinstance(effect, l.WriteBest):
                record, buffers = effect.record
                kept = Checkpoint("m", record.version, 1, effect.counters, arrays_of(record, buffers), effect.score)
                self.to_learner(l.BestWritten(record.version, save_best(self.folder, kept)))
            elif isinstance(effect, l.Announce):
                self.told.append(effect.event)

    def learns(self) -> None:
        """One gradient of ones."""
        version = self.parameters.version
        job = Job(1, 1, version, "f32", P, P, np.ones(P, "<f4").tobytes(), None, 0.0)
        self.now += 1.0
        self.to_learner(apply_batch(self.parameters, self.stream, l.ApplyBatch([job], 1.0, version), 1))

    def scores(self, mean: float) -> None:
        """What the weights that the actor holds are worth."""
        held = self.adopted[-1]
        self.to_actor(a.EvaluationDone(held.version, 10, mean, 1.0, 0.6, 3, held.epoch))


def test_the_best_policy_is_on_disk_as_it_was_when_it_played(tmp_path: Path) -> None:
    pair = Pair(tmp_path, Progress())
    for mean in (10.0, 30.0, 20.0):
        pair.learns()  # while an evaluation is under way
        pair.scores(mean)
    assert [weights.version for weights in pair.adopted] == [0, 1, 2, 3]
    best = load_best(tmp_path)
    assert best is not None
    assert (best.version, best.score) == (1, {"episodes": 10, "mean": 30.0, "std": 1.0, "ci95": 0.6, "seed": 3})
    np.testing.assert_array_equal(best.arrays["theta"], pair.adopted[1].theta)
    np.testing.assert_array_equal(best.arrays["observations.mean"], [0.5, 0.5])
    assert pair.told.count("best_checkpoint") == 2
    assert pair.learner.progress.evaluations == 3
    assert pair.learner.training_since is None


def test_an_idle_learner_is_asked_again_and_the_same_weights_are_not_played_twice(tmp_path: Path) -> None:
    pair = Pair(tmp_path, Progress())
    pair.scores(10.0)
    for _ in range(8):
        pair.now += 0.5
        pair.to_actor(a.Ticked(WorkerStats()))
        pair.to_learner(l.Ticked())
    assert len(pair.adopted) == 1
    pair.learns()
    pair.now += 1.0
    pair.to_actor(a.Ticked(WorkerStats()))
    assert [weights.version for weights in pair.adopted] == [0, 1]


def test_a_resumed_run_does_not_overwrite_a_better_one(tmp_path: Path) -> None:
    pair = Pair(tmp_path, Progress())
    pair.scores(10.0)
    again = Pair(tmp_path, Progress.restored(pair.learner.progress.saved(), 0))
    again.learns()
    again.scores(9.0)
    best = load_best(tmp_path)
    assert best is not None
    assert best.score is not None
    assert best.score["mean"] == 10.0
