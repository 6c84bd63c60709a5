"""What the learner makes of gradients that are too many, too large, nonsense, or meant to be merged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learner.admission.checks import MAX_REPORT_STEPS
from learner.admission.quarantine import TOLERATED
from learner.events import Announce, ApplyBatch, Finish, KeysRevoked, StopRequested
from learner.shutdown import Stage
from protocol.errors import Reason
from protocol.messages import ROLES, Episode, Report, Ruling, Verdict, Welcome
from protocol.moments import Moments
from tests.learner.test_state import (
    ONES,
    P,
    announced,
    every,
    gradient,
    hello,
    learner,
    messages,
    only,
    payload,
    ruling,
    sent,
)
from tests.learner.test_state import Learner as It

NAN = payload(np.full(P, np.nan, np.float32))


def joined(it: It, *keys: str, instance: int = 1) -> list[int]:
    """Sessions, one for each key, over routes of their own."""
    return [
        sent(it.hear(hello(instance + n, f"actor-{n}"), route=bytes([n]), key=key), Welcome).session
        for n, key in enumerate(keys)
    ]


def sends(it: It, session: int, sequence: int, n: int = 0, key: str = "", body: bytes = payload(), **more: Any) -> Any:
    return it.hear(gradient(session, sequence, **more), body, route=bytes([n]), key=key)


def applied(it: It) -> float:
    return float(it.parameters.theta[0])


# quotas


def test_beyond_its_quota_a_key_is_refused_unread_and_its_report_is_booked() -> None:
    it = learner(quota_gradients_per_s=0.4, credit=8, most_credit=8)  # two at once
    (session,) = joined(it, "k")
    it.does(sends(it, session, 1, key="k"))
    it.does(sends(it, session, 2, key="k"))
    over = sends(it, session, 3, key="k", report=Report(5, (Episode(1.0, 5),)))
    assert ruling(over) == Ruling(3, Reason.OVER_QUOTA, 2, 0.0)
    assert it.state.progress.env_steps == 5
    assert announced(over) == []
    again = sends(it, session, 3, key="k")
    assert ruling(again).outcome == Reason.OVER_QUOTA  # a number has one fate
    it.now = 3.0
    it.does(sends(it, session, 4, key="k"))
    assert it.state.progress.rulings["applied"] == 3


def test_sessions_of_one_key_share_its_quota_and_others_have_their_own() -> None:
    it = learner(quota_gradients_per_s=0.2)
    one, two, other = joined(it, "k", "k", "x")
    it.does(sends(it, one, 1, 0, "k"))
    assert ruling(sends(it, two, 1, 1, "k")).outcome == Reason.OVER_QUOTA
    it.does(sends(it, other, 1, 2, "x"))


# quarantine


def misbehave(it: It, session: int, key: str, first: int = 1) -> list[str]:
    """Nonsense until something is announced."""
    for sequence in range(first, first + TOLERATED + 1):
        effects = it.does(sends(it, session, sequence, key=key, body=NAN))
        if told := announced(effects):
            return told
    return []


def test_who_sends_nonsense_is_not_listened_to_for_a_while() -> None:
    it = learner()
    (session,) = joined(it, "k")
    assert misbehave(it, session, "k") == ["quarantined"]
    assert it.state.admission.quarantined == 1
    held = sends(it, session, 90, key="k", report=Report(5))
    assert ruling(held).outcome == Reason.QUARANTINED
    assert not every(held, ApplyBatch)
    assert it.state.progress.env_steps == 0  # nor is what it reports
    assert announced(it.tick(2.0)) == ["released"]
    assert it.state.admission.quarantined == 0
    it.does(sends(it, session, 91, key="k", base_version=0))
    assert it.state.progress.rulings["applied"] == 1


def test_a_key_that_comes_back_is_still_in_quarantine_and_a_session_without_one_is_forgotten() -> None:
    it = learner(silence_s=5.0)
    (session,) = joined(it, "k")
    misbehave(it, session, "k")
    (again,) = joined(it, "k", instance=50)
    assert ruling(sends(it, again, 1, key="k")).outcome == Reason.QUARANTINED
    other = learner()
    (session,) = joined(other, "")
    misbehave(other, session, "")
    (again,) = joined(other, "", instance=50)
    other.does(sends(other, again, 1))
    assert other.state.progress.rulings["applied"] == 1


def test_overdrawing_is_held_against_its_sender() -> None:
    it = learner(credit=1, most_credit=1, max_lag_s=1000.0)
    (session,) = joined(it, "k")
    sends(it, session, 1, key="k")
    report = Report(5)
    told = [announced(sends(it, session, number, key="k", report=report)) for number in range(2, TOLERATED + 3)]
    assert told[-1] == ["quarantined"]
    assert not any(told[:-1])
    assert it.state.progress.env_steps == 0  # what it reports is not read either


def test_what_waits_of_a_revoked_key_is_dropped() -> None:
    it = learner()
    good, bad = joined(it, "g", "b")
    sends(it, good, 1, 0, "g")  # with the math thread
    sends(it, bad, 1, 1, "b")
    sends(it, good, 2, 0, "g")
    it.post(KeysRevoked({"b": ROLES}))
    assert it.state.queue.waiting() == {good: 1}


# norms


def test_a_norm_far_above_the_usual_one_is_refused_and_told_apart_from_age() -> None:
    it = learner(norm_factor=10.0)
    one, two, three = joined(it, "a", "b", "c")
    for n, (session, key) in enumerate(((one, "a"), (two, "b"), (three, "c"))):
        it.does(sends(it, session, 1, n, key))
    effects = it.does(sends(it, three, 2, 2, "c", body=payload(100.0 * ONES), base_version=3))
    assert ruling(effects).outcome == Reason.NORM_EXCEEDED
    it.does(sends(it, three, 3, 2, "c", body=payload(9.0 * ONES), base_version=3))
    assert it.state.progress.rulings["applied"] == 4


def test_refused_norms_are_no_misconduct_and_are_told_at_once_and_then_once_a_minute() -> None:
    it = learner(norm_bound=5.0, silence_s=1000.0)
    (session,) = joined(it, "k")
    told = [
        announced(it.does(sends(it, session, number, key="k", body=payload(100.0 * ONES)))) for number in range(1, 41)
    ]
    assert told == [["norm_exceeded"], *([[]] * 39)]
    (announcement,) = every(it.tick(61.0), Announce)
    assert announcement.fields == {"actor": "actor-0", "refused": 39}
    assert announced(it.tick(130.0)) == []
    it.does(sends(it, session, 90, key="k", base_version=0))
    assert it.state.progress.rulings == {"norm_exceeded": 40, "applied": 1}
    assert announced(it.does(sends(it, session, 91, key="k", body=payload(100.0 * ONES)))) == ["norm_exceeded"]


@pytest.mark.parametrize("keys", [("k", "k"), ("", ""), ("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d", "e")])
@pytest.mark.parametrize("before", [0.0, 1e-6])
def test_an_honest_fleet_may_meet_something_new_after_gradients_that_were_nearly_nought(
    keys: tuple[str, ...], before: float
) -> None:
    it = learner(credit=8)
    sessions = joined(it, *keys)
    for sequence in range(1, 20):
        for n, session in enumerate(sessions):
            it.does(sends(it, session, sequence, n, keys[n], body=payload(before * ONES), base_version=0))
    for sequence in range(20, 40):  # and one of them meets it first
        it.does(sends(it, sessions[0], sequence, 0, keys[0], body=payload(25.0 * ONES), base_version=0))
    assert it.state.progress.rulings == {"applied": 19 * len(sessions) + 20}
    assert it.state.admission.quarantined == 0


# shares


def test_one_who_floods_gets_its_share_and_no_more() -> None:
    it = learner(credit=600, most_credit=600)
    flood, modest = joined(it, "f", "m")
    first = sends(it, flood, 1, 0, "f")
    for sequence in range(2, 500):
        sends(it, flood, sequence, 0, "f")
    for sequence in range(1, 4):
        sends(it, modest, sequence, 1, "m")
    jobs = only(it.does(first), ApplyBatch).jobs
    assert [job.sequence for job in jobs if job.session == modest] == [1, 2, 3]
    assert jobs[1].session == modest or jobs[0].session == modest


# groups


def groups(**settings: Any) -> It:
    return learner(
        staleness_rule="none",
        **{"aggregation": "median", "aggregate_window": 3, "norm_factor": "none", "aggregate_least": 1, **settings},
    )


def test_a_group_makes_one_version_and_each_of_it_is_told() -> None:
    it = groups()
    sessions = joined(it, "a", "b", "c")
    assert not every(sends(it, sessions[0], 1, 0, "a", body=payload(ONES)), ApplyBatch)
    assert not every(sends(it, sessions[1], 1, 1, "b", body=payload(3.0 * ONES)), ApplyBatch)
    effects = it.does(sends(it, sessions[2], 1, 2, "c", body=payload(-900.0 * ONES)))
    assert [told.rulings for told in messages(effects, Verdict)] == [(Ruling(1, "applied", 1, 1.0),)] * 3
    assert applied(it) == -0.5  # the median, at a rate of 0.5
    assert it.state.progress.version == 1


@pytest.mark.parametrize(("rule", "theta"), [("mean", -0.5 * (1 + 3 - 10) / 3), ("trimmed_mean", -0.5)])
def test_the_rule_is_the_one_that_was_asked_for(rule: str, theta: float) -> None:
    it = groups(aggregation=rule)
    sessions = joined(it, "a", "b", "c")
    for n, value in enumerate((1.0, 3.0, -10.0)):
        effects = sends(it, sessions[n], 1, n, "abc"[n], body=payload(value * ONES))
    it.does(effects)
    assert applied(it) == pytest.approx(theta)


def test_a_sparse_codec_is_refused_where_gradients_are_merged() -> None:
    it = groups()
    (session,) = joined(it, "a")
    assert ruling(sends(it, session, 1, key="a", codec="topk_i8")).outcome == Reason.UNKNOWN_CODEC


def test_what_is_unsound_is_left_out_of_its_group() -> None:
    it = groups()
    sessions = joined(it, "a", "b", "c")
    sends(it, sessions[0], 1, 0, "a")
    sends(it, sessions[1], 1, 1, "b", body=NAN)
    effects = it.does(sends(it, sessions[2], 1, 2, "c", body=payload(3.0 * ONES)))
    told = [verdict.rulings[0].outcome for verdict in messages(effects, Verdict)]
    assert told == ["applied", Reason.NOT_FINITE, "applied"]
    assert it.parameters.version == 1


def test_a_group_of_nothing_sound_makes_no_version() -> None:
    it = groups(aggregate_window=2)
    sessions = joined(it, "a", "b")
    sends(it, sessions[0], 1, 0, "a", body=NAN)
    effects = it.does(sends(it, sessions[1], 1, 1, "b", body=NAN))
    assert it.parameters.version == 0
    assert len(messages(effects, Verdict)) == 2


def test_no_group_is_smaller_than_it_may_be_however_long_it_waits() -> None:
    it = groups(aggregate_least=3, aggregate_window=8)
    sessions = joined(it, "a", "b")
    for n in (0, 1):  # who comes first is not the whole fleet
        assert not every(sends(it, sessions[n], 1, n, "ab"[n]), ApplyBatch)
    assert not every(it.tick(50.0), ApplyBatch)
    (third,) = joined(it, "c", instance=9)
    assert len(only(sends(it, third, 1, 0, "c"), ApplyBatch).jobs) == 3


def test_one_key_has_one_place_in_a_group() -> None:
    it = groups(credit=4, most_credit=4)
    sessions = joined(it, "a", "a", "b", "c")
    for sequence in (1, 2, 3):
        for n in (0, 1):
            assert not every(sends(it, sessions[n], sequence, n, "a"), ApplyBatch)
    assert not every(sends(it, sessions[2], 1, 2, "b"), ApplyBatch)
    order = only(sends(it, sessions[3], 1, 3, "c"), ApplyBatch)
    assert len(order.jobs) == 3


def test_a_group_that_waits_too_long_goes_with_more_than_half() -> None:
    it = groups(aggregate_wait_s=2.0)
    sessions = joined(it, "a", "b", "c")
    sends(it, sessions[0], 1, 0, "a")
    assert not every(it.tick(5.0), ApplyBatch)
    assert len(only(sends(it, sessions[1], 1, 1, "b"), ApplyBatch).jobs) == 2
    other = groups(aggregate_wait_s=2.0)
    sessions = joined(other, "a", "b", "c")
    for n in (0, 1):
        assert not every(sends(other, sessions[n], 1, n, "ab"[n]), ApplyBatch)
    assert not every(other.tick(1.9), ApplyBatch)
    assert len(only(other.tick(2.1), ApplyBatch).jobs) == 2


def test_a_run_that_ends_sends_home_whom_no_group_comes_together_for() -> None:
    it = groups()
    sessions = joined(it, "a", "b", "c")
    sends(it, sessions[0], 1, 0, "a")
    effects = it.post(StopRequested("enough", 0))
    assert ruling(effects).outcome == Reason.DRAINING
    assert it.state.shutdown.stage is Stage.FINISHED or not every(effects, Finish)


def seen_by(mean: float, count: int = 4) -> bytes:
    """The moments of that many observations."""
    return np.array([mean, 1.0], "<f8").tobytes()


def with_moments(it: It, session: int, n: int, mean: float, rows: int = 4) -> Any:
    header = gradient(session, 1, report=Report(rows, observations=rows))
    return it.hear(header, payload(), seen_by(mean), route=bytes([n]), key="abc"[n])


def test_an_observation_that_nobody_made_moves_the_normaliser_by_one_vote() -> None:
    it = groups()
    it.parameters.moments = Moments.empty(1)
    sessions = joined(it, "a", "b", "c")
    with_moments(it, sessions[0], 0, 1.0)
    with_moments(it, sessions[1], 1, 3.0)
    it.does(with_moments(it, sessions[2], 2, 1e30, rows=MAX_REPORT_STEPS))
    assert it.parameters.moments.mean.tolist() == [3.0]
    assert it.parameters.moments.count == 12


def test_observations_of_more_rows_than_steps_are_passed_over_and_the_gradient_stands() -> None:
    it = learner()
    it.parameters.moments = Moments.empty(1)
    (session,) = joined(it, "a")
    header = gradient(session, 1, report=Report(4, observations=5))
    assert ruling(it.does(it.hear(header, payload(), seen_by(1.0), route=bytes(1), key="a"))).outcome == "applied"
    assert it.parameters.moments.count == 0
    assert it.state.progress.reports_doubted == 1


def test_a_gradient_without_observations_takes_nobody_elses_away() -> None:
    it = groups(aggregation="mean")
    it.parameters.moments = Moments.empty(1)
    sessions = joined(it, "a", "b", "c")
    with_moments(it, sessions[0], 0, 1.0)
    with_moments(it, sessions[1], 1, 3.0)
    it.does(sends(it, sessions[2], 1, 2, "c"))
    assert (it.parameters.moments.count, it.parameters.moments.mean.tolist()) == (8, [2.0])


def test_who_is_in_quarantine_is_not_waited_for() -> None:
    it = groups(aggregate_window=4)
    sessions = joined(it, "a", "b", "c", "x")
    for sequence in range(1, TOLERATED + 2):
        for n in range(4):
            effects = sends(it, sessions[n], sequence, n, "abcx"[n], body=NAN if n == 3 else payload())
        it.does(effects)
    for n in range(3):
        effects = sends(it, sessions[n], 90, n, "abc"[n])
    assert len(only(effects, ApplyBatch).jobs) == 3


def test_senders_that_are_missing_are_told_once() -> None:
    it = groups(aggregate_least=3, silence_s=100.0)
    sessions = joined(it, "a", "b")
    for n in (0, 1):
        sends(it, sessions[n], 1, n, "ab"[n])
    told = [name for _ in range(30) for name in announced(it.tick(it.now + 1.0))]
    assert told == ["senders_missing"]
    (third,) = joined(it, "c", instance=9)
    it.does(sends(it, third, 1, 0, "c"))
    assert announced(it.tick(it.now + 0.1)) == ["senders_complete"]


def test_numbers_that_were_answered_count_for_the_quota() -> None:
    it = learner(quota_gradients_per_s=0.4)
    (session,) = joined(it, "k")
    it.does(sends(it, session, 1, key="k"))
    assert ruling(sends(it, session, 1, key="k")).outcome == "applied"
    assert ruling(sends(it, session, 2, key="k")).outcome == Reason.OVER_QUOTA
