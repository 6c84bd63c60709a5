"""Snapshots keep to their interval and to their share of the math thread; targets keep to theirs of the steps."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from learner.events import Encoded
from learner.publication import Publication, Shelf
from protocol import snapshot as records


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


def record(version: int) -> Encoded:
    return records.key(1, version, bytes(8), np.full(2, version, np.float32))


def targets(interval_steps: int | None, *published: tuple[int, int], first: int = 0) -> list[int | None]:
    """The target that each record names. published: (version, env_steps); the life begins with ``first`` steps."""
    shelf = Shelf(record(0), interval_steps, first, 0.0)
    return [shelf.put(record(version), steps, 0.0)[0].target for version, steps in published]


def test_without_an_interval_there_is_no_target() -> None:
    shelf = Shelf(record(0), None, 0, 0.0)
    assert shelf.put(record(1), 99, 0.0)[0].target is None
    assert (shelf.target, shelf.target_version) == (None, None)


def test_the_first_record_of_a_life_is_its_target() -> None:
    shelf = Shelf(record(7), 10, 500, 0.0)
    assert shelf.newest[0].target == shelf.target_version == 7
    assert shelf.target == shelf.newest
    assert shelf.newest[0].env_steps == 500


def test_the_next_record_after_each_interval_is_the_new_target() -> None:
    assert targets(10, (1, 4), (2, 9), (3, 10), (4, 11), (5, 19), (6, 23), (7, 29)) == [0, 0, 3, 3, 3, 6, 6]


def test_a_late_record_delays_no_later_target() -> None:
    assert targets(10, (1, 19), (2, 20), (3, 55), (4, 59), (5, 60)) == [1, 2, 3, 3, 5]


def test_a_resumed_life_counts_from_where_it_began() -> None:
    assert targets(10, (1, 505), (2, 513), (3, 514), first=504) == [0, 0, 3]


def test_the_target_keeps_the_bits_it_was_published_with() -> None:
    shelf = Shelf(record(0), 10, 0, 0.0)
    shelf.put(record(3), 10, 0.0)
    shelf.put(record(4), 12, 0.0)
    assert shelf.target is not None
    snapshot, buffers = shelf.target
    assert (snapshot.version, snapshot.target, snapshot.env_steps) == (3, 3, 10)
    assert np.frombuffer(buffers[0], "<f4").tolist() == [3.0, 3.0]
    assert shelf.newest[0].version == 4


def test_age_counts_from_when_newer_weights_were_published() -> None:
    shelf = Shelf(record(0), None, 0, 1.0)
    shelf.put(record(2), 0, 5.0)
    shelf.put(record(4), 0, 7.0)
    assert [shelf.lag_s(version, 10.0) for version in (0, 1, 2, 3, 4)] == [5.0, 5.0, 3.0, 3.0, 0.0]
