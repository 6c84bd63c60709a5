"""The learner and its fleet under virtual time: real state machines, θ, stream and workers. No sockets, no clock.

All that the product decides is the product's: credit, admission, staleness, batches, publishing, local steps, step
size, and what heartbeats tell both sides. What takes time is stated (``Costs``), so a run is the same to the bit on any
machine with the same numerics, and sixteen actors need no sixteen cores. What stays out is what they cost for real:
sockets, codecs, a record of the weight stream and the disk, to which nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from actor.config import read_settings
from actor.initial import initial
from learner import events
from learner.apply_batch import apply_batch
from learner.config import Experiment, actor_table
from learner.durability.recovery import make_parameters
from learner.progress import WINDOW, Progress
from learner.state import Address, LearnerState
from learner.stream.writer import StreamWriter
from protocol import messages
from protocol.errors import UserError
from protocol.manifest import Manifest, digest_of
from tests.bench.fleet.actors import TICK_S, Actor, Frames
from tests.bench.fleet.agenda import Agenda
from tests.bench.fleet.costs import Costs, Crew

EPOCH = 1
GROWTH = 1.03  # of environment steps between two points of a curve
STALLED_S = 3600.0  # in which no step came: something waits for what never comes

Point = tuple[int, float, float]  # environment steps, virtual seconds, mean return of 100 episodes


class Stalled(RuntimeError):
    """Nothing goes on: a fault of ours. now: virtual seconds."""

    def __init__(self, now: float, env_steps: int) -> None:
        super().__init__(now, env_steps)
        self.now, self.env_steps = now, env_steps

    def __str__(self) -> str:
        return f"at {self.now:.0f} virtual seconds no step has come for {STALLED_S:.0f}, after {self.env_steps}"


class Fleet:
    """One run. ``run`` lets it pass; afterwards it can be asked about everything. A context: it ends the threads.

    modules: which an environment's id may name. Raises UserError where settings need a real clock.
    """

    def __init__(self, experiment: Experiment, crew: Crew, costs: Costs, modules: frozenset[str] = frozenset()) -> None:
        if read_settings(actor_table(experiment)).codec == "auto":
            raise UserError("actor.codec = 'auto' fits messages to a real link by a real clock; name a codec")
        self.crew, self.costs, self._experiment = crew, costs, experiment
        self._agenda = Agenda()
        self.actors: list[Actor] = []
        self._modules = modules
        self.learner = Learner(self._agenda, experiment, costs, self.actors, modules)
        self._expected = crew.actors + sum(count for count, _ in crew.joins)  # ever
        self._agenda.later(0.0, partial(self._join, crew.actors))
        for count, at_s in crew.joins:
            self._agenda.later(at_s, partial(self._join, count))
        for count, at_s in crew.leaves:
            self._agenda.later(at_s, partial(self._leave, count))

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self.actors:
            actor.close()

    def run(self) -> Fleet:
        """Until the experiment's target or limit, or until everybody has left. Raises Stalled."""
        learner, agenda = self.learner, self._agenda
        while learner.ended_at is None and not self._deserted:
            agenda.step()
            if agenda.now - learner.progressed_at > STALLED_S:
                raise Stalled(agenda.now, learner.progress.env_steps)
        return self

    @property
    def _deserted(self) -> bool:
        """Whether everybody has left, the learner has heard of it, and nobody is to come."""
        gone = len(self.actors) == self._expected and not any(actor.here for actor in self.actors)
        return gone and not self.learner.state.peers

    def _join(self, count: int) -> None:
        for _ in range(count):
            index, rates = len(self.actors), self.crew.rates
            seed, rate = self._experiment.run.seed, rates[index % len(rates)]
            self.actors.append(Actor(self._agenda, self.learner, self.costs, index, seed, rate, self._modules))

    def _leave(self, count: int) -> None:
        for actor in [actor for actor in self.actors if actor.here][:count]:
            actor.leave()

    @property
    def seconds(self) -> float:
        """Virtual, from when the first actor was handed weights to the end, or to now."""
        return self.learner.since_first(self._agenda.now)

    def answer(self) -> dict[str, Any]:
        """The run in numbers, as the command prints them."""
        progress = self.learner.progress
        told = sum((actor.told for actor in self.actors), Counter(self.learner.told))
        return {
            "solved": self.learner.state.shutdown.solved,
            "seconds": self.seconds,
            "env_steps": progress.env_steps,
            "return_mean_100": progress.return_mean,
            "messages": progress.gradients_received,
            "gradients": sum(actor.gradients for actor in self.actors),
            "version": progress.version,
            "received_bytes": progress.received_bytes,
            "sent_bytes": progress.sent_bytes,
            "lag_mean_updates": progress.lags.mean,
            "busy_share": sum(actor.busy_share for actor in self.actors) / max(1, len(self.actors)),
            "rulings": dict(progress.rulings),
            "events": dict(sorted(told.items())),
            "theta": self.learner.parameters.digest(),
            "curve": self.learner.curve,
        }


class Learner:
    """The shell that stands in for ``learner/service.py``, its math thread and its disk. actors: who is reached.

    told: the lines that it would have logged, by event. ended_at: when the run's end was decided; None while it goes
    on. progressed_at: when steps were last reported.
    """

    def __init__(
        self,
        agenda: Agenda,
        experiment: Experiment,
        costs: Costs,
        actors: Sequence[Actor],
        modules: frozenset[str] = frozenset(),
    ) -> None:
        settings, table = experiment.learner, actor_table(experiment)
        first = initial(read_settings(table), experiment.run.seed, modules)
        theta = np.array(first.theta, np.float32)
        self.parameters = make_parameters(settings, theta, first.layout, first.observation_size)
        self._stream = StreamWriter(self.parameters, budgeted=settings.downlink_kbps is not None)
        self.state = LearnerState(
            experiment,
            Manifest(
                run="fleet",
                env=first.env,
                seed=experiment.run.seed,
                layout=first.layout,
                observation_size=first.observation_size,
                actor_table=table,
                actor_digest=digest_of(table),
                created="",
            ),
            Address(EPOCH, "*"),
            self._stream.key_frame(EPOCH),
            Progress(),
            Random(f"{experiment.run.seed} learner"),
            agenda.now,
        )
        self.told: Counter[str] = Counter()
        self.curve: list[Point] = []
        self.ended_at: float | None = None
        self.progressed_at = agenda.now
        self._steps_seen = 0
        self._agenda, self._costs, self._actors = agenda, costs, actors
        agenda.later(TICK_S, self._tick)

    @property
    def progress(self) -> Progress:
        """The run's counters."""
        return self.state.progress

    def since_first(self, now: float) -> float:
        """Virtual seconds from when the first actor was handed weights to the end, or to ``now`` before it."""
        began, ended = self.state.training_since, self.ended_at
        return 0.0 if began is None else (now if ended is None else ended) - began

    def hear(self, route: bytes, frames: Frames) -> None:
        """From an actor's link."""
        message, buffers = messages.decode(frames)
        self._post(events.MessageArrived(route, message, buffers, sum(map(len, frames))))

    def _tick(self) -> None:
        self._post(events.Ticked())
        self._agenda.later(TICK_S, self._tick)

    def _post(self, event: events.Event) -> None:
        now = self._agenda.now
        for effect in self.state.handle(event, now):
            _PERFORM[type(effect)](self, effect)
        if self.ended_at is None and not self.state.shutdown.running:
            self.ended_at = now
            self._note(now)
        elif self.progress.env_steps > self._steps_seen:
            self._steps_seen, self.progressed_at = self.progress.env_steps, now
            if not self.curve or self._steps_seen >= GROWTH * self.curve[-1][0]:
                self._note(now)

    def _note(self, now: float) -> None:
        """A point of the curve; means of fewer episodes are none."""
        mean = self.progress.return_mean
        if mean is not None and len(self.progress.scores) == WINDOW:
            self.curve.append((self.progress.env_steps, self.since_first(now), mean))

    def _send(self, effect: events.Send) -> None:
        frames = messages.encode(effect.message, effect.buffers)
        self._deliver([actor for actor in self._actors if actor.route == effect.route], frames)
        self._post(events.MessageSent(effect.message, sum(map(len, frames))))

    def _publish(self, effect: events.Publish) -> None:
        frames = messages.encode(effect.message, effect.buffers)
        self._deliver([actor for actor in self._actors if actor.follows], frames)
        self._post(events.MessageSent(effect.message, sum(map(len, frames))))

    def _deliver(self, actors: Sequence[Actor], frames: Frames) -> None:
        """Read once for all who hear it: what arrives is never written to."""
        message, buffers = messages.decode(frames)

        def arrive() -> None:
            for actor in actors:
                actor.hear(message, buffers)

        self._agenda.later(self._costs.down_ms / 1e3, arrive)

    def _apply(self, order: events.ApplyBatch) -> None:
        cost_s = len(order.jobs) * self._costs.apply_ms / 1e3
        self._agenda.later(cost_s, partial(self._applied, order, cost_s))

    def _applied(self, order: events.ApplyBatch, cost_s: float) -> None:
        event = apply_batch(self.parameters, self._stream, order, EPOCH)
        self._post(replace(event, math_s=cost_s, record_s=0.0, key_frame_s=0.0))

    def _write_checkpoint(self, effect: events.WriteCheckpoint) -> None:
        written = events.CheckpointWritten(self.parameters.version, Path())
        self._agenda.later(0.0, partial(self._post, written))

    def _announce(self, effect: events.Announce) -> None:
        self.told[effect.event] += 1


_PERFORM: dict[type[Any], Callable[[Learner, Any], None]] = {
    events.Send: Learner._send,
    events.Publish: Learner._publish,
    events.ApplyBatch: Learner._apply,
    events.WriteCheckpoint: Learner._write_checkpoint,
    events.Announce: Learner._announce,
    events.Finish: lambda learner, effect: None,  # the end was noted when it was decided
}
