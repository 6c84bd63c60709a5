"""A learner and its actors under one virtual clock, with seeded faults. No threads, no sockets, no torch network.

Both state machines, θ, the desk and the compressor are the real ones; the worker is a toy that compresses random
numbers, and the shells are replaced by this file. After every event the books are checked. A run that breaks a promise
raises ``Broken``, which prints the seed and the last events of the peer involved.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np

from actor import events as a
from actor.compression import Compressor
from actor.desk import Desk
from actor.events import Identity
from actor.selection import make_choice
from actor.state import ActorState
from learner import events as l
from learner.batch import apply_batch
from learner.config import Experiment, LearnerSettings, RunSettings
from learner.optimizer import make_optimizer
from learner.parameters import Parameters
from learner.progress import Progress
from learner.state import Address, LearnerState, Stage, age_rule
from protocol import frames as framing
from protocol import messages
from protocol.codecs import CODECS, Sparse, codec
from protocol.errors import PeerFault
from protocol.layout import Entry, Layout
from protocol.manifest import Manifest, digest_of
from protocol.memory import Delivery, Faults, Network
from protocol.messages import Episode, Report, Verdict
from protocol.session import SPAN, Phase

P = 24
LAYOUT = Layout((Entry("w", (4, 5)), Entry("b", (4,))))
TICK_S = 0.25
BUILD_S = 0.3  # what an actor takes to build its simulators
LEARNER = b"learner"
STORY = 40  # events of the peer that a broken run prints


class Broken(AssertionError):
    """A promise was broken. seed: repeats the run. who: the peer involved. story: its last events."""

    def __init__(self, seed: int, now: float, who: str, what: str, story: Sequence[str]) -> None:
        super().__init__(seed, now, who, what)
        self.seed, self.now, self.who, self.what, self.story = seed, now, who, what, story

    def __str__(self) -> str:
        return "\n".join((f"seed {self.seed}, t = {self.now:.3f} s, {self.who}: {self.what}", *self.story))


@dataclass(frozen=True)
class Plot:
    """What a run is made of. Rates are events per virtual second in the whole world.

    exact: the numbers are small dyadic ones and the codec loses nothing, so the books must balance to the bit.
    """

    actors: int = 3
    faults: Faults = field(default_factory=lambda: Faults(delay_s=0.01, jitter_s=0.05))
    codec: str = "f32"
    settings: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    work_s: float = 0.3
    math_s: float = 0.02
    disk_s: float = 0.2
    disk_fails: float = 0.0
    partition_rate: float = 0.0
    actor_kill_rate: float = 0.0
    learner_kill_rate: float = 0.0
    clock_step_rate: float = 0.0

    @property
    def exact(self) -> bool:
        return self.codec == "f32"


def bad(seed: int) -> Plot:
    """A plot as bad as its seed says."""
    random = Random(seed)
    faults = Faults(
        delay_s=random.choice((0.0, 0.02, 0.3)),
        jitter_s=random.choice((0.0, 0.1, 1.0)),
        loss=random.choice((0.0, 0.02, 0.1)),
        duplicate=random.choice((0.0, 0.05, 0.3)),
        reorder=random.choice((0.0, 0.1)),
    )
    return Plot(
        actors=random.choice((1, 2, 3, 6)),
        faults=faults,
        codec=random.choice(("f32", "f32", "topk_i8", *CODECS)),
        settings={
            "optimizer": random.choice(("addition", "addition", "addition", "adam")),
            "credit": random.choice((1, 2, 4)),
            "most_credit": random.choice((1, 3, 16)),
            "silence_s": random.choice((2.0, 6.0)),
            "staleness_rule": random.choice(("accept", "scale", "gap", "compensate")),
            "full_lag_updates": 2,
            "max_lag_updates": random.choice((4, 1000)),
            "max_lag_s": random.choice((1.0, 60.0)),
            "publish_interval_s": random.choice((0.0, 0.0, 1.0)),
            "downlink_kbps": random.choice((None, None, 0.5, 2.0, "auto")),
            "target_interval_steps": random.choice((None, 20)),
            "checkpoint_interval_s": 3.0,
        },
        disk_fails=random.choice((0.0, 0.2)),
        partition_rate=random.choice((0.0, 0.1)),
        actor_kill_rate=random.choice((0.0, 0.05)),
        learner_kill_rate=random.choice((0.0, 0.05)),
        clock_step_rate=random.choice((0.0, 0.02)),
    )


Fate = Literal["under way", "restored", "gone"]


@dataclass
class Parcel:
    """One gradient as God sees it. number: (session, sequence), once it was sent."""

    number: tuple[int, int] | None = None
    fate: Fate = "under way"


class Actor:
    """One actor process: real state, desk and compressor; toy work."""

    def __init__(self, world: World, index: int, life: int) -> None:
        self.world, self.name, self.index = world, f"actor-{index}", index
        self.instance = f"{self.name}.{life}"
        random = Random(f"{world.seed} {self.instance}")
        self.state = ActorState(Identity(self.name, random.getrandbits(62) + 1), "learner", random)
        self.desk = Desk(lambda work: self.post(a.WorkDone(work)))
        self.rng = np.random.default_rng([world.seed, index, life])
        self.compressor: Compressor | None = None
        self.dials = 0
        self.link = b""
        self.generation = 0
        self.working = False
        self.exit_code: int | None = None
        self.dead = False
        self.computed = np.zeros(P)  # float64: the sum of all gradients
        self.given = np.zeros(P)  # float64: of what was handed in, less what was put back
        self.touched = True  # since it was last checked
        self.parcels: dict[int, Parcel] = {}  # by id of its payload
        self.works: list[a.Work] = []  # keeps ids unique
        self.restorable: dict[int, a.Work] = {}
        self.adopted: a.Weights | None = None
        self.told = 0  # the largest credit that this life was told
        self.order = (0, -1, -1)  # session, version and target's version of what was adopted last
        network = world.network
        network.subscribe(self.instance.encode(), LEARNER)
        self.post(a.Started())

    def post(self, event: a.Event) -> None:
        self.touched = True
        applied = self.state.applied
        effects = self.state.handle(event, self.world.now)
        for effect in effects:
            self.perform(effect)
        parcels = [self.parcels[id(effect.work.payload)] for effect in effects if isinstance(effect, a.Settle)]
        known = sum(parcel.number in self.world.applied for parcel in parcels)
        self.world.promise(self.state.applied - applied <= known, self.name, "it believes in more than was applied")

    def perform(self, effect: a.Effect) -> None:
        world = self.world
        if isinstance(effect, a.Dial):
            self.redial()
        elif isinstance(effect, a.Send):
            self.note_sent(effect.message)
            world.say(self.name, "->", effect.message)
            world.network.send(self.link, LEARNER, messages.encode(effect.message, effect.buffers), world.now)
        elif isinstance(effect, a.Configure):
            self.desk.configure(effect.welcome)
            world.later(BUILD_S, self.alive(self.built))
        elif isinstance(effect, a.Adopt):
            self.adopt(effect.weights)
        elif isinstance(effect, a.Settle):
            self.settled(effect)
        elif isinstance(effect, a.Permit):
            self.desk.permit(effect.credit)
        elif isinstance(effect, a.Announce):
            world.log(self.name, f"{effect.event} {effect.fields}")
        elif isinstance(effect, a.Finish):
            self.exit_code = effect.exit_code
            world.log(self.name, f"exits {effect.exit_code}")
            self.end()

    def adopt(self, weights: a.Weights) -> None:
        """Of this life of the learner, newer than any before in this session, and the learner's own bits."""
        welcome = self.state.welcome
        assert welcome is not None
        order = (welcome.session, weights.version, -1 if weights.target_version is None else weights.target_version)
        newer = self.order[0] != order[0] or self.order < order
        right = weights.epoch == welcome.epoch and newer
        self.world.promise(right, self.name, f"{(weights.epoch, weights.version)} adopted after {self.order}")
        self.world.check_weights(self.name, weights)
        self.order, self.adopted = order, weights
        self.desk.adopt(weights)

    def note_sent(self, message: messages.Message) -> None:
        if isinstance(message, messages.Gradient):
            assert self.state.outbox is not None
            assert self.state.welcome is not None
            work = self.state.outbox.unanswered[message.sequence].parcel
            here = (work.epoch, message.session) == (self.state.welcome.epoch, self.state.welcome.session)
            self.world.promise(here, self.name, f"{message.sequence} belongs to another life or session")
            self.parcels[id(work.payload)].number = (message.session, message.sequence)

    def redial(self) -> None:
        """A fresh socket: what was under way to the old one is never read."""
        if self.link:
            self.world.network.kill(self.link)
        self.dials += 1
        self.link = f"{self.instance}/{self.dials}".encode()
        if self.index in self.world.cut:
            self.world.network.partition(self.link, LEARNER)

    def end(self) -> None:
        self.dead = True
        self.world.network.kill(self.link)
        self.world.network.kill(self.instance.encode())

    def alive(self, action: Callable[[], None]) -> Callable[[], None]:
        return lambda: None if self.dead else action()

    # the worker

    def built(self) -> None:
        _, self.generation = self.desk.next_welcome(0)
        name = self.world.plot.codec
        self.compressor = Compressor(P, name, make_choice(codec(name), [(P,)], 0.2, 0, 1, 0), 1.0)
        self.post(a.WorkerReady())

    def tick(self) -> None:
        self.post(a.Ticked(self.desk.env_steps, self.desk.wait_s))
        if not self.dead:
            self.world.later(TICK_S, self.alive(self.tick))

    def begin(self) -> None:
        """Starts on a gradient if the desk would let a real worker go on."""
        desk = self.desk
        ready = self.compressor is not None and desk.newest() is not None and desk._unanswered < desk._credit
        if self.dead or self.working or not ready:
            return
        desk.await_permit(self.generation)
        self.working = True
        weights = desk.newest()
        assert weights is not None
        spread_s = self.world.plot.work_s * (0.5 + self.rng.random())
        self.world.later(spread_s, self.alive(lambda: self.finish(weights)))

    def finish(self, weights: a.Weights) -> None:
        compressor, desk = self.compressor, self.desk
        assert compressor is not None
        for work in desk.collect_refused():
            compressor.restore(work.decoded)
            self.given -= dense(self.restorable.pop(id(work)).decoded)
        gradient = (self.rng.integers(-8, 9, P) / 16).astype(np.float32)
        self.computed += gradient
        encoded = compressor.compress(gradient)
        desk.env_steps += 4
        episodes = (Episode(float(self.rng.integers(0, 10)), 4),) if self.rng.random() < 0.2 else ()
        work = a.Work(
            epoch=weights.epoch,
            base_version=weights.version,
            codec=compressor.codec.name,
            length=P,
            count=encoded.count,
            payload=encoded.buffer,
            decoded=encoded.decoded,
            report=Report(4, episodes),
        )
        self.works.append(work)
        self.given += dense(work.decoded)
        self.parcels[id(work.payload)] = Parcel()
        self.working = False
        desk.hand_in(work)

    def settled(self, effect: a.Settle) -> None:
        parcel = self.parcels[id(effect.work.payload)]
        world = self.world
        world.promise(parcel.fate == "under way", self.name, "a gradient was settled twice")
        parcel.fate = "restored" if effect.restore else "gone"
        if effect.restore:
            world.promise(parcel.number not in world.applied, self.name, f"{parcel.number} was applied and restored")
            self.restorable[id(effect.work)] = effect.work
        self.desk.settle(effect.work, effect.restore)

    # promises

    def check(self) -> None:
        world, desk, box = self.world, self.desk, self.state.outbox
        unanswered = len(box.unanswered) if box is not None else 0
        world.promise(desk._unanswered >= 0, self.name, "a permit below zero")
        world.promise(desk._unanswered == unanswered, self.name, f"{desk._unanswered} permits, {unanswered} unanswered")
        if box is not None:
            most = self.told
            world.promise(unanswered <= most, self.name, f"{unanswered} unanswered, at most {most} were granted")
            oldest = next(iter(box.unanswered), box.next_sequence)
            world.promise(box.next_sequence - oldest <= SPAN * most, self.name, "the window is too wide")
        world.promise(len(desk._refused) == len(self.restorable), self.name, "a refused gradient went missing")
        self.check_books()

    def check_books(self) -> None:
        """All that was computed was handed in (applied, under way, lost, or waiting to be put back) or is residual."""
        if self.compressor is None:
            return
        error = float(np.abs(self.compressor.residual + self.given - self.computed).max())
        bound = 0.0 if self.world.plot.exact else 1e-4
        self.world.promise(error <= bound, self.name, f"the residual is off by {error}")


class World:
    """Everything there is. ``run`` lets time pass; ``calm`` ends all faults first."""

    def __init__(self, seed: int, plot: Plot) -> None:
        self.seed, self.plot, self.now = seed, plot, 0.0
        self.random = Random(seed)
        self.network = Network(seed, plot.faults)
        self.events = 0
        self.book: list[tuple[float, str, object]] = []  # turned into text only if somebody asks
        self.cut: set[int] = set()
        self.applied: dict[tuple[int, int], int] = {}  # (session, sequence) -> version that it made
        self.rulings: dict[tuple[int, int], messages.Ruling] = {}
        self.digests: dict[tuple[int, int], bytes] = {}  # (epoch, version) -> θ
        self.targets: set[tuple[int, int]] = set()  # (epoch, version) that were the target network
        self.lives: defaultdict[int, int] = defaultdict(int)
        self.trouble = True
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._n = 0
        self.settings = LearnerSettings(**{"anneal": "none", "learning_rate": 2.0**-6, **plot.settings})
        self.most_credit = max(self.settings.credit, self.settings.most_credit)
        self.disk: tuple[int, dict[str, np.ndarray], dict[str, int | float]] | None = None
        self.epoch = 0
        self.exit_code: int | None = None
        self.start_learner()
        self.actors = [self.new_actor(index) for index in range(plot.actors)]
        self.later(TICK_S, self.tick_learner)
        for rate, drama in (
            (plot.partition_rate, self.partition),
            (plot.actor_kill_rate, self.kill_actor),
            (plot.learner_kill_rate, self.kill_learner),
            (plot.clock_step_rate, self.step_clock),
        ):
            if rate:
                self.recur(rate, drama)

    # time

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._n += 1
        heapq.heappush(self._agenda, (self.now + delay_s, self._n, action))

    def recur(self, rate: float, drama: Callable[[], None]) -> None:
        def happen() -> None:
            if self.trouble:
                drama()
                self.recur(rate, drama)

        self.later(self.random.expovariate(rate), happen)

    def run(self, events: int) -> None:
        """The next so many events, each followed by every check."""
        for _ in range(events):
            self.step()

    def run_for(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.step()

    def calm(self, seconds: float) -> None:
        """Ends every fault and lets time pass."""
        self.trouble = False
        self.network.faults = Faults(delay_s=0.01)
        for index in list(self.cut):
            self.heal(index)
        self.run_for(seconds)

    def step(self) -> None:
        arrives = self.network.next_time()
        if arrives is not None and arrives <= self._agenda[0][0]:
            self.now = max(self.now, arrives)
            for delivery in self.network.due(arrives):
                self.deliver(delivery)
        else:
            time_s, _, action = heapq.heappop(self._agenda)
            self.now = max(self.now, time_s)
            action()
        for actor in self.actors:
            actor.begin()
        self.events += 1
        self.check()

    def log(self, who: str, what: object) -> None:
        self.book.append((self.now, who, what))

    def say(self, who: str, arrow: str, message: messages.Message) -> None:
        self.log(who, (arrow, message))

    # the network

    def deliver(self, delivery: Delivery) -> None:
        if delivery.destination == LEARNER:
            if self.up:
                self.hear(delivery)
            return
        name = delivery.destination.decode()
        for actor in self.actors:
            if not actor.dead and name in (actor.instance, actor.link.decode()):
                event = self.read(delivery.frames)
                if delivery.stream == "weights" and actor.index in self.cut:
                    return
                if isinstance(event, a.MessageArrived):
                    self.say(actor.name, "<-", event.message)
                    actor.told = max(actor.told, getattr(event.message, "credit", 0))
                    self.check_verdict(actor.name, event.message)
                actor.post(event)

    def read(self, frames: Sequence[bytes]) -> a.MessageArrived | a.FaultArrived:
        try:
            framing.check(frames)
            return a.MessageArrived(*messages.decode(frames))
        except PeerFault as fault:
            return a.FaultArrived(fault)

    # the learner

    def start_learner(self) -> None:
        """A new life, from the last checkpoint."""
        self.epoch += 1
        self.up = True
        theta = np.zeros(P, np.float32)
        optimizer = make_optimizer(self.settings, theta)
        rule, bound = age_rule(self.settings), self.settings.norm_bound
        self.parameters = Parameters(theta, 0, optimizer, rule, bound, LAYOUT)
        progress = Progress()
        if self.disk is not None:
            version, arrays, counters = self.disk
            self.parameters.restore(version, arrays)
            progress = Progress.restored(dict(counters), version)
        self.digests[self.epoch, self.parameters.version] = theta.tobytes()
        table = b"\x80"
        manifest = Manifest(
            run="run", env="toy", seed=1, layout=LAYOUT, actor_table=table, actor_digest=digest_of(table), created=""
        )
        self.state = LearnerState(
            Experiment(run=RunSettings(**self.plot.run), learner=self.settings),
            manifest,
            Address(self.epoch, "*"),
            self.parameters.snapshot(self.epoch),
            progress,
            Random(f"{self.seed} learner {self.epoch}"),
            self.now,
        )
        self.note_target()
        self.math: deque[Callable[[], None]] = deque()
        self.version_seen = self.parameters.version
        self.log("learner", f"begins life {self.epoch} at version {self.version_seen}")

    def tick_learner(self) -> None:
        if self.up:
            self.post(l.Ticked())
        self.later(TICK_S, self.tick_learner)

    def hear(self, delivery: Delivery) -> None:
        try:
            framing.check(delivery.frames)
            message, buffers = messages.decode(delivery.frames)
        except PeerFault as fault:
            self.post(l.FaultArrived(delivery.source, fault, 0))
            return
        self.post(l.MessageArrived(delivery.source, message, buffers, sum(map(len, delivery.frames))))

    def post(self, event: l.Event) -> None:
        effects = self.state.handle(event, self.now)
        self.note_target()
        for effect in effects:
            self.perform(effect)

    def note_target(self) -> None:
        if self.state.publication.shelf.target_version is not None:
            self.targets.add((self.epoch, self.state.publication.shelf.target_version))

    def perform(self, effect: l.Effect) -> None:
        if isinstance(effect, l.Send):
            self.check_told(effect.message)
            self.network.send(LEARNER, effect.route, messages.encode(effect.message, effect.buffers), self.now)
        elif isinstance(effect, l.Publish):
            self.network.publish(LEARNER, messages.encode(effect.message, effect.buffers), self.now)
        elif isinstance(effect, l.ApplyBatch):
            self.submit(lambda: self.apply(effect))
        elif isinstance(effect, l.WriteCheckpoint):
            self.submit(lambda: self.copy(effect.counters))
        elif isinstance(effect, l.Announce):
            self.log("learner", f"{effect.event} {effect.fields}")
        elif isinstance(effect, l.Finish):
            self.exit_code = effect.exit_code
            self.end_learner()

    def of_this_life(self, action: Callable[[], None]) -> Callable[[], None]:
        epoch = self.epoch
        return lambda: action() if self.up and self.epoch == epoch else None

    def submit(self, job: Callable[[], None]) -> None:
        """The math thread: one job at a time, in order."""
        self.math.append(job)
        if len(self.math) == 1:
            self.later(self.plot.math_s, self.of_this_life(self.work))

    def work(self) -> None:
        self.math[0]()
        self.math.popleft()
        if self.math:
            self.later(self.plot.math_s, self.of_this_life(self.work))

    def apply(self, order: l.ApplyBatch) -> None:
        event = apply_batch(self.parameters, order, self.epoch)
        lags_s = {(job.session, job.sequence): job.lag_s for job in order.jobs}
        for outcome in event.outcomes:
            number = (outcome.session, outcome.sequence)
            self.log("learner", outcome)
            if outcome.outcome != "applied":
                continue
            self.promise(number not in self.applied, "learner", f"{number} was applied twice")
            self.applied[number] = outcome.version
            young = outcome.lag_updates <= self.settings.max_lag_updates and lags_s[number] <= self.settings.max_lag_s
            self.promise(young, "learner", f"{number} was too old: {outcome.lag_updates}, {lags_s[number]} s")
        self.digests[self.epoch, self.parameters.version] = self.parameters.published.tobytes()
        record_s = 0.001 if event.record is not None else 0.0
        self.post(replace(event, math_s=self.plot.math_s, record_s=record_s, key_s=0.001 if order.key else 0.0))

    def copy(self, counters: dict[str, int | float]) -> None:
        kept = (self.parameters.version, self.parameters.checkpoint_arrays(), counters)
        self.later(self.plot.disk_s, self.of_this_life(lambda: self.written(kept)))

    def written(self, kept: tuple[int, dict[str, np.ndarray], dict[str, int | float]]) -> None:
        if self.random.random() < self.plot.disk_fails:
            self.post(l.CheckpointFailed(kept[0], "the disk is full"))
            return
        self.disk = kept
        self.post(l.CheckpointWritten(kept[0], Path("checkpoint")))

    def end_learner(self) -> None:
        self.up = False
        if self.exit_code is None:
            self.network.kill(LEARNER)
        self.log("learner", f"is gone, exit code {self.exit_code}")

    # drama

    def new_actor(self, index: int) -> Actor:
        self.lives[index] += 1
        actor = Actor(self, index, self.lives[index])
        self.later(self.random.random() * TICK_S, actor.alive(actor.tick))
        return actor

    def partition(self) -> None:
        index = self.random.randrange(self.plot.actors)
        if index in self.cut:
            return
        self.cut.add(index)
        self.log(self.actors[index].name, "is cut off")
        self.network.partition(self.actors[index].link, LEARNER)
        self.later(self.random.uniform(0.2, 12.0), lambda: self.heal(index))

    def heal(self, index: int) -> None:
        self.cut.discard(index)
        self.log(self.actors[index].name, "is connected")
        self.network.heal(self.actors[index].link, LEARNER)

    def kill_actor(self) -> None:
        index = self.random.randrange(self.plot.actors)
        self.log(self.actors[index].name, "is killed")
        self.actors[index].end()
        self.actors[index] = self.new_actor(index)

    def kill_learner(self) -> None:
        if not self.up:
            return
        self.end_learner()

        def revive() -> None:
            self.network.revive(LEARNER)
            self.start_learner()

        self.later(self.random.uniform(0.1, 8.0), revive)

    def step_clock(self) -> None:
        """Everybody slept."""
        self.now += self.random.uniform(0.5, 30.0)
        self.log("learner", "the clock stepped")

    # promises

    def promise(self, kept: bool, who: str, what: str) -> None:
        if not kept:
            told = [f"  {now:9.3f} {name:9} {text}" for now, name, text in self.book if name in (who, "learner")]
            raise Broken(self.seed, self.now, who, what, told[-STORY:])

    def check(self) -> None:
        for actor in self.actors:
            if actor.touched and not actor.dead:
                actor.check()
            actor.touched = False
        version = self.parameters.version
        self.promise(version >= self.version_seen, "learner", "the version went back")
        self.promise(self.state.progress.updates <= version, "learner", "the state is ahead of θ")
        self.version_seen = version
        self.promise(bool(np.isfinite(self.parameters.theta).all()), "learner", "θ is not finite")
        waiting: defaultdict[int, int] = defaultdict(int)
        for job in self.state.pending:
            waiting[job.session] += 1
        most = max(waiting.values(), default=0)
        self.promise(most <= self.most_credit, "learner", f"{most} gradients of one session wait")
        for peer in self.state.peers.values():
            self.promise(len(peer.ledger.pending) <= self.most_credit, "learner", "a ledger is overdrawn")
            self.promise(len(peer.ledger.rulings) <= 2 * SPAN * self.most_credit, "learner", "a ledger grew")

    def check_weights(self, who: str, weights: a.Weights) -> None:
        held = self.digests.get((weights.epoch, weights.version))
        same = held == weights.theta.tobytes()
        self.promise(same, who, f"other bits than were published at epoch {weights.epoch}, version {weights.version}")
        wanted = self.settings.target_interval_steps is not None
        self.promise(wanted == (weights.target is not None), who, "a target network too many or too few")
        if weights.target is None or weights.target_version is None:
            return
        held = self.digests.get((weights.epoch, weights.target_version))
        self.promise(held == weights.target.tobytes(), who, f"other bits than target {weights.target_version}")
        named = (weights.epoch, weights.target_version) in self.targets
        self.promise(named, who, f"version {weights.target_version} never was the target")

    def check_told(self, message: messages.Message) -> None:
        """A number has one fate, however often it is told."""
        if not isinstance(message, Verdict):
            return
        for ruling in message.rulings:
            number = (message.session, ruling.sequence)
            told = self.rulings.setdefault(number, ruling)
            forgotten = ruling.outcome == "duplicate"
            self.promise(told == ruling or forgotten, "learner", f"{number} was ruled {told}, then {ruling}")

    def check_verdict(self, who: str, message: messages.Message) -> None:
        if not isinstance(message, Verdict):
            return
        for ruling in message.rulings:
            if ruling.outcome == "applied":
                made = self.applied.get((message.session, ruling.sequence))
                self.promise(made == ruling.version, who, f"{ruling} told, but {made} applied")

    def check_alive(self) -> None:
        """After a calm: everybody works, with weights of this life that are not old."""
        self.promise(self.up and self.state.stage is Stage.RUNNING, "learner", "it does not run")
        newest = self.state.publication.version
        for actor in self.actors:
            self.promise(actor.state.phase is Phase.ACTIVE, actor.name, f"it is {actor.state.phase.value}")
            held = actor.adopted
            fresh = held is not None and held.epoch == self.epoch and newest - held.version <= 4 * self.plot.actors + 4
            self.promise(fresh, actor.name, f"it holds {held and (held.epoch, held.version)} of {newest}")
            assert held is not None
            fresh = actor.state.weights is not None and held.target_version == actor.state.weights.target
            self.promise(fresh, actor.name, f"its target is {held.target_version}")
            assert actor.state.welcome is not None
            peer = self.state.peers.get(actor.state.welcome.session)
            self.promise(peer is not None and peer.gradients > 0, actor.name, "nothing of it was judged")


def dense(value: np.ndarray | Sparse) -> np.ndarray:
    """float64 [P]."""
    return (value.dense() if isinstance(value, Sparse) else value).astype(np.float64)
