"""The scrape: read back by Prometheus' own parser, true to the books, bounded in its labels."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from learner.metrics import Metrics
from learner.state import LearnerState
from tests.learner.books import join, learner_state, trained

UNKNOWN = ("return_mean", "return_target", "checkpoint_age_seconds", "target_version", "evaluated_best_mean")


def scraped(state: LearnerState, now: float = 10.0) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page = Metrics(state, lambda: now).render().decode()
    families = text_string_to_metric_families(page)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(state: LearnerState, name: str, **labels: str) -> float:
    return scraped(state)[f"farflung_learner_{name}", tuple(sorted(labels.items()))]


def test_counters_are_the_books() -> None:
    state = learner_state(trained([10.0]))
    assert value(state, "env_steps_total") == 1000
    assert value(state, "episodes_total") == 1
    assert value(state, "received_bytes_total") == 500
    assert value(state, "sent_bytes_total") == 900
    assert value(state, "math_seconds_total") == 0.25
    assert value(state, "gradients_total", outcome="applied") == 3
    assert value(state, "gradients_total", outcome="stale_updates") == 1
    assert value(state, "faults_total", reason="oversize") == 2


def test_a_series_is_there_before_its_first_event() -> None:
    assert value(learner_state(), "gradients_total", outcome="not_finite") == 0
    assert value(learner_state(), "faults_total", reason="checkpoint_failed") == 0


def test_gauges_that_are_not_known_are_left_out() -> None:
    names = {name for name, _ in scraped(learner_state(until_return=None))}
    assert not names & {f"farflung_learner_{n}" for n in UNKNOWN}


def test_gauges() -> None:
    state = learner_state(trained([10.0, 20.0]))
    join(state, "local-0", 0.0)
    state.saving.version, state.saving.written_at, state.training_since = 2, 4.0, 1.0
    assert value(state, "return_mean") == 15.0
    assert value(state, "actors") == 1
    assert value(state, "version") == 3
    assert value(state, "checkpoint_age_seconds") == 6.0
    assert value(state, "training_seconds") == 9.0
    assert value(state, "running") == 1.0


def test_evaluations_and_the_target_network() -> None:
    state = learner_state(trained([10.0]), target_interval_steps=100)
    join(state, "judge", 0.0, "evaluate")
    state.progress.evaluations, state.progress.evaluated_best_mean, state.progress.evaluated_best_version = 2, 9.5, 1
    assert (value(state, "actors"), value(state, "evaluators"), value(state, "evaluations_total")) == (0, 1, 2)
    assert (value(state, "evaluated_best_mean"), value(state, "evaluated_best_version")) == (9.5, 1)
    assert value(state, "target_version") == 0


def test_the_histogram_is_cumulative() -> None:
    state = learner_state(trained([1.0]))
    assert value(state, "lag_updates_bucket", le="0.0") == 1
    assert value(state, "lag_updates_bucket", le="2.0") == 2
    assert value(state, "lag_updates_bucket", le="+Inf") == 3
    assert value(state, "lag_updates_count") == 3
    assert value(state, "lag_updates_sum") == 7


def test_no_series_is_added_by_an_actor() -> None:
    state = learner_state()
    before = set(scraped(state))
    for number in range(50):
        join(state, f"actor-{number}", 0.0)
    assert set(scraped(state)) == before


def test_every_scrape_reads_anew() -> None:
    state = learner_state()
    metrics = Metrics(state, lambda: 0.0)
    metrics.render()
    state.progress.env_steps = 5
    assert b"farflung_learner_env_steps_total 5.0" in metrics.render()
