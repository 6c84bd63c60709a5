"""Who is served when: shares while all have more than they may, groups where one step is made of many gradients."""

from __future__ import annotations

from collections import Counter, deque
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.admission.queue import JOB_BYTES, NUMBER_BYTES, FairQueue, GroupPolicy
from learner.events import Job

BATCH = 16
NUMBERS = 9 * JOB_BYTES // NUMBER_BYTES  # ten times the cost of a job without any


def job(session: int, sequence: int = 1, size_bytes: int = 1000, moments_bytes: int = 0, **fields: Any) -> Job:
    moments = (1, bytes(moments_bytes)) if moments_bytes else None
    said = {"codec": "topk_i8", "length": 1 << 20, "count": 0, **fields}
    return Job(session, sequence, 0, buffer=bytes(size_bytes), moments=moments, lag_s=0.0, **said)


def filled(*counts: int, intake: FairQueue | None = None, now: float = 0.0) -> FairQueue:
    """Session n + 1, who is its own sender, has the n-th count of jobs."""
    intake = FairQueue() if intake is None else intake
    for session, count in enumerate(counts, start=1):
        for sequence in range(1, count + 1):
            intake.add(session, job(session, sequence), now)
    return intake


def sessions(batch: list[Job]) -> list[int]:
    return [each.session for each in batch]


def take(intake: FairQueue, limit: int = BATCH) -> list[Job]:
    return intake.next_batch(limit, present=1, now=0.0)


def test_nothing_waits_at_first() -> None:
    intake = FairQueue()
    assert not intake.ready(1, 0.0)
    assert take(intake) == []
    assert (len(intake), intake.waiting()) == (0, Counter())


def test_one_sender_is_served_in_its_order() -> None:
    batch = take(filled(5))
    assert [each.sequence for each in batch] == [1, 2, 3, 4, 5]


def test_equal_jobs_take_turns() -> None:
    intake = filled(100, 2, 1)
    assert sessions(take(intake, 6)) == [1, 2, 3, 1, 2, 1]
    assert (len(intake), intake.waiting()) == (97, Counter({1: 97}))


def test_who_floods_waits_for_the_rest_of_its_own() -> None:
    intake = filled(1000, 0)
    for number in range(50):
        take(intake, 4)
        intake.add(2, job(2, number), 0.0)
        assert 2 in sessions(take(intake, 2))


def test_sessions_of_one_key_have_one_share() -> None:
    intake = FairQueue()
    for session in range(10):
        intake.add("flood", job(session), 0.0)
    intake.add("other", job(100), 0.0)
    assert sessions(take(intake, 2)) == [0, 100]


def test_shares_are_of_bytes() -> None:
    intake = FairQueue()
    for number in range(1000):
        intake.add("thick", job(1, number, 9 * JOB_BYTES), 0.0)  # ten times the cost of
        intake.add("thin", job(2, number, 0), 0.0)
    served = Counter(sessions(take(intake, 110)) + sessions(take(intake, 110)))
    assert served == {1: 20, 2: 200}


def test_moments_are_paid_for_too() -> None:
    intake = FairQueue()
    for number in range(100):
        intake.add("with", job(1, number, 0, moments_bytes=JOB_BYTES), 0.0)
        intake.add("without", job(2, number, 0), 0.0)
    assert Counter(sessions(take(intake, 30))) == {1: 10, 2: 20}


@pytest.mark.parametrize(
    "thick",
    [
        {"codec": "topk_i8", "count": NUMBERS},
        {"codec": "i8+zstd", "length": NUMBERS},
        {"codec": "lowrank", "length": NUMBERS, "count": 3},
    ],
)
def test_shares_are_of_what_is_to_be_done_however_few_bytes_say_it(thick: dict[str, Any]) -> None:
    intake = FairQueue()
    for number in range(100):
        intake.add("thick", job(1, number, 0, **thick), 0.0)
        intake.add("thin", job(2, number, 0), 0.0)
    assert Counter(sessions(take(intake, 44))) == {1: 4, 2: 40}


def test_where_each_step_moves_all_of_theta_an_empty_gradient_costs_as_much_as_a_full_one() -> None:
    intake = FairQueue(whole=True)
    for number in range(100):
        intake.add("full", job(1, number, 0, codec="i8", length=1 << 14), 0.0)
        intake.add("empty", job(2, number, 0, length=1 << 14), 0.0)
    assert Counter(sessions(take(intake, 20))) == {1: 10, 2: 10}


def test_a_batch_of_heavy_work_takes_one_visit_of_each() -> None:
    intake = FairQueue()
    for number in range(32):
        intake.add("many", job(1, number, 0, codec="i8", length=1 << 20), 0.0)
    intake.add("one", job(2, 1, 0), 0.0)
    assert sessions(take(intake, 256)) == [1, 2]
    assert sessions(take(intake, 256)) == [1]
    assert sessions(take(filled(32, 2), 256)) == [1, 2] * 2 + [1] * 30  # all of what is light


def test_what_a_limit_cut_short_goes_on_with_the_next_batch() -> None:
    intake = FairQueue()
    intake.add("thick", job(1, 1, 9 * JOB_BYTES), 0.0)
    for number in range(30):
        intake.add("thin", job(2, number, 0), 0.0)
    intake.add("thick", job(1, 2, 9 * JOB_BYTES), 0.0)
    assert sessions(take(intake, 4)) == [1, 2, 2, 2]
    assert sessions(take(intake, 8)) == [2, 2, 2, 2, 2, 2, 2, 1]


def test_dropped_sessions_leave_the_others_of_their_sender() -> None:
    intake = FairQueue()
    for session in (1, 2, 3):
        intake.add("key", job(session), 0.0)
    intake.add("other", job(4), 0.0)
    intake.drop({1, 4})
    assert (len(intake), intake.waiting()) == (2, Counter({2: 1, 3: 1}))
    assert sessions(take(intake)) == [2, 3]
    assert not intake.ready(2, 0.0)


def test_the_rest_is_all_that_waits() -> None:
    intake = filled(2, 1)
    assert sorted(sessions(intake.drain())) == [1, 1, 2]
    assert (len(intake), take(intake)) == (0, [])


@given(
    st.lists(st.lists(st.integers(0, 60_000), min_size=30, max_size=30), min_size=2, max_size=5),
    st.integers(1, 20),
)
def test_while_all_have_more_than_they_may_nobody_gets_much_more_than_another(
    sizes: list[list[int]], limit: int
) -> None:
    """Shreedhar and Varghese 1996: shares differ by less than three of the largest jobs at any time."""
    intake = FairQueue()
    for session, mine in enumerate(sizes):
        for sequence, size_bytes in enumerate(mine):
            intake.add(session, job(session, sequence, size_bytes), 0.0)
    largest = JOB_BYTES + max(map(max, sizes))
    served: Counter[int] = Counter(dict.fromkeys(range(len(sizes)), 0))
    while len(intake.waiting()) == len(sizes):
        for each in intake.next_batch(limit, present=1, now=0.0):
            served[each.session] += JOB_BYTES + len(each.buffer)
        if len(intake.waiting()) == len(sizes):
            assert max(served.values()) - min(served.values()) < 3 * largest


@pytest.mark.parametrize("gather", [None, GroupPolicy(3, 1.0)])
def test_every_job_is_served_once_and_each_senders_in_order(gather: GroupPolicy | None) -> None:
    random, intake, now = Random(3), FairQueue(gather), 0.0
    expected: dict[int, deque[int]] = {session: deque() for session in range(6)}
    for number in range(3000):
        now += 0.1
        if random.random() < 0.6:
            session = min(random.randrange(6), random.randrange(6))
            intake.add(session, job(session, number, random.randrange(5000)), now)
            expected[session].append(number)
        else:
            batch = intake.next_batch(random.randrange(1, 9), 6, now)
            assert all(expected[each.session].popleft() == each.sequence for each in batch)
        assert len(intake) == sum(map(len, expected.values()))
        assert intake.waiting() == Counter({s: len(waits) for s, waits in expected.items() if waits})


# groups


def gathering(*counts: int, now: float = 0.0) -> FairQueue:
    return filled(*counts, intake=FairQueue(GroupPolicy(window=4, wait_s=1.0)), now=now)


def group(intake: FairQueue, present: int, now: float = 0.0, hurry: bool = False) -> list[int]:
    ready = intake.ready(present, now, hurry=hurry)
    batch = intake.next_batch(256, present, now, hurry=hurry)
    assert ready is bool(batch)
    return sessions(batch)


def test_a_group_waits_for_its_window() -> None:
    assert group(gathering(9, 9, 9), present=10) == []
    assert group(gathering(9, 9, 9, 1), present=10) == [1, 2, 3, 4]


def test_a_group_has_one_job_of_each_sender_the_oldest() -> None:
    intake = gathering(2, 3, 2, 2)
    assert [each.sequence for each in intake.next_batch(256, 4, 0.0)] == [1, 1, 1, 1]
    assert [each.sequence for each in intake.next_batch(256, 4, 0.0)] == [2, 2, 2, 2]
    assert intake.next_batch(256, 4, 0.0) == []
    assert intake.waiting() == Counter({2: 1})


def test_sessions_of_one_key_are_one_voice() -> None:
    intake = FairQueue(GroupPolicy(window=2, wait_s=1.0))
    for session in range(5):
        intake.add("hostile", job(session), 0.0)
    assert group(intake, present=2, now=100.0) == []
    intake.add("honest", job(9), 0.0)
    assert group(intake, present=2) == [0, 9]


def test_all_who_wait_are_in_it_up_to_twice_the_window_in_rotation() -> None:
    intake = gathering(*([2] * 11))
    assert group(intake, present=20) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert group(intake, present=20) == [9, 10, 11, 1, 2, 3, 4, 5]


def test_a_small_fleet_makes_small_groups() -> None:
    assert group(gathering(1, 1), present=3) == []
    assert group(gathering(1, 1), present=2) == [1, 2]
    assert group(gathering(1), present=1) == [1]
    assert group(gathering(1), present=0) == [1]  # who left after it sent


@pytest.mark.parametrize(("waiting", "present", "goes"), [(2, 4, False), (3, 4, True), (1, 2, False), (2, 3, True)])
def test_after_its_wait_a_group_needs_more_than_half(waiting: int, present: int, goes: bool) -> None:
    intake = gathering(*([1] * waiting), now=5.0)
    assert group(intake, present, now=5.9) == []
    assert bool(group(intake, present, now=6.0)) is goes


@pytest.mark.parametrize(("waiting", "goes"), [(2, False), (3, True)])
def test_a_run_that_drains_waits_for_nobody_and_leaves_a_minority_behind(waiting: int, goes: bool) -> None:
    intake = gathering(*([1] * waiting))
    assert bool(group(intake, present=4, hurry=True)) is goes
    assert len(intake.drain()) == (0 if goes else waiting)


def test_the_wait_is_that_of_the_oldest() -> None:
    intake = gathering(1, now=0.0)
    for session in (2, 3):
        intake.add(session, job(session), 0.9)
    assert group(intake, present=4, now=0.99) == []
    assert group(intake, present=4, now=1.0) == [1, 2, 3]


def test_the_bytes_that_wait() -> None:
    intake = FairQueue()
    intake.add(1, job(1, size_bytes=100, moments_bytes=7), 0.0)
    intake.add(2, job(2, size_bytes=30), 0.0)
    assert intake.pending_bytes == 137
    intake.next_batch(1, 2, 0.0)
    assert intake.pending_bytes == 30
