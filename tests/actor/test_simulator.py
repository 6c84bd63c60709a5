"""What the process of a simulator lets through of what an environment returned. No processes here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple

from actor.pipe import TERMINATED, TRUNCATED
from actor.simulator import Wrong, checked, first_of, outcome_of

PAIR = Box(-1.0, 1.0, (2,), np.float32)


@pytest.mark.parametrize(
    ("space", "observation", "expected"),
    [
        (PAIR, np.zeros(2, np.float64), [[0.0, 0.0]]),
        (PAIR, [3, 4], [[3, 4]]),  # outside its bounds, as many environments are
        (Discrete(2, start=5), 6, [6]),
        (Discrete(2), np.int32(1), [1]),
        (MultiDiscrete([2, 3]), np.array([1, 2]), [[1, 2]]),
        (Tuple((Discrete(2), PAIR)), (1, np.ones(2)), [[1], [[1.0, 1.0]]]),
    ],
)
def test_what_casts_passes_with_a_batch_axis(space: Space[Any], observation: Any, expected: Any) -> None:
    seen = checked(space, observation)
    assert ([part.tolist() for part in seen] if isinstance(seen, tuple) else seen.tolist()) == expected


@pytest.mark.parametrize(
    ("space", "observation", "words"),
    [
        (PAIR, np.zeros((1, 2), np.float32), r"float32 \[1, 2\]"),
        (PAIR, np.zeros(2, np.complex64), "complex64"),
        (PAIR, None, "NoneType"),
        (PAIR, [[1.0], [2.0, 3.0]], "list of 2 is no array"),
        (PAIR, ["0", "1"], "list of 2"),
        (Box(0, 255, (2,), np.uint8), np.zeros(2), r"float64 \[2\]"),
        (Discrete(2, start=5), 7, r"outside Discrete\(2, start=5\)"),
        (Discrete(2), -1, "outside"),
        (Discrete(2), 0.5, "float"),
        (MultiDiscrete([2, 3]), np.array([1, 3]), "outside"),
        (Dict(a=PAIR), {"b": np.zeros(2)}, "not a dict of a"),
        (Dict(a=PAIR), np.zeros(2), "not a dict of a"),
        (Tuple((PAIR, PAIR)), (np.zeros(2),), "not a tuple of 2"),
    ],
)
def test_what_does_not_is_described(space: Space[Any], observation: Any, words: str) -> None:
    with pytest.raises(Wrong, match=words):
        checked(space, observation)


@pytest.mark.parametrize(
    ("reward", "number"), [(1.5, 1.5), (1, 1.0), (np.float32(0.5), 0.5), (np.array(2), 2.0), (True, 1.0)]
)
def test_a_reward_is_any_number(reward: Any, number: float) -> None:
    assert outcome_of((None, reward, False, False, {})) == (None, number, 0)


@pytest.mark.parametrize("reward", ["1", None, np.array([1.0]), 1j, np.inf, np.float32(np.nan)])
def test_and_nothing_else(reward: Any) -> None:
    with pytest.raises(Wrong, match="the reward is"):
        outcome_of((None, reward, False, False, {}))


def test_the_two_ends_of_an_episode_are_told_apart() -> None:
    flags = [outcome_of((None, 0.0, *ends, {}))[2] for ends in ((np.True_, False), (False, True), (True, True))]
    assert flags == [TERMINATED, TRUNCATED, TERMINATED | TRUNCATED]


@pytest.mark.parametrize("returned", [None, np.zeros(2), (np.zeros(2),), [np.zeros(2), {}]])
def test_an_old_reset_is_refused(returned: Any) -> None:
    with pytest.raises(Wrong, match="reset returned"):
        first_of(returned)
