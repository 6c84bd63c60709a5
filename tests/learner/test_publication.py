"""Snapshots keep to their interval and to their share of the math thread."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from learner.publication import Publication


def test_the_first_snapshot_is_due_at_once() -> None:
    assert Publication(5.0, 0.1).due(0, 0.0)


def test_nothing_newer_is_never_due() -> None:
    publication = Publication(0.0, 1.0, version=7)
    assert not publication.due(7, 1e9)
    assert publication.due(8, 0.0)


def test_the_interval_runs_from_start_to_start() -> None:
    publication = Publication(interval_s=2.0, share=1.0)
    publication.done(1, now=10.5, cost_s=0.5)
    assert not publication.due(2, 11.9)
    assert publication.due(2, 12.0)


def test_a_costly_snapshot_waits_for_its_share() -> None:
    publication = Publication(interval_s=0.0, share=0.25)
    publication.done(1, now=1.0, cost_s=1.0)
    assert not publication.due(2, 3.9)
    assert publication.due(2, 4.0)


def test_a_cheap_one_after_a_costly_one_is_quick_again() -> None:
    publication = Publication(interval_s=0.0, share=0.5)
    publication.done(1, now=1.0, cost_s=1.0)
    publication.done(2, now=2.5, cost_s=0.5)
    assert publication.due(3, 3.0)


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=40), st.floats(0.01, 1.0), st.floats(0.0, 2.0))
def test_the_share_holds_whatever_the_costs(costs_s: list[float], share: float, interval_s: float) -> None:
    publication, now, spent_s, step_s = Publication(interval_s, share), 0.0, 0.0, 1.0 / 64
    for version, cost_s in enumerate(costs_s):
        while not publication.due(version, now):
            now += step_s
        assert spent_s <= share * now + 1e-9
        now, spent_s = now + cost_s, spent_s + cost_s
        publication.done(version, now, cost_s)
