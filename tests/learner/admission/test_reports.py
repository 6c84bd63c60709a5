"""What counts of a report, by what became of its gradient."""

from __future__ import annotations

import pytest

from learner.admission.reports import BLAMELESS, Reports
from learner.events import Announce
from learner.progress import MOST_METRICS, Progress
from protocol.errors import Reason
from protocol.messages import MAX_METRICS, Episode, Gradient, Losses, Metric, Report
from protocol.session import Ledger, Peer

TOLD = Report(10, (Episode(5.0, 4),), Losses(policy=0.5))


def peer() -> Peer:
    return Peer(1, 1, "actor", 0, b"route", 0.0, Ledger(1))


def gradient(report: Report | None = TOLD) -> Gradient:
    return Gradient(1, 1, 7, "f32", 4, 4, report)


def test_steps_count_when_they_are_told() -> None:
    progress, sender = Progress(), peer()
    report, told = Reports(progress).receive(gradient(), sender, 3.0)
    assert (report, told) == (TOLD, [])
    assert (progress.env_steps, progress.episodes, progress.losses) == (10, 0, Losses())
    assert (sender.version, sender.env_steps, sender.episode_steps, sender.progressed_at) == (7, 10, 4, 3.0)


def test_a_gradient_without_a_report_tells_its_version_alone() -> None:
    progress, sender = Progress(), peer()
    assert Reports(progress).receive(gradient(None), sender, 3.0) == (None, [])
    assert (sender.version, sender.progressed_at, progress.env_steps) == (7, 0.0, 0)


@pytest.mark.parametrize("outcome", ["applied", *Reason])
def test_episodes_and_losses_count_once_nothing_speaks_against_their_sender(outcome: str) -> None:
    progress = Progress()
    Reports(progress).count(TOLD, outcome)
    counts = outcome == "applied" or outcome in BLAMELESS
    assert (list(progress.scores), progress.losses.policy) == (([5.0], 0.5) if counts else ([], 0.0))


def test_a_metric_too_many_is_left_out_counted_and_told_once() -> None:
    progress, sender = Progress(), peer()
    reports = Reports(progress)
    for number in range(0, MOST_METRICS, MAX_METRICS):
        many = tuple(Metric(f"m{number + index}", 1.0) for index in range(MAX_METRICS))
        report, told = reports.receive(gradient(Report(1, metrics=many)), sender, 3.0)
        assert (report, told) == (Report(1, metrics=many), [])
    more = Report(1, metrics=(Metric("m0", 1.0), Metric("more", 1.0)))
    report, told = reports.receive(gradient(more), sender, 3.0)
    assert report == Report(1, metrics=(Metric("m0", 1.0),))
    assert told == [Announce("metrics_left_out", {"actor": "actor", "metric": "more", "most": MOST_METRICS})]
    assert reports.receive(gradient(more), sender, 3.0)[1] == []
    assert (progress.averages.metrics_left_out, progress.reports_doubted) == (2, 0)


def test_metrics_count_with_their_gradient() -> None:
    progress = Progress()
    told = Report(10, metrics=(Metric("success", 0.5, 2),))
    Reports(progress).count(told, Reason.NOT_FINITE)
    assert progress.averages.take()["metrics"] == {}
    Reports(progress).count(told, "applied")
    assert progress.averages.take()["metrics"] == {"success": 0.5}


def test_nothing_that_could_be_a_fault_of_the_sender_is_blameless() -> None:
    assert sorted(BLAMELESS) == ["draining", "over_quota", "stale_seconds", "stale_updates"]


def test_a_rollout_began_after_the_last_report_or_with_older_weights() -> None:
    reports, sender = Reports(Progress()), peer()
    steps_at = {3: 30, 7: 70}.__getitem__
    assert reports.collected_from(gradient(), sender, steps_at) == 70
    sender.reported_at_steps = 50
    assert reports.collected_from(gradient(), sender, steps_at) == 50
    sender.reported_at_steps = 90
    assert reports.collected_from(gradient(), sender, steps_at) == 70


def test_where_there_are_stages_it_began_no_later_than_the_last_gradient_before_it() -> None:
    """What was reported moves a run on; what an actor collects next may still be of the weights from before."""
    progress = Progress(env_steps=85, tasks=(90,))
    reports, sender = Reports(progress), peer()
    steps_at = {0: 0, 7: 84, 8: 95}.__getitem__
    report, _ = reports.receive(gradient(), sender, 3.0)
    assert (report, progress.env_steps, sender.based_version) == (TOLD, 95, 7)
    later = Gradient(1, 2, 8, "f32", 4, 4, TOLD)
    began = reports.collected_from(later, sender, steps_at)
    assert began == 84
    reports.receive(later, sender, 3.0)
    reports.count(TOLD, "applied", began)
    assert (list(progress.scores), progress.episodes) == ([], 1)
    began = reports.collected_from(Gradient(1, 3, 8, "f32", 4, 4, TOLD), sender, steps_at)
    reports.count(TOLD, "applied", began)
    assert list(progress.scores) == [5.0]
