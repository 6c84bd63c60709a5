"""What `/status` and `/history` say of a run, as plain data. Pure: reads the state; ``now`` is an argument."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from learner.admission.credit import ceiling, first
from learner.monitoring.advice import Advice
from learner.monitoring.bottleneck import Bottleneck, Facts, find_bottleneck
from learner.monitoring.history import (
    NO_EARLIER_LIVES,
    Counts,
    EarlierLives,
    History,
    Point,
    Recent,
    Sample,
)
from learner.monitoring.scaling import scaling
from learner.monitoring.summary import RunSummary, idle_s, stalled, summarize
from learner.progress import learning_rate, with_former
from learner.state import LearnerState
from protocol.session import Peer

ACTORS_LISTED = 1000  # in /status; a larger fleet is read from its metrics
STEPPING_S = 5.0  # since it told of more steps: an actor counts as one that steps for as long
QUIET_BEATS = 3.0  # heartbeats that may be missed in a row before an actor is called silent
Row = dict[str, Any]


class Sampler:
    """Keeps samples of a run for its pages: the curve, and the counts of the last seconds. past: of earlier lives.

    advice: a list that grows.
    """

    def __init__(self, past: EarlierLives = NO_EARLIER_LIVES, advice: Sequence[Advice] = ()) -> None:
        self.advice = advice
        self.history, self.recent = History(past), Recent()
        self._env_steps = self._arrivals = 0

    def sample(self, state: LearnerState, now: float) -> None:
        """Reads the counters; to be called a few times a second."""
        progress = state.progress
        self._arrivals += progress.env_steps > self._env_steps
        self._env_steps = progress.env_steps
        seen = _sample(state, now, self._arrivals)
        if state.training_since is not None:
            self.history.add(seen)
        if self.recent.due(now):
            steps = {session: peer.env_steps for session, peer in state.peers.items()}
            self.recent.add(Counts(now, seen, dict(progress.rulings), steps))


@dataclass(frozen=True, slots=True)
class FleetQuery:
    """Which actors a visitor asks for. actors: rows. by: the field to sort by. descending: largest first."""

    actors: int = ACTORS_LISTED
    by: str = "ordinal"
    descending: bool = False


@dataclass(frozen=True, slots=True)
class _Rates:
    """Of the last seconds, per second; math_share of the time, lag_updates a mean. None: not known yet."""

    env_steps: float | None = None
    updates: float | None = None
    received_bytes: float | None = None
    sent_bytes: float | None = None
    math_share: float | None = None
    lag_updates: float | None = None
    rulings: dict[str, int] = field(default_factory=dict)


def status(state: LearnerState, now: float, sampler: Sampler | None = None, query: FleetQuery | None = None) -> Row:
    """The JSON of /status: the run, and its actors up to ACTORS_LISTED. Without a sampler there are no rates."""
    sampler, query = sampler or Sampler(), query or FleetQuery()
    summary, rates, progress = summarize(state, now), _rates(state, sampler.recent, now), state.progress
    judged, scales = find_bottleneck(_facts(state, rates, now)), scaling(state)
    told = {
        "run": state.manifest.run,
        "env": state.manifest.env,
        "seed": state.manifest.seed,
        "epoch": state.address.epoch,
        "parameters": state.manifest.layout.length,
        "solved": state.shutdown.solved,
        "wall_s": round(summary.wall_s, 3),
        **{key: value for key, value in summary.fields().items() if not key.endswith("_per_s")},
        **progress.averages.newest(),
        "env_steps_per_s": _rounded(rates.env_steps),
        "updates_per_s": _rounded(rates.updates),
        "received_bytes_per_s": _rounded(rates.received_bytes),
        "sent_bytes_per_s": _rounded(rates.sent_bytes),
        "compression": _compression(summary, state.manifest.layout.length),
        "lag_updates": _rounded(rates.lag_updates),
        "lag_max_updates": progress.lags.largest,
        "math_share": _rounded(rates.math_share),
        "batch_env_steps": _rounded(progress.batch_env_steps),
        "gain_two_more": _rounded(None if scales is None else scales.fleet.gain(2)),
        "gain_hundred_more": _rounded(None if scales is None else scales.fleet.gain(100)),
        "pending_gradients": len(state.queue),
        "idle_s": round(idle_s(state, now), 3),
        "stalled": stalled(state, now),
        "limit": {"cause": judged.cause.value, "text": judged.text + _risk(summary)},
        "advice": [each._asdict() for each in sampler.advice],
        "target_version": state.publisher.published.target_version,
        "evaluated_best_version": progress.evaluated_best_version,
        "staleness_rule": state.settings.staleness_rule.name,
        "anneal": state.settings.anneal.name,
        "learning_rate": learning_rate(state.settings, progress.env_steps),
        "rulings": dict(progress.rulings),
        "faults": dict(progress.faults),
        "actor_faults": dict(progress.actor_faults),
        "actor_states": states(state, now),
        "actor_list": fleet(state, now, sampler.recent, query),
    }
    return with_former(told)


def limit_of(state: LearnerState, now: float, sampler: Sampler) -> Bottleneck:
    """What limits the run."""
    return find_bottleneck(_facts(state, _rates(state, sampler.recent, now), now))


def _risk(summary: RunSummary) -> str:
    """What a crash would cost, where that is not what the run promises."""
    failure = summary.journal_failure
    return "" if failure is None else f" The journal cannot be written ({failure}): a crash loses what is applied now."


def history(state: LearnerState, sampler: Sampler, after_s: float) -> Row:
    """The JSON of /history: the curve's points later than ``after_s``, one list for each field.

    A visitor that has earlier points may keep them while ``epoch`` and ``interval_s`` are the same.
    """
    points = sampler.history.since(after_s)
    columns = zip(*points, strict=True) if points else [()] * len(Point._fields)
    rounded = [[round(value, 3) if isinstance(value, float) else value for value in column] for column in columns]
    told = dict(zip(Point._fields, rounded, strict=True))
    return with_former({"epoch": state.address.epoch, "interval_s": sampler.history.interval_s, **told})


@dataclass(frozen=True, slots=True)
class _Now:
    """What a row of the fleet is read from, beside its actor."""

    state: LearnerState
    recent: Recent
    now: float


FIELDS: dict[str, Callable[[Peer, _Now], Any]] = {  # of an actor in /status
    "name": lambda peer, _: peer.name,
    "role": lambda peer, _: peer.role,
    "ordinal": lambda peer, _: peer.ordinal,
    "state": lambda peer, at: _actor_state(peer, at.state, at.now),
    "env_steps": lambda peer, _: peer.env_steps,
    "env_steps_per_s": lambda peer, at: _rounded(at.recent.steps_per_s(peer.session, peer.env_steps, at.now)),
    "gradients": lambda peer, _: peer.gradients,
    "credit": lambda peer, _: peer.credit,
    "lag_updates": lambda peer, at: max(0, at.state.progress.version - peer.version),
    "silent_s": lambda peer, at: round(at.now - peer.heard_at, 3),
    "idle_s": lambda peer, at: round(at.now - peer.progressed_at, 3),
    "received_bytes": lambda peer, _: peer.received_bytes,
    "no_progress_s": lambda peer, at: round(at.now - peer.progressed_at, 3),  # former names of the last two
    "bytes_up": lambda peer, _: peer.received_bytes,
}


def fleet(state: LearnerState, now: float, recent: Recent, query: FleetQuery) -> list[Row]:
    """The actors that ``query`` asks for. What has no number comes last, whichever way they are sorted."""
    at, field_of = _Now(state, recent, now), FIELDS[query.by]
    keyed = [(field_of(peer, at), peer) for peer in sorted(state.peers.values(), key=lambda peer: peer.ordinal)]
    known = [entry for entry in keyed if entry[0] is not None]
    known.sort(key=lambda entry: entry[0], reverse=query.descending)
    chosen = [*known, *(entry for entry in keyed if entry[0] is None)][: min(query.actors, ACTORS_LISTED)]
    return [{name: field(peer, at) for name, field in FIELDS.items()} for _, peer in chosen]


def states(state: LearnerState, now: float) -> dict[str, int]:
    """How many actors are in each state, of the whole fleet: ``training``, ``quarantined`` and the others of a row."""
    return dict(Counter(_actor_state(peer, state, now) for peer in state.peers.values()))


def _actor_state(peer: Peer, state: LearnerState, now: float) -> str:
    """In one word or two, the worst first."""
    if state.admission.is_quarantined(peer.sender, now):
        return "quarantined"
    if peer.silent(now, QUIET_BEATS * state.settings.heartbeat_s):
        return "silent"
    if not peer.trains:
        return "evaluating"
    return "training" if now - peer.progressed_at < _lately_s(state) else "standing still"


def fleet_states(state: LearnerState, now: float) -> Counter[str]:
    """How many actors are in each state."""
    return Counter(_actor_state(peer, state, now) for peer in state.peers.values())


def _lately_s(state: LearnerState) -> float:
    """Within which an actor that steps says so."""
    return max(STEPPING_S, QUIET_BEATS * state.settings.heartbeat_s)


def _sample(state: LearnerState, now: float, arrivals: int = 0) -> Sample:
    progress = state.progress
    return Sample(
        time_s=0.0 if state.training_since is None else now - state.training_since,
        env_steps=progress.env_steps,
        version=progress.version,
        lags=progress.lags.count,
        lag_updates=int(progress.lags.total),
        received_bytes=progress.received_bytes,
        sent_bytes=progress.sent_bytes,
        math_s=progress.math_s,
        return_mean=progress.return_mean,
        return_min=min(progress.scores, default=None),
        return_max=max(progress.scores, default=None),
        arrivals=arrivals,
    )


def _rates(state: LearnerState, recent: Recent, now: float) -> _Rates:
    then = recent.baseline(now)
    if then is None:
        return _Rates()
    seen, seconds = _sample(state, now), now - then.now_s
    judged = seen.lags - then.seen.lags

    def rate(of: Callable[[Sample], float]) -> float:
        return (of(seen) - of(then.seen)) / seconds

    return _Rates(
        env_steps=rate(lambda sample: sample.env_steps),
        updates=rate(lambda sample: sample.version),
        received_bytes=rate(lambda sample: sample.received_bytes),
        sent_bytes=rate(lambda sample: sample.sent_bytes),
        math_share=rate(lambda sample: sample.math_s),
        lag_updates=(seen.lag_updates - then.seen.lag_updates) / judged if judged else None,
        rulings=dict(Counter(state.progress.rulings) - Counter(then.rulings)),
    )


def _facts(state: LearnerState, rates: _Rates, now: float) -> Facts:
    settings, training = state.settings, [peer for peer in state.peers.values() if peer.trains]
    quiet_s, lately_s = QUIET_BEATS * settings.heartbeat_s, _lately_s(state)
    return Facts(
        running=state.shutdown.running,
        solved=state.shutdown.solved,
        final=state.shutdown.final,
        started=state.training_since is not None,
        actors=len(training),
        responding=sum(not peer.silent(now, quiet_s) for peer in training),
        stepping=sum(now - peer.progressed_at < lately_s for peer in training),
        stalled=stalled(state, now),
        idle_s=idle_s(state, now),
        busy=state.busy,
        aggregates=settings.group is not None,
        pending=len(state.queue),
        out_of_credit=sum(_limited_by_credit(peer, state) for peer in training),
        math_share=rates.math_share,
        scaling=scaling(state),
        rulings=rates.rulings,
    )


def _limited_by_credit(peer: Peer, state: LearnerState) -> bool:
    """Whether credit holds it up: all of it waits for a group, or its link is so long that it was granted the most.

    In a fleet so large that the most is also the least, the second cannot be told.
    """
    training, settings = state.sessions.training, state.settings
    if settings.group is not None:
        return len(peer.ledger.pending) >= peer.credit
    return peer.credit >= ceiling(training, settings) > first(training, settings)


def _compression(summary: RunSummary, parameters: int) -> float | None:
    """Of all that came up against float32, as in result.json."""
    per_gradient = summary.bytes_per_gradient
    return round(4 * parameters / per_gradient, 3) if per_gradient else None


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 3)
