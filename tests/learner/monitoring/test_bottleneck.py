"""What limits a run: one test for each cause, and which of two comes first."""

from __future__ import annotations

import pytest

from learner.monitoring.bottleneck import Cause, Facts, find_bottleneck
from learner.monitoring.scaling import Fleet, Scaling

PACED = {"actors": 4, "responding": 4, "stepping": 4, "math_share": 0.12}


def judged(**facts: object) -> tuple[Cause, str]:
    found = find_bottleneck(Facts(**{**PACED, **facts}))  # type: ignore[arg-type]
    return found.cause, found.text


def test_actors_set_the_pace_of_a_learner_that_is_idle() -> None:
    cause, text = judged()
    assert cause is Cause.ACTORS
    assert "busy 12% of the time, nothing waits" in text


def test_what_more_actors_would_add_is_told_with_the_numbers_that_say_so() -> None:
    fleet = Fleet(16, 0.01, 1024.0, 2560.0)
    assert judged(scaling=Scaling(fleet, told=True))[1] == (
        "Actors set the pace: the math thread is busy 12% of the time, nothing waits. Two more actors would make"
        " learning 9% faster, a hundred more 2.6 times as fast: 1,024 environment steps are collected between two"
        " policies, and the noise scale is 2,560."
    )
    assert f"{fleet.gain(2):.0%} {1 + fleet.gain(100):.1f}" == "9% 2.6"


def test_a_bound_of_the_noise_scale_is_told_as_one() -> None:
    text = judged(scaling=Scaling(Fleet(16, 0.01, 1024.0, 2560.0), told=False))[1]
    assert "learning at least 9% faster, a hundred more at least 2.6 times as fast" in text
    assert text.endswith("the noise scale cannot be told yet from chance, and is at least 2,560.")


def test_nothing_is_promised_before_the_noise_scale_is_known() -> None:
    assert judged(actors=1)[1].endswith("is not known yet: the noise scale is taken from messages of two.")
    assert judged(actors=2)[1].endswith("is not known yet: it takes some pairs of messages.")


def test_more_actors_of_a_learner_without_time_left_are_no_help() -> None:
    cause, text = judged(math_share=0.97, scaling=Scaling(Fleet(100, 1.0, 6400.0, 1e9), told=True))
    assert cause is Cause.MATH
    assert "Two more actors would make learning no faster, a hundred more no faster" in text
    text = judged(math_share=0.97, scaling=Scaling(Fleet(100, 1.0, 6400.0, 1e3), told=True))[1]
    assert "learning 2% slower, a hundred more 46% slower" in text
    assert "add staleness only" in judged(math_share=0.97)[1]


def test_a_busy_math_thread_is_the_limit() -> None:
    cause, text = judged(math_share=0.97, pending=12)
    assert cause is Cause.MATH
    assert "busy 97% of the time, 12 gradients wait" in text
    assert judged(math_share=1.04)[1].count("100%") == 1


def test_one_gradient_waits_in_the_singular() -> None:
    assert "one gradient waits" in judged(pending=1)[1]


def test_more_than_half_of_the_actors_must_wait_for_credit() -> None:
    assert judged(out_of_credit=2)[0] is Cause.ACTORS
    cause, text = judged(out_of_credit=3)
    assert (cause, text) == (
        Cause.CREDIT,
        "3 of 4 actors wait for credit: learner.credit_lag allows no more under way.",
    )
    assert "groups" in judged(out_of_credit=3, aggregates=True)[1]


def test_a_saturated_learner_comes_before_credit() -> None:
    assert judged(out_of_credit=4, math_share=0.95)[0] is Cause.MATH


def test_without_actors_there_is_nothing_else_to_say() -> None:
    assert judged(actors=0, started=False, idle_s=99.0) == (Cause.NO_ACTORS, "Waiting for the first actor.")
    assert judged(actors=0, idle_s=99.0) == (Cause.NO_ACTORS, "Starved: no actor is here.")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"busy": True}, "the math thread is still at its last batch"),
        ({"responding": 0}, "no actor is heard from"),
        ({"rulings": {"stale_updates": 3}}, "gradients are refused, most as stale updates"),
        ({"aggregates": True, "pending": 2}, "2 gradients wait until their group is whole"),
        ({"stepping": 1}, "1 of 4 actors step, but no gradient comes"),
        ({"stepping": 0}, "actors answer, but none of them steps"),
    ],
)
def test_a_run_that_stands_still_says_for_how_long_and_why(facts: dict[str, object], why: str) -> None:
    assert judged(stalled=True, idle_s=12.4, **facts) == (Cause.STALLED, f"Nothing was applied for 12 s: {why}.")


def test_a_pause_that_is_no_stall_is_not_told() -> None:
    assert judged(idle_s=4.9)[0] is Cause.ACTORS


def test_gradients_that_are_mostly_refused_are_what_is_wrong() -> None:
    rulings = {"applied": 1, "stale_updates": 2, "over_quota": 1}
    assert judged(rulings=rulings) == (Cause.REFUSED, "75% of gradients are refused, most as stale updates.")
    assert judged(rulings={"applied": 3, "stale_updates": 1})[0] is Cause.ACTORS


def test_a_run_that_ends_says_how() -> None:
    assert judged(running=False, solved=True, final=True)[1] == "The run is over: its target was reached."
    assert judged(running=False, final=True)[1] == "The run is over: its step limit was reached."
    assert judged(running=False) == (Cause.ENDED, "The learner was asked to stop.")


def test_nothing_is_claimed_before_it_was_measured() -> None:
    assert judged(math_share=None)[0] is Cause.UNKNOWN
