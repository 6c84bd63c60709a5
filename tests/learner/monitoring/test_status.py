"""What /status and /history say, read from books that tests wrote."""

from __future__ import annotations

import pytest

from learner.config import LearnerSettings
from learner.monitoring.history import INTERVAL_S, Point
from learner.monitoring.status import ACTORS_LISTED, FIELDS, FleetQuery, Sampler, history, status
from learner.monitoring.summary import STALLED_S
from learner.monitoring.web import PAGE
from learner.progress import Best
from learner.shutdown import Stage
from learner.state import LearnerState
from protocol.session import Peer
from tests.deploy.rules import alerts
from tests.learner.books import join, learner_state, lived, scaled, trained


def running(scores: list[float] | None = None) -> tuple[LearnerState, Peer]:
    """A run that trains since second 1, with one actor."""
    state = learner_state(trained(scores or [3.0, 5.0]))
    peer = join(state, "local-0", now=1.0)
    state.training_since = 1.0
    return state, peer


def test_status_tells_of_each_actor() -> None:
    state = learner_state(trained([3.0]))
    peer = join(state, "local-0", now=1.0)
    peer.version, peer.env_steps = 1, 640
    told = status(state, 4.0)
    assert told["version"] == 3
    assert told["actors"] == 1
    (actor,) = told["actor_list"]
    assert (actor["name"], actor["lag_updates"], actor["silent_s"], actor["env_steps"]) == ("local-0", 2, 3.0, 640)


def test_status_tells_roles_and_what_was_evaluated() -> None:
    state = learner_state(trained([3.0]))
    join(state, "local-0", now=1.0)
    join(state, "judge", now=1.0, role="evaluate")
    state.progress.evaluations, state.progress.best = 2, Best(9.5, 1)
    told = status(state, 4.0)
    assert [actor["role"] for actor in told["actor_list"]] == ["train", "evaluate"]
    assert (told["actors"], told["evaluators"], told["target_version"]) == (1, 1, None)
    assert told["staleness_rule"] == "compensate"
    assert (told["evaluations"], told["evaluated_best_mean"], told["evaluated_best_version"]) == (2, 9.5, 1)


def test_status_is_bounded() -> None:
    state = learner_state()
    for number in range(ACTORS_LISTED + 5):
        join(state, f"a{number}", 0.0)
    told = status(state, 0.0, query=FleetQuery(actors=5 * ACTORS_LISTED))
    assert told["actors"] == ACTORS_LISTED + 5
    assert len(told["actor_list"]) == ACTORS_LISTED


def test_rates_are_of_the_last_seconds() -> None:
    state, peer = running()
    sampler = Sampler()
    sampler.sample(state, 1.0)
    state.progress.env_steps += 300
    state.progress.received_bytes += 600
    state.progress.math_s += 1.5
    state.progress.lags.observe(4)
    peer.env_steps += 30
    told = status(state, 4.0, sampler)
    assert (told["env_steps_per_s"], told["received_bytes_per_s"], told["updates_per_s"]) == (100.0, 200.0, 0.0)
    assert (told["math_share"], told["lag_updates"]) == (0.5, 4.0)
    assert told["actor_list"][0]["env_steps_per_s"] == 10.0


def test_no_rate_is_told_before_it_is_known() -> None:
    told = status(running()[0], 4.0)
    assert told["env_steps_per_s"] is None
    assert told["limit"]["cause"] == "unknown"


def test_compression_is_what_the_result_will_say() -> None:
    assert status(running()[0], 4.0)["compression"] == pytest.approx(4 * 10 / 125.0)
    assert status(learner_state(), 4.0)["compression"] is None


def test_extremes_are_those_of_the_last_episodes() -> None:
    told = status(running([3.0, -7.0, 5.0])[0], 4.0)
    assert (told["return_min"], told["return_max"]) == (-7.0, 5.0)


@pytest.mark.parametrize("by", sorted(FIELDS))
def test_every_field_of_an_actor_can_be_sorted_by(by: str) -> None:
    state = learner_state()
    join(state, "b", 0.0)
    join(state, "a", 1.0, role="evaluate")
    rows = status(state, 2.0, query=FleetQuery(by=by))["actor_list"]
    assert rows == sorted(rows, key=lambda row: (row[by] is not None and row[by], row["ordinal"]))
    assert all(by in row for row in rows)


def test_the_largest_come_first_if_asked_and_the_unknown_last() -> None:
    state = learner_state()
    first, second = join(state, "a", 0.0), join(state, "b", 0.0)
    sampler = Sampler()
    sampler.sample(state, 0.0)
    join(state, "new", 2.0)
    first.env_steps, second.env_steps = 10, 20
    query = FleetQuery(by="env_steps_per_s", descending=True)
    assert [row["name"] for row in status(state, 2.0, sampler, query)["actor_list"]] == ["b", "a", "new"]
    query = FleetQuery(actors=1, by="env_steps_per_s")
    assert [row["name"] for row in status(state, 2.0, sampler, query)["actor_list"]] == ["a"]


def test_an_actor_is_called_what_it_does() -> None:
    state = learner_state()
    _, still, busy = (join(state, name, 0.0) for name in "abc")
    judge = join(state, "d", 0.0, role="evaluate")
    for peer in (still, busy, judge):
        peer.heard_at = 99.0
    busy.progressed_at = 98.0
    assert [row["state"] for row in status(state, 100.0)["actor_list"]] == [
        "silent",
        "standing still",
        "training",
        "evaluating",
    ]
    for _ in range(20):
        state.admission.record_outcome(busy.sender, busy.name, "not_finite", 99.9)
    told = status(state, 100.0)
    assert told["actor_list"][2]["state"] == "quarantined"
    assert told["actor_states"] == {"silent": 1, "standing still": 1, "quarantined": 1, "evaluating": 1}


def limits(state: LearnerState, now: float, sampler: Sampler) -> str:
    cause: str = status(state, now, sampler)["limit"]["cause"]
    return cause


def test_what_limits_the_run_is_read_from_the_books() -> None:
    state, peer = running()
    sampler = Sampler()
    sampler.sample(state, 1.0)
    assert limits(state, 2.0, sampler) == "actors"
    state.progress.math_s += 2.0
    assert limits(state, 3.0, sampler) == "math"
    assert limits(state, 60.0, sampler) == "stalled"
    state.sessions.close(peer)
    assert limits(state, 60.0, sampler) == "no_actors"
    state.shutdown.stage = Stage.DRAINING
    assert limits(state, 60.0, sampler) == "ended"


def test_what_more_actors_would_add_is_read_from_the_books() -> None:
    state, _ = running()
    sampler = Sampler()
    sampler.sample(state, 1.0)
    names = ("noise_scale_env_steps", "useful_actors", "gain_two_more", "gain_hundred_more")
    told = status(state, 2.0, sampler)
    assert [told[name] for name in (*names, "batch_env_steps")] == [None] * 5
    join(state, "local-1", now=1.0)
    scaled(state, messages=20.0, steps=100, batch=128)
    told = status(state, 2.0, sampler)
    assert [told[name] for name in names] == [2000.0, 20, 0.887, 1.495]
    assert told["batch_env_steps"] == 128.0
    assert "Two more actors would make learning 89% faster" in told["limit"]["text"]
    scaled(state, messages=20.0, steps=100, batch=128, told=False)
    told = status(state, 2.0, sampler)
    assert [told[name] for name in names] == [None, None, 0.887, 1.495]
    assert "at least 89% faster" in told["limit"]["text"]


def test_an_actor_with_the_most_credit_there_is_waits_for_more() -> None:
    state, peer = running()
    sampler = Sampler()
    sampler.sample(state, 1.0)
    assert LearnerSettings().most_credit == 32
    peer.credit = 32
    assert limits(state, 2.0, sampler) == "credit"


def test_the_idle_time_is_since_the_version_grew() -> None:
    state, _ = running()
    assert status(state, 2.0)["idle_s"] == 1.0  # since there is an actor
    state.progress.advance(4, 0.1, 5.0)
    assert status(state, 5.0)["idle_s"] == 0.0
    assert status(state, 9.0)["idle_s"] == 4.0


def test_page_status_and_alert_mean_the_same_by_stalled() -> None:
    state, _ = running()
    for moment, expected in ((STALLED_S - 0.1, False), (STALLED_S, True)):
        state.progress.advanced_at = 100.0
        told = status(state, 100.0 + moment)
        scraped = lived(state, lambda moment=moment: 100.0 + moment).render().decode()  # type: ignore[misc]
        assert (told["stalled"], told["limit"]["cause"] == "stalled") == (expected, expected)
        assert f"farflung_learner_stalled {float(expected)}" in scraped
    script = (PAGE / "page.js").read_text(encoding="utf-8")
    assert "s.stalled" in script
    assert "STALLED_S" not in script
    assert alerts()["TrainingStalled"]["expr"] == "farflung_learner_stalled == 1"


def test_history_gives_columns_and_only_what_is_new() -> None:
    state, _ = running()
    sampler = Sampler()
    for tick in range(1, 4):
        sampler.sample(state, 1.0 + tick * INTERVAL_S)
    told = history(state, sampler, -1.0)
    assert (told["epoch"], told["interval_s"]) == (3, INTERVAL_S)
    assert set(Point._fields) < set(told)
    assert told["time_s"] == [2 * INTERVAL_S, 3 * INTERVAL_S]
    assert told["return_mean"] == [4.0, 4.0]
    assert history(state, sampler, 2 * INTERVAL_S)["time_s"] == [3 * INTERVAL_S]
    assert history(state, sampler, 99.0)["time_s"] == []


def test_no_curve_begins_before_the_first_weights() -> None:
    state = learner_state()
    sampler = Sampler()
    for second in range(5):
        sampler.sample(state, float(second))
    assert history(state, sampler, -1.0)["time_s"] == []
