"""The scrape: read back by Prometheus' own parser, true to the books, bounded in its labels."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from learner.durability.storage import JournalStats
from learner.monitoring.metrics import Metrics, ServiceReadings
from learner.monitoring.summary import STALLED_S, stalled
from learner.progress import WINDOW, Best, Progress
from learner.state import LearnerState
from protocol.messages import Episode, Losses, Metric, Report
from tests.learner.books import fleet, join, learner_state, lived, scaled, trained, whole

UNKNOWN = ("return_mean", "return_target", "checkpoint_age_seconds", "target_version", "evaluated_best_mean")


Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(state: LearnerState, now: float = 10.0, shell: ServiceReadings | None = None) -> Series:
    page = lived(state, lambda: now, shell).render().decode()
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


def test_counters_begin_at_zero_in_each_life_and_gauges_tell_of_the_run() -> None:
    """A crash takes the books back to the checkpoint: less than was scraped, and not zero."""
    saved = trained([10.0])
    saved.sessions_granted, saved.gradients_received, saved.evaluations = 4, 3, 2
    state = learner_state(Progress.restored(saved.saved(), 3))
    metrics = Metrics(state, lambda: 10.0)
    counters = [family for family in metrics.families() if family.type == "counter" and "process" not in family.name]
    assert len(counters) > 15
    assert not any(sample.value for family in counters for sample in family.samples)
    state.progress.record(Report(250, (Episode(1.0, 10),), Losses()))
    state.progress.rulings["applied"] += 1
    state.progress.received("topk_i8", 100)
    told = metrics.render().decode()
    for line in (
        "env_steps_total 250.0",
        "run_env_steps 1250.0",
        "episodes_total 1.0",
        "run_episodes 2.0",
        'gradients_total{outcome="applied"} 1.0',
        "gradient_received_bytes_total 100.0",
        "gradient_dense_bytes_total 40.0",
        "received_bytes_total 0.0",
        "run_received_bytes 500.0",
        "run_sent_bytes 900.0",
        "version 3.0",
    ):
        assert f"\nfarflung_learner_{line}\n" in told


def test_the_best_and_the_worst_window() -> None:
    state = learner_state(trained([1.0] * (WINDOW - 1)))
    assert "farflung_learner_return_worst_mean" not in {name for name, _ in scraped(state)}
    state.progress.record(Report(10, tuple(Episode(score, 10) for score in [1.0] + [3.0] * WINDOW), Losses()))
    assert (value(state, "return_worst_mean"), value(state, "return_best_mean")) == (1.0, 3.0)


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


def test_what_environments_measure_is_a_series_for_each_name_whatever_it_is() -> None:
    state = learner_state(trained([10.0]))
    assert value(state, "explained_variance") == 0.75
    state.progress.record(Report(10, metrics=(Metric('50 % "km"', 3.0, 2),)))
    assert (value(state, "environment_metric", metric="success"), value(state, "metrics_left_out_total")) == (0.5, 0)
    assert 'environment_metric{metric="50 % \\"km\\""} 3.0' in lived(state).render().decode()


def test_evaluations_and_the_target_network() -> None:
    state = learner_state(trained([10.0]), target_interval_steps=100)
    join(state, "judge", 0.0, "evaluate")
    state.progress.evaluations, state.progress.best = 2, Best(9.5, 1)
    assert (value(state, "actors"), value(state, "evaluators"), value(state, "evaluations_total")) == (0, 1, 2)
    assert (value(state, "evaluated_best_mean"), value(state, "evaluated_best_version")) == (9.5, 1)
    assert value(state, "target_version") == 0


def test_what_more_actors_are_good_for() -> None:
    names = ("batch_env_steps", "noise_scale_env_steps", "useful_actors")
    state = learner_state()
    join(state, "a", 0.0)
    assert not any(("farflung_learner_" + name, ()) in scraped(state) for name in names)
    scaled(state, messages=20.0, steps=100, batch=64)
    assert [value(state, name) for name in names] == [64.0, 2000.0, 10.0]
    scaled(state, told=False)
    assert [("farflung_learner_" + name, ()) in scraped(state) for name in names] == [True, False, False]


def test_the_histogram_is_cumulative() -> None:
    state = learner_state(trained([1.0]))
    assert value(state, "lag_updates_bucket", le="0.0") == 1
    assert value(state, "lag_updates_bucket", le="2.0") == 2
    assert value(state, "lag_updates_bucket", le="+Inf") == 3
    assert value(state, "lag_updates_count") == 3
    assert value(state, "lag_updates_sum") == 7


def test_no_series_is_added_by_an_actor() -> None:
    assert scraped(fleet(50)).keys() == scraped(fleet(1)).keys()


def test_a_thousand_actors_fit_in_four_hundred_series() -> None:
    state, shell = whole(1000)
    page = Metrics(state, lambda: 10.0, shell).render().decode()
    samples = [line for line in page.splitlines() if not line.startswith("#")]
    assert state.sessions.training == 1000
    assert len(samples) <= 400


def test_what_nobody_here_named_is_no_label() -> None:
    state = fleet(1)
    before = scraped(state).keys()
    for number in range(20):
        state.progress.received(f"made-up-{number}", 10)
    assert scraped(state).keys() == before
    assert value(state, "codec_gradients_total", codec="unknown") == 20


def test_a_fleet_is_sums_and_quantiles() -> None:
    state = fleet(101)
    assert value(state, "actor_seconds_total", part="collect") == pytest.approx(50.5)
    assert value(state, "actor_seconds_total", part="wait") == pytest.approx(10.1)
    assert [value(state, "actor_env_steps_per_second", quantile=q) for q in ("0", "0.5", "1")] == [0, 500, 1000]
    assert [value(state, "actor_round_trip_seconds", quantile=q) for q in ("0", "1")] == pytest.approx([0.001, 0.101])
    assert value(state, "actor_silent_seconds", quantile="1") == 7.0
    assert value(state, "residual_age_gradients", quantile="1") == 49
    assert value(state, "actor_lag_updates", quantile="0.5") == 3


def test_queues() -> None:
    state = fleet(3)
    assert value(state, "unanswered_gradients") == 3
    assert value(state, "pending_gradients") == 2  # the first is with the math thread
    assert value(state, "pending_bytes") == 2
    assert value(state, "credit") == sum(peer.credit for peer in state.peers.values())


def test_bytes_by_codec_and_as_they_would_be_dense() -> None:
    state = fleet(3)
    assert value(state, "codec_gradients_total", codec="topk_i8") == 3
    assert value(state, "codec_bytes_total", codec="topk_i8") == 300
    assert value(state, "gradient_dense_bytes_total") == 3 * 4 * 10
    state.progress.weight_bytes["key"] += 40
    assert value(state, "weight_bytes_total", record="key") == 40
    assert value(state, "weight_bytes_total", record="updates") == 0


def test_threads_the_gate_and_the_journal_are_the_services_to_tell() -> None:
    state = learner_state()
    shell = ServiceReadings(loop_busy_s=lambda: 1.5, math_busy_s=lambda: 21.0, unauthenticated=lambda: 6)
    shell.loop_lag.observe(0.02)
    shell.journal = lambda: JournalStats(4096, 7, 0.25)
    found = scraped(state, shell=shell)
    names = ("loop_busy_seconds_total", "math_busy_seconds", "unauthenticated_total", "strangers_total")
    assert [found[f"farflung_learner_{name}", ()] for name in names] == [1.5, 21.0, 6, 6]
    told = ("journal_bytes", "journal_syncs_total", "journal_sync_seconds_total")
    assert [found[f"farflung_learner_{name}", ()] for name in told] == [4096, 7, 0.25]
    assert found["farflung_learner_loop_lag_seconds_bucket", (("le", "0.025"),)] == 1
    assert found["farflung_learner_loop_lag_seconds_bucket", (("le", "0.01"),)] == 0


def test_stalled_needs_actors_time_and_no_version() -> None:
    state = learner_state()
    assert not stalled(state, 1e6)
    peer = join(state, "slow", 100.0)
    assert not stalled(state, 99.5 + STALLED_S)
    assert stalled(state, 100.0 + STALLED_S)
    state.progress.advance(1, 0.1, 120.0)
    assert not stalled(state, 119.5 + STALLED_S)
    assert stalled(state, 120.0 + STALLED_S)
    state.sessions.close(peer)
    assert not stalled(state, 1e6)
    join(state, "next", 1000.0)
    assert not stalled(state, 999.5 + STALLED_S)


def test_every_scrape_reads_anew() -> None:
    state = learner_state()
    metrics = Metrics(state, lambda: 0.0)
    metrics.render()
    state.progress.env_steps = 5
    assert b"farflung_learner_env_steps_total 5.0" in metrics.render()
