"""An actor's θ is the stream's less what is its own and not in it, whatever the order in which things become known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor.algorithms.local_steps import LocalSteps
from protocol.codecs.registry import Array, Sparse

P, RATE = 6, 0.5


def used(local: LocalSteps, stream: np.ndarray, held: np.ndarray | None = None) -> np.ndarray:
    theta = stream.copy()
    local.subtract_from(theta, np.zeros(P, np.float32) if held is None else held)
    return theta


def spare() -> np.ndarray:
    """A θ that nobody looks at."""
    return np.zeros(P, np.float32)


def test_a_step_is_in_the_weights_at_once_and_a_sum_until_the_stream_shows_it() -> None:
    local, stream, theta = LocalSteps(P, RATE), np.zeros(P, np.float32), np.zeros(P, np.float32)
    local.add(np.full(P, 2.0, np.float32), 1.0, theta)
    local.add(np.ones(P, np.float32), 1.0, theta)
    assert theta.tolist() == [-1.5] * P
    assert used(local, stream).tolist() == [-1.5] * P
    assert (local.steps, local.take().tolist(), local.steps) == (2, [3.0] * P, 0)
    assert used(local, stream).tolist() == [0.0] * P
    assert used(local, stream, np.ones(P, np.float32)).tolist() == [-0.5] * P  # what is held back
    sent: Array = Sparse(P, np.array([1, 4], np.int32), np.array([3.0, 3.0], np.float32))
    local.sent(sent)
    assert used(local, stream).tolist() == [0.0, -1.5, 0.0, 0.0, -1.5, 0.0]
    local.settled(sent, 7)
    local.followed(6)
    assert used(local, stream)[1] == -1.5  # applied, and not in these weights
    local.followed(7)
    assert used(local, stream).tolist() == [0.0] * P


def test_annealing_counts() -> None:
    local = LocalSteps(P, RATE)
    local.add(np.ones(P, np.float32), 0.5, spare())
    assert used(local, np.zeros(P, np.float32)).tolist() == [-0.25] * P


def test_what_was_not_applied_is_taken_back_at_once() -> None:
    local, sent = LocalSteps(P, RATE), np.ones(P, np.float32)
    local.add(sent.copy(), 1.0, spare())
    local.take()
    local.sent(sent)
    local.settled(sent, None)
    assert used(local, np.zeros(P, np.float32)).tolist() == [0.0] * P


@pytest.mark.parametrize(("most", "permits", "due"), [(None, 1, True), (None, 0, False), (9, 0, True)])
def test_a_rollout_s_end_sends_what_there_is_unless_the_link_is_full(most: int | None, permits: int, due: bool) -> None:
    local = LocalSteps(P, 1.0, most)
    assert not local.due(permits)  # nothing to send
    local.add(np.ones(P, np.float32), 1.0, spare())
    assert local.due(permits) is due


def test_no_more_than_four_rollouts_wait_for_the_link() -> None:
    local = LocalSteps(P, 1.0)
    for expected in [False, False, False, True, False]:
        local.add(np.ones(P, np.float32), 1.0, spare())
        assert local.due(0) is expected
        if expected:
            local.take()


@pytest.mark.parametrize("fate", [None, 1])
def test_sums_are_told_apart_whatever_their_numbers_and_whichever_is_answered_first(fate: int | None) -> None:
    local = LocalSteps(P, RATE)
    first, second = np.ones(P, np.float32), np.ones(P, np.float32)
    local.add(first.copy(), 1.0, spare())
    local.take()
    local.sent(first)
    local.sent(second)
    local.settled(second, fate)
    local.followed(1)
    assert used(local, np.zeros(P, np.float32)).tolist() == [-RATE] * P
    local.settled(first, fate)
    local.followed(1)
    assert used(local, np.zeros(P, np.float32)).tolist() == [0.0] * P


@given(st.lists(st.sampled_from(["step", "send", "apply", "refuse", "show"]), max_size=60))
def test_in_any_order_it_is_the_stream_less_what_is_not_in_it(events: list[str]) -> None:
    """Whole numbers, so that sums are exact. A learner applies in order and the stream lags behind."""
    local = LocalSteps(P, 1.0)
    theta, stream, version, shown = np.zeros(P, np.float32), np.zeros(P, np.float32), 0, 0
    stages = [theta.copy()]
    unsent, travelling = np.zeros(P, np.float32), list[np.ndarray]()
    unshown: list[tuple[int, np.ndarray]] = []
    for number, event in enumerate(events):
        if event == "step":
            update = np.full(P, float(number + 1), np.float32)
            unsent += update
            local.add(update, 1.0, spare())
        elif event == "send":
            taken = local.take()
            local.sent(taken)
            travelling.append(taken)
            unsent = np.zeros(P, np.float32)
        elif event in ("apply", "refuse") and travelling:
            oldest = travelling.pop(0)
            if event == "apply":
                theta -= oldest
                version += 1
                stages.append(theta.copy())
                unshown.append((version, oldest))
            local.settled(oldest, version if event == "apply" else None)
        elif event == "show":
            shown, stream = version, stages[version]
            local.followed(shown)
            unshown = [each for each in unshown if each[0] > shown]
        expected = stream - unsent - sum(travelling, np.zeros(P, np.float32))
        expected = expected - sum((each for _, each in unshown), np.zeros(P, np.float32))
        np.testing.assert_array_equal(used(local, stream), expected)
