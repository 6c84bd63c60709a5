"""Records keep to their interval and to their share of the math thread; keys go to who asked; targets keep to theirs of
the steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from learner.config import learner_settings
from learner.events import BatchApplied, KeyFrame, Publish, Record, Send
from learner.progress import Progress
from learner.stream.best import BestCheckpoint, Candidate
from learner.stream.publisher import DutyCycle, PublishedWeights, Publisher
from protocol import snapshot as records
from protocol.messages import Applied, Evaluation, Role, SnapshotRequest, Updates
from protocol.session import Ledger, Peer

# pace


def test_the_first_is_due_at_once() -> None:
    assert DutyCycle(5.0, 0.1).ready(0.0)


def test_the_interval_runs_from_start_to_start() -> None:
    pace = DutyCycle(interval_s=2.0, share=1.0)
    pace.spent(now=10.5, cost_s=0.5)
    assert not pace.ready(11.9)
    assert pace.ready(12.0)


def test_a_costly_one_waits_for_its_share() -> None:
    pace = DutyCycle(interval_s=0.0, share=0.25)
    pace.spent(now=1.0, cost_s=1.0)
    assert not pace.ready(3.9)
    assert pace.ready(4.0)


def test_a_cheap_one_after_a_costly_one_is_quick_again() -> None:
    pace = DutyCycle(interval_s=0.0, share=0.5)
    pace.spent(now=1.0, cost_s=1.0)
    pace.spent(now=2.5, cost_s=0.5)
    assert pace.ready(3.0)


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=40), st.floats(0.01, 1.0), st.floats(0.0, 2.0))
def test_the_share_holds_whatever_the_costs(costs_s: list[float], share: float, interval_s: float) -> None:
    pace, now, spent_s, step_s = DutyCycle(interval_s, share), 0.0, 0.0, 1.0 / 64
    for cost_s in costs_s:
        while not pace.ready(now):
            now += step_s
        assert spent_s <= share * now + 1e-9
        now, spent_s = now + cost_s, spent_s + cost_s
        pace.spent(now, cost_s)


# what is made, and who gets it


def key(version: int) -> KeyFrame:
    return records.key_frame(1, version, bytes(8), np.full(2, version, np.float32))


def updates(base_version: int, version: int) -> Record:
    applied = (Applied("f32", 2, 8, 1.0),) * (version - base_version)
    return Updates(1, version, base_version, bytes(8), 2, applied), [bytes(8 * len(applied))]


def publication(version: int = 0, best: BestCheckpoint | None = None, **settings: Any) -> Publisher:
    settings = {"publish_share": 1.0, "publish_interval_s": 0.0, **settings}
    return Publisher(learner_settings(settings), key(version), best or BestCheckpoint(Progress()), 0, 0.0)


def peer(session: int, role: Role = "train") -> Peer:
    return Peer(session, session, "actor", 0, b"route %d" % session, 0.0, Ledger(1), role=role)


def batch(version: int, record: Record | None, made: KeyFrame | None = None, key_s: float = 0.0) -> BatchApplied:
    return BatchApplied((), version, record, made, 0.0, 0.0, key_s)


def test_a_record_is_made_of_news_for_those_who_train() -> None:
    it = publication(7)
    assert it.plan(news=True, listening=True, env_steps=0, now=0.0) == (7, False)
    assert it.plan(news=False, listening=True, env_steps=0, now=0.0) == (None, False)
    assert it.plan(news=True, listening=False, env_steps=0, now=0.0) == (None, False)


def test_who_asks_for_what_is_here_gets_it_at_once() -> None:
    it = publication(7)
    (answer,) = it.answer(SnapshotRequest(1), peer(1), version=7)
    assert isinstance(answer, Send)
    assert (answer.route, answer.message) == (b"route 1", it.published.key_frame[0])
    assert it.plan(news=False, listening=True, env_steps=0, now=0.0) == (None, False)


def test_one_key_answers_all_who_wait_and_ends_a_record() -> None:
    it = publication(7)
    assert it.answer(SnapshotRequest(1), peer(1), version=9) == it.answer(SnapshotRequest(2), peer(2), version=9) == []
    assert it.plan(news=True, listening=False, env_steps=0, now=0.0) == (7, True)
    published, *answers = it.publish(batch(9, updates(7, 9), key(9)), 0, 0, 0.0)
    assert isinstance(published, Publish)
    assert isinstance(published.message, Updates)
    assert [(each.route, each.message.version) for each in answers] == [(b"route 1", 9), (b"route 2", 9)]  # type: ignore[union-attr]
    assert (it.version, it.published.key_frame[0].version) == (9, 9)
    assert it.plan(news=False, listening=True, env_steps=0, now=0.0) == (None, False)


def test_a_record_that_is_a_key_answers_too() -> None:
    it = publication(7)
    it.answer(SnapshotRequest(1), peer(1), version=9)
    whole = key(9)
    published, answer = it.publish(batch(9, whole, whole), 0, 0, 0.0)
    assert isinstance(published, Publish)
    assert isinstance(answer, Send)
    assert published.message == answer.message == whole[0]


def test_who_left_gets_no_key() -> None:
    it = publication(7)
    it.answer(SnapshotRequest(1), peer(1), version=9)
    it.forget(1)
    assert it.plan(news=False, listening=True, env_steps=0, now=0.0) == (None, False)


def test_keys_keep_to_their_share() -> None:
    it = publication(publish_share=0.25)
    it.answer(SnapshotRequest(1), peer(1), version=1)
    it.publish(batch(1, updates(0, 1), key(1), key_s=1.0), 0, 0, 10.0)
    it.answer(SnapshotRequest(1), peer(1), version=2)
    assert it.plan(news=True, listening=True, env_steps=0, now=12.9) == (1, False)
    assert it.plan(news=True, listening=True, env_steps=0, now=13.0) == (1, True)


def test_an_evaluating_session_is_known_by_the_key_that_it_was_handed() -> None:
    best = BestCheckpoint(Progress())
    it = publication(7, best)
    it.answer(SnapshotRequest(1), peer(1, "evaluate"), version=7)
    it.answer(SnapshotRequest(2), peer(2, "evaluate"), version=8)
    it.publish(batch(8, updates(7, 8), key(8)), 0, 0, 0.0)
    for session, version in ((1, 7), (2, 8)):
        best.score(Evaluation(session, version, 10, float(version), 1.0, 0.6, 3), peer(session, "evaluate"), 0.0)
    assert isinstance(best.writing, Candidate)
    assert [best.writing.record[0].version, best.waiting[""].record[0].version] == [7, 8]


def test_a_target_that_is_due_orders_a_key_that_is_not_published() -> None:
    it = publication(target_interval_steps=10)
    assert it.plan(news=True, listening=True, env_steps=9, now=0.0) == (0, False)
    assert it.plan(news=True, listening=True, env_steps=10, now=0.0) == (0, True)
    (published,) = it.publish(batch(3, updates(0, 3), key(3)), 0, 10, 0.0)
    assert isinstance(published, Publish)
    assert (published.message.version, published.message.target, published.message.env_steps) == (3, 3, 10)
    assert it.published.target_version == 3
    (answer,) = it.answer(SnapshotRequest(1, True), peer(1), version=5)
    assert isinstance(answer, Send)
    assert answer.message == it.published.key_frame[0]


def test_records_between_targets_name_the_one_before() -> None:
    it = publication(target_interval_steps=10)
    (published,) = it.publish(batch(3, updates(0, 3)), 0, 10, 0.0)  # due only since the batch began: no key was ordered
    assert isinstance(published, Publish)
    assert published.message.target == 0


# the shelf


def targets(interval_steps: int | None, *published: tuple[int, int], first: int = 0) -> list[int | None]:
    """The target that each record names. published: (version, env_steps); the life begins with ``first`` steps."""
    shelf = PublishedWeights(key(0), interval_steps, first, 0.0)
    named: list[int | None] = []
    for version, steps in published:
        record, _ = shelf.add(key(version), key(version), steps, 0.0)
        assert record is not None
        named.append(record[0].target)
    return named


def test_without_an_interval_there_is_no_target() -> None:
    assert targets(None, (1, 99)) == [None]
    shelf = PublishedWeights(key(0), None, 0, 0.0)
    assert (shelf.target, shelf.target_version) == (None, None)


def test_the_first_record_of_a_life_is_its_target() -> None:
    shelf = PublishedWeights(key(7), 10, 500, 0.0)
    assert shelf.key_frame[0].target == shelf.target_version == 7
    assert shelf.target == shelf.key_frame
    assert shelf.key_frame[0].env_steps == 500


def test_the_next_record_after_each_interval_is_the_new_target() -> None:
    assert targets(10, (1, 4), (2, 9), (3, 10), (4, 11), (5, 19), (6, 23), (7, 29)) == [0, 0, 3, 3, 3, 6, 6]


def test_a_late_record_delays_no_later_target() -> None:
    assert targets(10, (1, 19), (2, 20), (3, 55), (4, 59), (5, 60)) == [1, 2, 3, 3, 5]


def test_a_resumed_life_counts_from_where_it_began() -> None:
    assert targets(10, (1, 505), (2, 513), (3, 514), first=504) == [0, 0, 3]


def test_the_target_keeps_the_bits_it_was_published_with() -> None:
    shelf = PublishedWeights(key(0), 10, 0, 0.0)
    shelf.add(key(3), key(3), 10, 0.0)
    shelf.add(key(4), key(4), 12, 0.0)
    assert shelf.target is not None
    snapshot, buffers = shelf.target
    assert (snapshot.version, snapshot.target, snapshot.env_steps) == (3, 3, 10)
    assert np.frombuffer(buffers[0], "<f4").tolist() == [3.0, 3.0]
    assert shelf.key_frame[0].version == 4


def test_age_counts_from_when_newer_weights_were_published() -> None:
    shelf = PublishedWeights(key(0), None, 0, 1.0)
    shelf.add(key(2), key(2), 0, 5.0)
    shelf.add(key(4), key(4), 0, 7.0)
    assert [shelf.lag_s(version, 10.0) for version in (0, 1, 2, 3, 4)] == [5.0, 5.0, 3.0, 3.0, 0.0]


def test_a_large_fleet_hears_of_less_at_once() -> None:
    """A thousand followers cost the sockets' thread 10 ms for each record, which is a tenth of 100 ms."""
    it = publication(publish_share=0.1)
    it.publish(batch(1, updates(0, 1)), 1000, 0, 10.0)
    for now, due in ((10.05, False), (10.11, True)):
        above, _ = it.plan(news=True, listening=True, env_steps=0, now=now)
        assert (above is not None) is due


def test_the_steps_of_a_version_are_those_of_its_publication() -> None:
    shelf = PublishedWeights(key(3), None, 10, 0.0)
    for version, steps in ((5, 40), (8, 90)):
        shelf.add(key(version), None, steps, 0.0)
    assert [shelf.env_steps_at(version) for version in (3, 4, 5, 7, 8, 9)] == [10, 10, 40, 40, 90, 90]
    assert shelf.env_steps_at(0) == 10, "the oldest that is remembered"
