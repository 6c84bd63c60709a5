"""A learner and its actors under one virtual clock, with seeded faults. No threads, no sockets, no torch network.

Both state machines, θ, the channel, the compressor, checkpoints and the journal are the real ones; the worker is a toy
that compresses random numbers, the disk is memory that a power loss empties of what was not synced, and the shells are
replaced by this file. After every event both states validate themselves, ``own_weights`` compares what actors with
local steps believe to what is so, and ``check_history`` looks at the whole. A run that breaks a promise raises
``Broken``, which prints the seed and the last events of who is involved.
"""

from __future__ import annotations

import errno
import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np

from actor import events as a
from learner import events as l
from learner.admission.shares import LEAST, TELLING
from learner.apply_batch import apply_batch
from learner.config import Adam, Experiment, LearnerSettings, NoRule, RunSettings, learner_settings
from learner.durability.checkpoint import Checkpoint, load
from learner.durability.journal import bases, read
from learner.durability.journal_replay import JournalReplay
from learner.durability.recovery import RunFiles, make_parameters, open_journal, restore
from learner.durability.storage import RunStorage
from learner.optim.parameters import Parameters
from learner.shutdown import Stage
from learner.state import Address, LearnerState
from learner.stream.writer import StreamWriter
from protocol import frames as framing
from protocol import messages
from protocol.errors import TRY_AGAIN, PeerFault, Reason, UserError
from protocol.manifest import Manifest, digest_of
from protocol.messages import Verdict
from protocol.session import Phase
from protocol.transport.memory import Delivery, Faults, Network
from tests.disk import MemoryDisk
from tests.simulation.actors import LAYOUT, LEARNER, Actor, P
from tests.simulation.history import Acked, Applied, Began, Operation, Told, check
from tests.simulation.plot import Plot, bad, crowd

__all__ = ["Broken", "P", "Plot", "World", "bad", "crowd"]

CROWD = 32  # actors, above which not everybody is looked at after each event
NEW_RATE = 0.5  # share of the learner's lives that begin with a rate of their own
REST_S = 200.0  # until the last of what was applied is told, where a budget bounds the stream and nothing follows
STORY = 40  # events of the peer that a broken run prints
MANIFEST = "ab" * 8
RUN = Path("/run")
# A learner that continues is what worlds were about before it could stop.
USUAL = {"anneal": "none", "learning_rate": 2.0**-6, "on_journal_failure": "continue"}


def drawn(table: dict[str, Any]) -> LearnerSettings:
    """What a plot drew: not all of it is read, and the journal may be smaller than people may ask for."""
    settings = learner_settings({name: value for name, value in table.items() if name != "journal_bytes"}, kept=True)
    if settings.journal is None or "journal_bytes" not in table:
        return settings
    journal = msgspec.structs.replace(settings.journal, journal_bytes=table["journal_bytes"])
    return msgspec.structs.replace(settings, durability=journal)


class Died(BaseException):
    """The learner, within an operation of its disk."""


class Broken(AssertionError):
    """A promise was broken. seed: repeats the run. who: the peer involved. story: its last events."""

    def __init__(self, seed: int, now: float, who: str, what: str, story: Sequence[str]) -> None:
        super().__init__(seed, now, who, what)
        self.seed, self.now, self.who, self.what, self.story = seed, now, who, what, story

    def __str__(self) -> str:
        return "\n".join((f"seed {self.seed}, t = {self.now:.3f} s, {self.who}: {self.what}", *self.story))


def blank_toy(settings: LearnerSettings) -> Parameters:
    """θ at zero."""
    return make_parameters(settings, np.zeros(P, np.float32), LAYOUT, 0)


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
        self.handed_in: dict[tuple[int, int], np.ndarray] = {}  # what each was, float64 [P]
        self.rulings: dict[tuple[int, int], messages.Ruling] = {}
        self.digests: dict[tuple[int, int], bytes] = {}  # (epoch, version) -> θ
        self.rates: dict[int, float] = {}  # epoch -> learning rate
        self.targets: set[tuple[int, int]] = set()  # (epoch, version) that were the target network
        self.lives: defaultdict[int, int] = defaultdict(int)
        self.history: list[Operation] = []
        self.names: dict[str, Actor] = {}  # whose an endpoint is
        self.touched: dict[str, Actor] = {}  # since the last check
        self.resting = False  # nobody begins on a gradient
        self.trouble = False  # the first life begins on a sound disk
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._n = 0
        self.settings = drawn({**USUAL, **plot.settings})
        self.most_credit = max(self.settings.credit, self.settings.most_credit)
        self.disk = MemoryDisk(self.pass_point)
        self.saved: int | None = None  # version of the newest checkpoint
        self.clock_s = self.random.uniform(0.0, 1e6) if plot.skewed else 0.0  # the learner's lead
        self.asleep_until = 0.0
        self.epoch = 0
        self.exit_code: int | None = None
        self.start_learner()
        self.trouble = True
        self.actors = [self.new_actor(index) for index in range(plot.actors)]
        self.later(plot.tick_s, self.tick_learner)
        for rate, drama in (
            (plot.partition_rate, self.partition),
            (plot.actor_kill_rate, self.kill_actor),
            (plot.actor_leave_rate, self.dismiss_actor),
            (plot.pause_rate, self.pause),
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

    def rest(self) -> None:
        """After a calm: actors finish what they are at, hand in what they have, and see what there is to see."""
        self.resting = True
        for actor in self.actors:
            if actor.own is not None:
                actor.own.rollout_over = actor.own.local.steps > 0
        until = self.now + REST_S
        while self.now < until:
            self.run_for(5.0)
            if all(self.sees_all(actor) for actor in self.settled()):
                return

    def step(self) -> None:
        arrives = self.network.next_time()
        if arrives is not None and arrives <= self._agenda[0][0]:
            self.now = max(self.now, arrives)
            for delivery in self.network.due(arrives):
                self.dares(partial(self.deliver, delivery))
        else:
            time_s, _, action = heapq.heappop(self._agenda)
            self.now = max(self.now, time_s)
            self.dares(action)
        for actor in list(self.touched.values()):
            actor.begin()
        self.events += 1
        self.check()

    def dares(self, action: Callable[[], None]) -> None:
        """What may end the learner, wherever it is."""
        try:
            action()
        except Died:
            self.kill_learner()

    def log(self, who: str, what: object) -> None:
        self.book.append((self.now, who, what))

    def say(self, who: str, arrow: str, message: messages.Message) -> None:
        self.log(who, (arrow, message))

    # the network

    def deliver(self, delivery: Delivery) -> None:
        if delivery.destination == LEARNER:
            self.of_this_life(lambda: self.hear(delivery))()
            return
        actor = self.names.get(delivery.destination.decode())
        if actor is not None and not (delivery.stream == "weights" and actor.index in self.cut):
            actor.alive(lambda: self.tell(actor, delivery))()

    def tell(self, actor: Actor, delivery: Delivery) -> None:
        if self.names.get(delivery.destination.decode()) is not actor:
            return  # it has hung up meanwhile
        event = self.read(delivery.frames)
        if isinstance(event, a.MessageArrived):
            self.say(actor.name, "<-", event.message)
            self.check_verdict(actor.name, event.message)
        actor.post(event)

    def touch(self, actor: Actor) -> None:
        self.touched[actor.instance] = actor

    def read(self, frames: Sequence[bytes]) -> a.MessageArrived | a.FaultArrived:
        try:
            framing.check(frames)
            return a.MessageArrived(*messages.decode(frames))
        except PeerFault as fault:
            return a.FaultArrived(fault)

    # the learner

    def start_learner(self) -> None:
        """A new life, from what is on disk; as a supervisor would, again and again where it cannot begin."""
        self.epoch += 1
        self.up = True
        if isinstance(self.settings.optimizer, Adam) and self.epoch > 1:  # as a person may ask for when a run goes on
            self.settings = msgspec.structs.replace(self.settings, optimizer=Adam(beta1=self.random.choice((0.5, 0.9))))
        self.draw_rate()
        files = RunFiles(
            RUN / "checkpoints",
            RUN / "journal",
            MANIFEST,
            lambda *told: self.log("learner", told),
            self.disk,
            self.plot.segment_bytes,
        )
        self.parameters = make_parameters(self.settings, np.zeros(P, np.float32), LAYOUT, 0)
        journal = None
        try:
            restored = restore(self.parameters, self.settings, blank_toy, files)
            if self.settings.journal is not None:
                journal = open_journal(self.parameters, restored, self.settings, files, self.epoch)
        except UserError as error:
            self.log("learner", f"cannot begin life {self.epoch}: {error}")
            self.up = False
            self.later(1.0, self.revive_learner)
            return
        self.store = RunStorage(files, self.settings, journal)
        self.digests[self.epoch, self.parameters.version] = self.parameters.theta.tobytes()
        self.history.append(Began(self.epoch, self.parameters.version, self.parameters.digest()))
        self.stream = StreamWriter(self.parameters, budgeted=self.settings.downlink_kbps is not None)
        table = b"\x80"
        manifest = Manifest(
            run="run", env="toy", seed=1, layout=LAYOUT, actor_table=table, actor_digest=digest_of(table), created=""
        )
        self.state = LearnerState(
            Experiment(run=RunSettings(**self.plot.run), learner=self.settings),
            manifest,
            Address(self.epoch, "*"),
            self.stream.key_frame(self.epoch),
            restored.progress,
            Random(f"{self.seed} learner {self.epoch}"),
            self.now + self.clock_s,
        )
        self.note_target()
        self.math: deque[Callable[[], None]] = deque()
        self.version_seen = self.parameters.version
        self.log("learner", f"begins life {self.epoch} at version {self.version_seen}")

    def draw_rate(self) -> None:
        """A run may go on with another; with local steps, which need to know it."""
        random = Random(f"{self.seed} rate of life {self.epoch}")
        if self.plot.steps_locally and self.epoch > 1 and random.random() < NEW_RATE:
            rate = random.choice((2.0**-7, 2.0**-6, 2.0**-5))
            self.settings = msgspec.structs.replace(self.settings, learning_rate=rate)
        self.rates[self.epoch] = self.settings.learning_rate

    def revive_learner(self) -> None:
        self.network.revive(LEARNER)
        self.start_learner()

    def pass_point(self, name: str) -> None:
        """The disk is about to do something."""
        if self.trouble and self.random.random() < self.plot.disk_kills:
            self.log("learner", f"dies at {name}")
            raise Died
        if self.trouble and self.random.random() < self.plot.disk_fails:
            raise OSError(errno.ENOSPC, "No space left on device")

    def tick_learner(self) -> None:
        if self.up:
            self.of_this_life(lambda: self.post(l.Ticked()))()
        self.later(self.plot.tick_s, self.tick_learner)

    def hear(self, delivery: Delivery) -> None:
        try:
            framing.check(delivery.frames)
            message, buffers = messages.decode(delivery.frames)
        except PeerFault as fault:
            self.post(l.FaultArrived(delivery.source, fault, 0))
            return
        self.post(l.MessageArrived(delivery.source, message, buffers, sum(map(len, delivery.frames))))

    def post(self, event: l.Event) -> None:
        effects = self.state.handle(event, self.now + self.clock_s)
        self.note_target()
        self.check_state(event)
        for effect in effects:
            self.perform(effect)

    def note_target(self) -> None:
        if self.state.publisher.published.target_version is not None:
            self.targets.add((self.epoch, self.state.publisher.published.target_version))

    def perform(self, effect: l.Effect) -> None:
        if isinstance(effect, l.Send):
            self.check_told(effect.message)
            self.note_told(effect.message)
            frames = messages.encode(effect.message, effect.buffers)
            self.network.send(LEARNER, effect.route, frames, self.now)
            self.post(l.MessageSent(effect.message, sum(map(len, frames))))
        elif isinstance(effect, l.Publish):
            self.note_told(effect.message)
            frames = messages.encode(effect.message, effect.buffers)
            self.network.publish(LEARNER, frames, self.now)
            self.post(l.MessageSent(effect.message, sum(map(len, frames))))
        elif isinstance(effect, l.ApplyBatch):
            self.submit(lambda: self.apply(effect))
        elif isinstance(effect, l.WriteCheckpoint):
            self.submit(lambda: self.copy(effect))
        elif isinstance(effect, l.Announce):
            self.log("learner", f"{effect.event} {effect.fields}")
        elif isinstance(effect, l.Finish):
            if effect.exit_code == TRY_AGAIN:
                self.kill_learner()  # and whoever supervises it starts it again
                return
            self.exit_code = effect.exit_code
            self.end_learner()

    def note_told(self, message: messages.Message) -> None:
        if isinstance(message, messages.Snapshot | messages.Updates):
            self.history.append(Told(self.epoch, message.version, self.journal_holds))

    def of_this_life(self, action: Callable[[], None]) -> Callable[[], None]:
        """Not in another life, and not while it sleeps."""
        epoch = self.epoch

        def act() -> None:
            if self.asleep_until > self.now:
                self.later(self.asleep_until - self.now, act)
            elif self.up and self.epoch == epoch:
                action()

        return act

    def submit(self, job: Callable[[], None]) -> None:
        """The math thread: one job at a time, in order."""
        self.math.append(job)
        if len(self.math) == 1:
            self.later(self.math_s(), self.of_this_life(self.work))

    def math_s(self) -> float:
        return self.plot.math_s + self.random.random() * self.plot.sync_s

    def work(self) -> None:
        self.math[0]()
        self.math.popleft()
        if self.math:
            self.later(self.math_s(), self.of_this_life(self.work))

    def apply(self, order: l.ApplyBatch) -> None:
        before = self.parameters.theta.astype(np.float64)
        event = apply_batch(self.parameters, self.stream, order, self.epoch, self.store.journal)
        self.note_applied(event)
        self.check_applied(before, event, order.rate)
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
        self.digests[self.epoch, self.parameters.version] = self.stream.published.tobytes()
        record_s = 0.001 if event.record is not None else 0.0
        key_frame_s = 0.001 if order.key_frame else 0.0
        self.post(replace(event, math_s=self.plot.math_s, record_s=record_s, key_frame_s=key_frame_s))

    def note_applied(self, event: l.BatchApplied) -> None:
        durable = self.journal_holds and event.unlogged is None
        made: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for outcome in event.outcomes:
            if outcome.outcome == "applied":
                made[outcome.version].append((outcome.session, outcome.sequence))
        for version, numbers in made.items():
            theta = self.parameters.digest() if version == event.version else None
            self.history.append(Applied(self.epoch, version, tuple(numbers), theta, durable))

    @property
    def journal_holds(self) -> bool:
        """Whether the learner's word for what it says of a gradient or of weights is that they are on disk. One that
        stops where the journal fails has no other.
        """
        kept = self.settings.journal
        stops = kept is None or kept.on_journal_failure == "stop"
        return self.state.saving.journaled and (stops or self.state.saving.journal_failure is None)

    def check_applied(self, before: np.ndarray, event: l.BatchApplied, rate: float) -> None:
        """Where nothing scales and nothing is rounded, θ moves by what was handed in, once each: float64 and f32 agree.

        before: float64 [P], θ until then.
        """
        settings = self.settings
        judged = isinstance(settings.staleness_rule, NoRule) and settings.group is None
        plain = judged and settings.quantity == "update"
        if not (self.plot.exact and plain):
            return
        numbers = [(each.session, each.sequence) for each in event.outcomes if each.outcome == "applied"]
        moved = before - rate * sum((self.handed_in[number] for number in numbers), np.zeros(P))
        self.promise(bool((moved == self.parameters.theta).all()), "learner", f"{numbers} moved θ by something else")

    def copy(self, order: l.WriteCheckpoint) -> None:
        version, arrays = self.parameters.version, self.parameters.checkpoint_arrays()
        if (refused := self.store.refuse(version)) is not None:
            self.post(refused)
            return
        kept = Checkpoint(MANIFEST, version, self.epoch, order.counters, arrays)
        based = self.store.append_mark(kept, rebase=order.rebase)
        self.later(self.plot.disk_s, self.of_this_life(lambda: self.save(kept, based)))
        if based:
            self.post(l.JournalBegan(version))

    def save(self, kept: Checkpoint, based: bool) -> None:
        event = self.store.save(kept, based=based)
        if isinstance(event, l.CheckpointWritten):
            self.saved = kept.version
        self.post(event)

    def end_learner(self) -> None:
        self.up = False
        if self.exit_code is None:
            self.network.kill(LEARNER)
        self.log("learner", f"is gone, exit code {self.exit_code}")

    # drama

    def new_actor(self, index: int) -> Actor:
        self.lives[index] += 1
        actor = Actor(self, index, self.lives[index])
        self.later(self.random.random() * self.plot.tick_s, actor.alive(actor.tick))
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

    def dismiss_actor(self) -> None:
        """Asked to stop; another takes its place once it is gone."""
        index = self.random.randrange(self.plot.actors)
        actor = self.actors[index]
        if actor.leaving:
            return
        self.log(actor.name, "is asked to stop")
        actor.alive(lambda: actor.post(a.StopRequested("SIGTERM")))()
        self.await_leave(actor)

    def await_leave(self, actor: Actor) -> None:
        goes_on = self.state.shutdown.stage is Stage.RUNNING or (not self.up and self.exit_code is None)
        if actor.dead and self.actors[actor.index] is actor and goes_on:
            self.actors[actor.index] = self.new_actor(actor.index)
        elif not actor.dead:
            self.later(1.0, lambda: self.await_leave(actor))

    def pause(self) -> None:
        """SIGSTOP, and SIGCONT later: time goes on, and what arrives waits."""
        until = self.now + self.random.uniform(0.5, 20.0)
        index = self.random.randrange(-1, self.plot.actors)
        if index < 0:
            self.asleep_until = until
        else:
            self.actors[index].asleep_until = until
        self.log("learner" if index < 0 else self.actors[index].name, f"sleeps until {until:.3f}")

    def kill_learner(self) -> None:
        if not self.up:
            return
        self.end_learner()
        if self.random.random() < self.plot.power:
            self.disk.lose_power(self.random)
            self.log("learner", "the power is lost")
        self.later(self.random.uniform(0.1, 8.0), self.revive_learner)

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
        for actor in self.touched.values():
            if not actor.dead:
                actor.check()
        self.touched.clear()
        version = self.parameters.version
        self.promise(not self.up or version >= self.version_seen, "learner", "the version went back")
        self.promise(self.state.progress.version <= version or not self.up, "learner", "the state is ahead of θ")
        self.version_seen = version
        self.promise(bool(np.isfinite(self.parameters.theta).all()), "learner", "θ is not finite")
        overdrawn = self.state.progress.rulings[Reason.OVERDRAWN]
        self.promise(not overdrawn, "learner", "an actor that kept to its credit was told that it did not")

    def check_state(self, event: l.Event) -> None:
        """Of a crowd, the books of whom the event concerns: to look at all of them after each would take hours."""
        sessions: Collection[int] | None = None
        if len(self.state.peers) > CROWD:
            said = getattr(event.message, "session", 0) if isinstance(event, l.MessageArrived) else 0
            sessions = {said} & self.state.peers.keys()
        try:
            self.state.validate(sessions)
        except AssertionError as lie:
            self.promise(False, "learner", str(lie))

    def check_history(self) -> None:
        """The whole of it, and that the journal leads from its oldest base to θ as it is."""
        for lie in check(self.history):
            self.promise(False, "learner", lie)
        if self.up and self.journal_holds and not self.math:
            self.promise(self.replayed() == self.parameters.digest(), "learner", "the journal leads elsewhere")

    def replayed(self) -> str:
        """θ's digest as the journal has it, from each base that nothing before it leads to."""
        tape: JournalReplay | None = None
        for version in bases(RUN / "journal", self.disk):
            if tape is None or tape.parameters.version < version:
                tape = JournalReplay(blank_toy(self.settings), self.settings, blank_toy)
                tape.parameters.restore(version, self.based(version))
                for _ in tape.run(read(RUN / "journal", MANIFEST, version, self.disk)):
                    pass
        assert tape is not None
        return tape.parameters.digest()

    def based(self, version: int) -> dict[str, np.ndarray]:
        return load(bases(RUN / "journal", self.disk)[version], self.disk).arrays

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
            if ruling.outcome == "applied" and number not in self.rulings:
                needless = message.unlogged and self.journal_holds
                self.promise(not needless, "learner", f"{message}, though it promises a journal")
                durable = self.state.saving.journaled and not message.unlogged
                self.history.append(Acked(self.epoch, ruling.version, number, durable))
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

    def check_rested(self) -> None:
        """After a rest: who was answered and holds nothing back uses what the learner has, to the bit.

        A stream with a budget may keep the last version until another comes, and nobody sends any more.
        """
        for actor in self.settled():
            assert actor.own is not None
            seen = self.sees_all(actor)
            if not seen and self.settings.downlink_kbps is not None:
                continue
            self.promise(seen, actor.name, f"it has not seen version {self.parameters.version}")
            same = actor.own.holds_back or actor.own.theta.tobytes() == self.stream.published.tobytes()
            self.promise(same, actor.name, "all is settled and seen, and it uses other weights than the stream's")

    def sees_all(self, actor: Actor) -> bool:
        """Whether it uses the learner's newest weights, once it has looked for them."""
        assert actor.own is not None
        actor.own.refresh(actor.channel)
        actor.check()
        held = actor.own.weights
        return held is not None and (held.epoch, held.version) == (self.epoch, self.parameters.version)

    def settled(self) -> list[Actor]:
        """With local steps, weights and no message that waits for an answer, or for others to be aggregated with."""
        return [
            actor
            for actor in self.actors
            if actor.own is not None and actor.own.weights is not None and not actor.state.gradients.unanswered
        ]

    def check_alive(self) -> None:
        """After a calm: everybody works, with weights of this life that are not old."""
        self.promise(self.up and self.state.shutdown.stage is Stage.RUNNING, "learner", "it does not run")
        newest = self.state.publisher.version
        most = 4 * self.plot.actors + 4
        if self.settings.downlink_kbps is not None:
            most *= 3  # with half a kbit/s a record takes seconds
        for actor in self.actors:
            self.promise(actor.state.phase is Phase.ACTIVE, actor.name, f"it is {actor.state.phase.value}")
            held = actor.adopted
            fresh = held is not None and held.epoch == self.epoch and newest - held.version <= most
            self.promise(fresh, actor.name, f"it holds {held and (held.epoch, held.version)} of {newest}")
            assert held is not None
            fresh = actor.state.weights is not None and held.target_version == actor.state.weights.target
            self.promise(fresh, actor.name, f"its target is {held.target_version}")
            assert actor.state.welcome is not None
            peer = self.state.peers.get(actor.state.welcome.session)
            self.promise(peer is not None and peer.gradients > 0, actor.name, "nothing of it was judged")
        self.check_shares()

    def check_shares(self) -> None:
        """What actors were told are parts of one whole, none of them nothing, but for changes too small to tell."""
        least = LEAST / (TELLING * len(self.actors))
        for actor in self.actors:
            self.promise(least <= actor.channel.share <= 1.0, actor.name, f"its share is {actor.channel.share}")
        whole = sum(actor.channel.share for actor in self.actors)
        self.promise(1.0 / TELLING <= whole <= TELLING * (1.0 + LEAST), "learner", f"all shares sum to {whole}")
