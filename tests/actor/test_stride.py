"""How long updates are: by what, by how much, and when what was done can be seen."""

from __future__ import annotations

import itertools

import pytest

from actor.stride import STRIDE_LIMITS, StrideControl

TARGET = 0.01
SHORT, LONG, RIGHT = 0.03, 0.004, 0.015  # nats that tell to make updates shorter, longer, to let them be


def control(length: float = 1.0) -> StrideControl:
    stride = StrideControl(TARGET, stretches=True)
    stride.length = length
    return stride


def test_the_stride_follows_the_divergence_and_stays_within_its_limits() -> None:
    """Schulman et al. 2017, section 4: beyond twice the target shorter, below half of it longer, between the same."""
    stride, versions, lengths = control(), itertools.count(0, 12), []
    for kl in (0.015, 0.006, 0.021, 0.03, 0.004):
        version = next(versions)
        stride.heed(kl, (1, version), (1, version + 12))
        lengths.append(stride.length)
    assert lengths == pytest.approx([1.0, 1.0, 1 / 1.5, 1 / 1.5**2, 1 / 1.5])
    for kl, limit in ((1.0, STRIDE_LIMITS[0]), (0.0, STRIDE_LIMITS[1])):
        for version in itertools.islice(versions, 40):
            stride.heed(kl, (1, version), (1, version + 12))
        assert stride.length == limit


def test_who_has_no_target_or_cannot_stretch_lets_lengths_be() -> None:
    for idle in (StrideControl(0.0, stretches=True), StrideControl(TARGET, stretches=False)):
        idle.heed(1e9, (1, 0), (1, 12))
        assert idle.length == 1.0


@pytest.mark.parametrize(("first", "last"), [((1, 5), (1, 5)), ((1, 5), (1, 4)), ((1, 5), (2, 6)), ((2, 5), (1, 9))])
def test_weights_that_did_not_follow_each_other_tell_nothing(first: tuple[int, int], last: tuple[int, int]) -> None:
    stride = control()
    for kl in (SHORT, LONG):
        stride.heed(kl, first, last)
        assert stride.length == 1.0


def test_the_next_change_waits_until_the_last_one_can_be_seen() -> None:
    """Changed after version 12 where gradients are 64 late: the first of the new length makes version 77."""
    stride = control()
    stride.answered([3, 64])
    stride.heed(SHORT, (1, 0), (1, 12))
    changed = stride.length
    for version in range(12, 71):
        stride.heed(SHORT, (1, version), (1, version + 12))
        assert stride.length == changed
    stride.heed(RIGHT, (1, 71), (1, 83))  # half of what led there is of the new length
    assert stride.length == changed
    stride.heed(SHORT, (1, 71), (1, 83))
    assert stride.length == changed / 1.5


def test_what_needs_no_change_is_waited_for_by_nobody() -> None:
    stride = control()
    stride.answered([64])
    stride.heed(RIGHT, (1, 0), (1, 12))
    stride.heed(LONG, (1, 12), (1, 24))
    assert stride.length == 1.5


def test_another_life_of_the_learner_counts_versions_anew() -> None:
    stride = control()
    stride.answered([64])
    stride.heed(SHORT, (1, 1000), (1, 1012))
    stride.heed(SHORT, (2, 500), (2, 512))
    assert stride.length == 1 / 1.5**2


def test_answers_that_tell_nothing_leave_the_lag_as_it_was() -> None:
    stride = control()
    stride.answered([64])
    stride.answered([])
    stride.heed(SHORT, (1, 0), (1, 12))
    stride.heed(SHORT, (1, 12), (1, 24))
    assert stride.length == 1 / 1.5


def test_a_rollout_is_left_where_updates_cannot_be_made_shorter() -> None:
    assert StrideControl(TARGET, stretches=False).exhausted(SHORT)
    assert not StrideControl(TARGET, stretches=False).exhausted(RIGHT)
    assert not control().exhausted(SHORT)
    assert not StrideControl(0.0, stretches=False).exhausted(SHORT)
