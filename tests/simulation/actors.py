"""One simulated actor: real state, channel and compressor; toy work. Checks what an actor must never be or believe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from actor import events as a
from actor.compression.compressor import Compressor
from actor.compression.selection import Everything, make_selection
from actor.events import Identity
from actor.handoff import WorkerChannel
from actor.state import ActorState
from protocol import messages
from protocol.codecs.registry import Encoded, Floats, codec
from protocol.layout import Entry, Layout
from protocol.messages import Episode, Report
from tests.simulation.history import Adopted
from tests.simulation.own_weights import ROUNDING, OwnWeights, Parcel, dense, make_own_weights

if TYPE_CHECKING:
    from tests.simulation.world import World

P = 24
LAYOUT = Layout((Entry("w", (4, 5)), Entry("b", (4,))))
BUILD_S = 0.3  # what an actor takes to build its simulators
LEARNER = b"learner"
ROLLOUT_ENDS = 0.1  # chance with each local step, however many a message may carry


class Actor:
    """One actor process: real state, channel and compressor; toy work."""

    def __init__(self, world: World, index: int, life: int) -> None:
        self.world, self.name, self.index = world, f"actor-{index}", index
        self.instance = f"{self.name}.{life}"
        random = Random(f"{world.seed} {self.instance}")
        self.state = ActorState(Identity(self.name, random.getrandbits(62) + 1), "learner", random)
        self.channel = WorkerChannel(
            lambda work: self.post(a.WorkDone(work)), lambda work: self.post(a.LastWorkDone(work))
        )
        self.clock_s = random.uniform(0.0, 1e6) if world.plot.skewed else 0.0  # its clock's lead
        self.rng = np.random.default_rng([world.seed, index, life])
        self.compressor: Compressor | None = None
        self.own: OwnWeights | None = None  # with local steps
        self.unreported: list[Episode] = []
        self.dials = 0
        self.link = b""
        self.generation = 0
        self.working = False
        self.leaving = False
        self.exit_code: int | None = None
        self.dead = False
        self.pace = 1.0  # at 0.5 its work takes twice as long
        self.asleep_until = 0.0  # stopped by a signal; what arrives waits in the socket
        self.computed = np.zeros(P)  # float64: the sum of all gradients
        self.given = np.zeros(P)  # float64: of what was handed in, less what was put back
        self.updates = 0  # gradients that wait for their message
        self.answers: dict[tuple[int, int], messages.Ruling] = {}  # of the verdict that is being read
        self.parcels: dict[int, Parcel] = {}  # by id of its payload
        self.works: list[a.Work] = []  # keeps ids unique
        self.restorable: dict[int, a.Work] = {}
        self.adopted: a.Weights | None = None
        self.order = (0, -1, -1)  # session, version and target's version of what was adopted last
        network = world.network
        network.subscribe(self.instance.encode(), LEARNER)
        world.names[self.instance] = self
        self.post(a.Started())

    def post(self, event: a.Event) -> None:
        self.world.touch(self)
        gradients = self.state.gradients
        applied = gradients.applied
        self.answers = rulings(event)
        effects = self.state.handle(event, self.world.now + self.clock_s)
        try:
            self.state.validate()
        except AssertionError as error:
            self.world.promise(False, self.name, str(error))
        for effect in effects:
            self.perform(effect)
        parcels = [self.parcels[id(effect.work.payload)] for effect in effects if isinstance(effect, a.Settle)]
        known = sum(parcel.number in self.world.applied for parcel in parcels)
        self.world.promise(gradients.applied - applied <= known, self.name, "it believes in more than was applied")

    def work_done(self, work: a.Work) -> None:
        self.post(a.WorkDone(work))

    def last_work_done(self, work: a.Work | None) -> None:
        self.post(a.LastWorkDone(work))

    def perform(self, effect: a.Effect) -> None:
        world = self.world
        if isinstance(effect, a.Dial):
            self.redial()
        elif isinstance(effect, a.Send):
            self.note_sent(effect.message)
            world.say(self.name, "->", effect.message)
            world.network.send(self.link, LEARNER, messages.encode(effect.message, effect.buffers), world.now)
        elif isinstance(effect, a.Configure):
            self.channel.configure(effect.welcome)
            self.lose_refused()
            world.later(BUILD_S, self.alive(self.built))
        elif isinstance(effect, a.Adopt):
            self.adopt(effect.weights)
        elif isinstance(effect, a.Settle):
            self.settled(effect)
        elif isinstance(effect, a.Permit):
            self.channel.permit(effect.credit)
        elif isinstance(effect, a.Share):
            self.channel.set_share(effect.share)
        elif isinstance(effect, a.Leave):
            self.channel.leave()
            self.world.later(0.0, self.alive(self.part))  # the worker's thread hears of it, and answers later
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
        self.world.history.append(Adopted(weights.epoch, weights.version, self.instance))
        self.channel.adopt(weights)

    def note_sent(self, message: messages.Message) -> None:
        if isinstance(message, messages.Gradient):
            assert self.state.gradients.outbox is not None
            sent = self.state.gradients.outbox.unanswered.get(message.sequence)
            if sent is None:
                return  # given up in the same breath: the time for parting was over
            parcel = self.parcels[id(sent.parcel.payload)]
            parcel.number = (message.session, message.sequence)
            self.world.handed_in[parcel.number] = dense(parcel.work.decoded)

    def redial(self) -> None:
        """A fresh socket: what was under way to the old one is never read."""
        if self.link:
            self.world.network.kill(self.link)
        self.world.names.pop(self.link.decode(), None)
        self.dials += 1
        self.link = f"{self.instance}/{self.dials}".encode()
        self.world.names[self.link.decode()] = self
        if self.index in self.world.cut:
            self.world.network.partition(self.link, LEARNER)

    def end(self) -> None:
        self.dead = True
        self.world.names.pop(self.link.decode(), None)
        self.world.names.pop(self.instance, None)
        self.world.network.kill(self.link)
        self.world.network.kill(self.instance.encode())

    def alive(self, action: Callable[[], None]) -> Callable[[], None]:
        """Not once it is dead, and not while it sleeps."""

        def act() -> None:
            if self.asleep_until > self.world.now:
                self.world.later(self.asleep_until - self.world.now, act)
            elif not self.dead:
                action()

        return act

    # the worker

    def built(self) -> None:
        welcome, generation = self.channel.next_welcome(0)
        if generation == self.generation:
            return  # another welcome came while it was built
        self.generation, self.working = generation, False
        self.computed, self.updates = self.given.copy(), 0  # what the worker before held back ended with it
        plot = self.world.plot
        self.compressor = Compressor(P, plot.codec, make_selection(codec(plot.codec), [(P,)], 0.2, 0, 1, 0), 1.0)
        self.own = make_own_weights(self.compressor.residual, plot.local_steps, welcome)
        self.post(a.WorkerReady())

    def tick(self) -> None:
        self.post(a.Ticked(self.channel.stats))
        if not self.dead:
            self.world.later(self.world.plot.tick_s, self.alive(self.tick))

    def begin(self) -> None:
        """Starts on a gradient if the channel would let a real worker go on."""
        channel = self.channel
        ready = self.compressor is not None and channel.newest() is not None
        waits = self.must_send and channel.permits_left <= 0
        if self.dead or self.working or self.leaving or waits or not ready:
            return
        if self.must_send:
            channel.await_permit(self.generation)
        if self.own is not None and self.own.rollout_over:
            self.send_sum(self.own)
        if not self.world.resting:
            self.start()

    @property
    def must_send(self) -> bool:
        return self.own is None or self.own.must_send

    def start(self) -> None:
        if self.own is not None:
            self.collect_refused()
            self.own.refresh(self.channel)
        self.working = True
        weights = self.channel.newest()
        assert weights is not None
        spread_s = self.world.plot.work_s * (0.5 + self.rng.random()) / self.pace
        self.world.later(spread_s, self.alive(partial(self.finish, weights, spread_s, self.generation)))

    def collect_refused(self) -> None:
        assert self.compressor is not None
        refused = self.channel.collect_refused()
        for work in refused:
            self.compressor.restore(work.decoded)
            self.given -= dense(self.restorable.pop(id(work)).decoded)
        if refused and self.own is not None:
            self.own.load()
        self.world.promise(not self.restorable, self.name, "a refused gradient went missing")

    def lose_refused(self) -> None:
        """The worker that would have put it back is to end."""
        for work in self.restorable.values():
            self.given -= dense(work.decoded)
            self.computed -= dense(work.decoded)
        self.restorable.clear()

    def finish(self, weights: a.Weights, took_s: float, generation: int) -> None:
        if generation != self.generation:
            return  # by a worker that has ended
        compressor, channel = self.compressor, self.channel
        assert compressor is not None
        self.collect_refused()
        gradient = (self.rng.integers(-8, 9, P) / 16).astype(np.float32)
        self.computed += gradient
        self.updates += 1
        stats = channel.stats
        channel.stats = replace(stats, env_steps=stats.env_steps + 4, learn_s=stats.learn_s + took_s)
        if self.rng.random() < 0.2:
            self.unreported.append(Episode(float(self.rng.integers(0, 10)), 4))
        self.working = False
        if self.own is None:
            self.send(compressor.compress(gradient), weights, 1)
        else:
            self.step(self.own, compressor.precondition(gradient))
        if self.leaving:
            self.part()

    def step(self, own: OwnWeights, update: Floats) -> None:
        """One more local step; a rollout may end with any."""
        own.add(update)
        own.rollout_over = bool(self.rng.random() < ROLLOUT_ENDS) or self.world.resting
        if own.local.steps >= own.steps:
            self.send_sum(own)

    def send_sum(self, own: OwnWeights) -> None:
        assert self.compressor is not None
        assert own.weights is not None
        taken, updates = own.take()
        encoded = self.compressor.send(taken)
        own.sent(encoded.decoded)
        self.send(encoded, own.weights, updates)

    def send(self, encoded: Encoded, weights: a.Weights, updates: int) -> None:
        assert self.compressor is not None
        self.updates -= updates
        report = Report(4 * updates, tuple(self.unreported))
        self.unreported.clear()
        work = self.wrap(encoded, self.compressor.codec.name, weights, report, updates)
        if self.own is not None:
            self.own.handed_in(self.parcels[id(work.payload)])
        self.channel.hand_in(work)

    def wrap(self, encoded: Encoded, name: str, weights: a.Weights, report: Report | None, updates: int) -> a.Work:
        work = a.Work(
            epoch=weights.epoch,
            base_version=weights.version,
            codec=name,
            length=P,
            count=encoded.count,
            payload=encoded.buffer,
            decoded=encoded.decoded,
            report=report,
        )
        self.works.append(work)
        self.given += dense(work.decoded)
        self.parcels[id(work.payload)] = Parcel(work, updates)
        return work

    def part(self) -> None:
        """Hands in what it holds back once it is not at work."""
        self.leaving = True
        weights = self.channel.newest()
        if self.working or self.compressor is None:
            return
        self.collect_refused()
        self.hold_sum()
        encoded = self.compressor.compress_residual("f32", Everything()) if weights is not None else None
        assert encoded is None or weights is not None
        self.channel.hand_in_last(None if encoded is None else self.wrap(encoded, "f32", weights, None, 0))  # type: ignore[arg-type]

    def hold_sum(self) -> None:
        """Compression keeps the updates that no message carries yet. θ is not used any more."""
        own, self.own = self.own, None
        if own is not None and own.local.steps:
            assert self.compressor is not None
            taken, updates = own.take()
            self.compressor.hold(taken)
            self.updates -= updates

    def settled(self, effect: a.Settle) -> None:
        parcel = self.parcels[id(effect.work.payload)]
        world = self.world
        world.promise(parcel.fate == "under way", self.name, "a gradient was settled twice")
        parcel.fate = "restored" if effect.restore else "gone"
        if parcel.number in self.answers and self.answers[parcel.number].outcome == "applied":
            parcel.version = world.applied[parcel.number]
        if self.own is not None:
            self.own.settled(parcel)
        if effect.restore:
            world.promise(parcel.number not in world.applied, self.name, f"{parcel.number} was applied and restored")
            self.restorable[id(effect.work)] = effect.work
        self.channel.settle(effect.work, effect.restore, effect.feedback)

    # promises

    def check(self) -> None:
        unanswered, taken = self.state.gradients.unanswered, self.channel.unanswered
        held = unanswered + (self.state.drain.held_back is not None)  # what a leaving worker handed in needs no room
        self.world.promise(taken == held, self.name, f"{taken} permits, {unanswered} unanswered")
        self.check_books()
        if self.own is not None:
            assert self.state.welcome is not None
            credit, credit_lag = self.state.gradients.most_credit, self.state.welcome.credit_lag
            self.own.check(self.promise, self.world.rates, self.world.plot.exact, credit, credit_lag)

    def promise(self, kept: bool, what: str) -> None:
        self.world.promise(kept, self.name, what)

    def check_books(self) -> None:
        """All that was computed was handed in (applied, under way, lost, or waiting to be put back), is residual, or
        waits for its message: which is one message's work at most.
        """
        if self.compressor is None:
            return
        waiting = 0.0 if self.own is None else self.own.collecting
        error = float(np.abs(self.compressor.residual + waiting + self.given - self.computed).max())
        self.promise(error <= (0.0 if self.world.plot.exact else ROUNDING), f"the residual is off by {error}")
        most = 0 if self.own is None else self.own.steps - 1
        self.promise(0 <= self.updates <= most, f"{self.updates} updates wait for a message")


def rulings(event: a.Event) -> dict[tuple[int, int], messages.Ruling]:
    """Of a verdict, by the numbers that they are on."""
    verdict = event.message if isinstance(event, a.MessageArrived) else None
    if not isinstance(verdict, messages.Verdict):
        return {}
    return {(verdict.session, ruling.sequence): ruling for ruling in verdict.rulings}
