"""One actor of the fleet: the real state machine, channel and worker; what its work costs is virtual.

The shell stands in for ``actor/service.py``. A rollout is collected at the moment at which it begins, with the weights
of that moment, and then takes its time; so does a gradient. The link goes on meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from random import Random
from typing import Any, ParamSpec, Protocol, TypeVar

from msgspec.structs import replace

from actor import events
from actor.events import Identity
from actor.handoff import Interrupted, WorkerChannel
from actor.state import ActorState
from actor.worker import TrainingWorker
from protocol import messages
from protocol.buffers import Buffer
from tests.bench.fleet.agenda import Agenda, Turnstile, WorkerGreenlet
from tests.bench.fleet.costs import Costs

TICK_S = 0.05  # as both services tick

P = ParamSpec("P")
R = TypeVar("R")
Frames = Sequence[Buffer]


class Uplink(Protocol):
    """Where an actor's messages arrive."""

    def hear(self, route: bytes, frames: Frames) -> None: ...


class Actor:
    """rate: how fast it is: at 0.1 its steps and gradients take ten times as long. joined_at, left_at: virtual seconds.

    told: the lines that it would have logged, by event. gradients: of minibatches so far. rollouts: when each began, in
    virtual seconds, and its rows.
    """

    def __init__(
        self,
        agenda: Agenda,
        learner: Uplink,
        costs: Costs,
        index: int,
        seed: int,
        rate: float,
        modules: frozenset[str] = frozenset(),
    ) -> None:
        self._modules = modules
        self.name, self.rate = f"actor-{index}", rate
        self.route = self.name.encode()
        self.told: Counter[str] = Counter()
        self.gradients = 0
        self.rollouts: list[tuple[float, int]] = []
        self.follows = False  # the weight stream
        self.joined_at = agenda.now
        self.left_at: float | None = None
        self._agenda, self._learner, self._costs = agenda, learner, costs
        self._chance = Random(f"{seed} {self.name} jitter")
        self._collect_s = self._learn_s = 0.0
        self._busy_until = agenda.now
        self._worker = WorkerGreenlet(agenda, self._work)
        self.channel = WorkerChannel(self._handed_in, self._handed_in_last, Turnstile(self._worker))
        self._state = ActorState(Identity(self.name, index + 1), "learner", Random(f"{seed} {self.name}"))
        self._post(events.Started())
        self._tick()
        self._worker.start()

    @property
    def here(self) -> bool:
        """Whether it has not left."""
        return self.left_at is None

    @property
    def busy_share(self) -> float:
        """Of its time here, what its worker spent on rollouts and gradients; 0 before any time has passed."""
        until = self._agenda.now if self.left_at is None else self.left_at
        unfinished_s = max(0.0, self._busy_until - until)
        present_s = until - self.joined_at
        return (self._collect_s + self._learn_s - unfinished_s) / present_s if present_s else 0.0

    def hear(self, message: messages.AnyMessage, buffers: Frames) -> None:
        """From the learner or the weight stream."""
        if self.here:
            self._post(events.MessageArrived(message, buffers))

    def leave(self) -> None:
        """It is asked to stop, as by a signal."""
        if self.here:
            self._post(events.StopRequested("SIGTERM"))

    def close(self) -> None:
        """Ends its worker and its simulators."""
        self.channel.close()
        self._worker.close()

    # the link

    def _tick(self) -> None:
        if self.here:
            worker = replace(
                self.channel.stats,
                collect_s=self._collect_s,
                learn_s=self._learn_s,
                compress_s=0.0,
                wait_s=self._worker.parked_s,
            )
            self._post(events.Ticked(worker))
            self._agenda.later(TICK_S, self._tick)

    def _post(self, event: events.Event) -> None:
        for effect in self._state.handle(event, self._agenda.now):
            _PERFORM[type(effect)](self, effect)

    def _send(self, effect: events.Send) -> None:
        frames = messages.encode(effect.message, effect.buffers)
        self._agenda.later(self._costs.up_ms / 1e3, partial(self._learner.hear, self.route, frames))

    def _subscribe(self, effect: events.Subscribe) -> None:
        self.follows = True

    def _announce(self, effect: events.Announce) -> None:
        self.told[effect.event] += 1

    def _finish(self, effect: events.Finish) -> None:
        self.left_at = self._agenda.now
        self.channel.close()

    # the worker, on its own stack

    def _work(self) -> None:
        """As in ``actor/service.py``: builds what a welcome describes, works until interrupted, again."""
        generation = 0
        while True:
            welcome, generation = self.channel.next_welcome(generation)
            with closing(TrainingWorker(welcome, self._modules)) as worker, suppress(Interrupted):
                self._charge(worker)
                self._post(events.WorkerReady())
                worker.run(self.channel, generation)

    def _charge(self, worker: TrainingWorker) -> None:
        """Its rollouts and gradients take virtual time from now on."""
        worker.simulators.collect = followed_by(  # type: ignore[method-assign]
            worker.simulators.collect, lambda rollout: self._collected(rollout.valid.size)
        )
        worker.method.loss = followed_by(worker.method.loss, lambda _: self._learnt())  # type: ignore[method-assign]

    def _collected(self, rows: int) -> None:
        self.rollouts.append((self._agenda.now, rows))
        cost_s = self._cost_s(rows * self._costs.step_ms)
        self._collect_s += cost_s
        self._spend(cost_s)

    def _learnt(self) -> None:
        self.gradients += 1
        cost_s = self._cost_s(self._costs.gradient_ms)
        self._learn_s += cost_s
        self._spend(cost_s)

    def _cost_s(self, cost_ms: float) -> float:
        jitter = self._costs.jitter
        return cost_ms / 1e3 / self.rate * (1.0 + self._chance.uniform(-jitter, jitter))

    def _spend(self, cost_s: float) -> None:
        self._busy_until = self._agenda.now + cost_s
        self._worker.sleep(cost_s)

    def _handed_in(self, work: events.Work) -> None:
        """The worker goes on when all is done that takes no time: over a link without latency that is the answer."""
        self._post(events.WorkDone(work))
        self._worker.sleep(0.0)

    def _handed_in_last(self, work: events.Work | None) -> None:
        self._post(events.LastWorkDone(work))


def followed_by(work: Callable[P, R], then: Callable[[R], None]) -> Callable[P, R]:
    """The same work, of whose result ``then`` hears before anybody else."""

    def done(*args: P.args, **kwargs: P.kwargs) -> R:
        made = work(*args, **kwargs)
        then(made)
        return made

    return done


_PERFORM: dict[type[Any], Callable[[Actor, Any], None]] = {
    events.Dial: lambda actor, effect: None,
    events.Send: Actor._send,
    events.Subscribe: Actor._subscribe,
    events.Configure: lambda actor, effect: actor.channel.configure(effect.welcome),
    events.Adopt: lambda actor, effect: actor.channel.adopt(effect.weights),
    events.Settle: lambda actor, effect: actor.channel.settle(effect.work, effect.restore, effect.feedback),
    events.Permit: lambda actor, effect: actor.channel.permit(effect.credit),
    events.Share: lambda actor, effect: actor.channel.set_share(effect.share),
    events.Leave: lambda actor, _: actor.channel.leave(),
    events.Announce: Actor._announce,
    events.Finish: Actor._finish,
}
