"""What is let through of what an environment returned, one or a vector of them. No processes here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple

from actor.environments.contract import (
    ContractViolation,
    RewardNotFinite,
    checked,
    final_of,
    finite,
    first_of,
    outcome_of,
    outcomes_of,
)

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
    with pytest.raises(ContractViolation, match=words):
        checked(space, observation)


@pytest.mark.parametrize(
    ("reward", "number"), [(1.5, 1.5), (1, 1.0), (np.float32(0.5), 0.5), (np.array(2), 2.0), (True, 1.0)]
)
def test_a_reward_is_any_number(reward: Any, number: float) -> None:
    assert outcome_of((None, reward, False, False, {})) == (None, number, False, False, {})


@pytest.mark.parametrize("reward", ["1", None, np.array([1.0]), 1j])
def test_and_nothing_else(reward: Any) -> None:
    with pytest.raises(ContractViolation, match="the reward is"):
        outcome_of((None, reward, False, False, {}))


@pytest.mark.parametrize("reward", [np.inf, -np.inf, np.nan, 1e39])
def test_a_reward_that_float32_cannot_hold_is_told_apart(reward: float) -> None:
    with pytest.raises(RewardNotFinite, match="the reward is"):
        finite(reward)


@pytest.mark.parametrize("yes", [True, np.True_, 1, np.uint8(1), np.int64(1), np.float32(1.0)])
def test_a_flag_is_yes_or_no_of_any_type(yes: Any) -> None:
    assert outcome_of((None, 0.0, yes, False, {}))[2:4] == (True, False)
    assert outcome_of((None, 0.0, type(yes)(0), yes, {}))[2:4] == (False, True)
    rows = np.array([yes, yes], type(yes))
    _, _, terminated, truncated, _ = outcomes_of((np.zeros(2, np.int64), rows, rows, rows * 0, {}), Discrete(2), 2)
    assert (terminated.tolist(), truncated.tolist()) == ([True, True], [False, False])
    assert terminated.dtype == truncated.dtype == np.bool_


@pytest.mark.parametrize("flag", [2, -1, 0.5, np.nan, "yes", None, [True]])
def test_and_nothing_between(flag: Any) -> None:
    with pytest.raises(ContractViolation, match="terminated is"):
        outcome_of((None, 0.0, flag, False, {}))


BATCH: tuple[Any, ...] = (np.zeros((2, 2), np.float32), np.zeros(2), np.zeros(2, np.bool_), np.zeros(2, np.bool_), {})


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, np.zeros((3, 2), np.float32), r"float32 \[3, 2\], not 2 times of Box"),
        (0, np.zeros((2, 2), np.complex64), "complex64"),
        (1, np.zeros((2, 1)), r"the reward is float64 \[2, 1\], not numbers \[2\]"),
        (1, np.array(["0", "1"]), "the reward is <U1"),
        (2, np.zeros((2, 1), np.bool_), r"terminated is bool \[2, 1\], not bool \[2\]"),
        (3, np.array([0, 2]), r"truncated is int64 \[2\], not bool"),
    ],
)
def test_rows_of_a_vector_are_held_to_the_same(place: int, value: Any, words: str) -> None:
    assert outcomes_of(BATCH, PAIR, 2)[0].shape == (2, 2)
    with pytest.raises(ContractViolation, match=words):
        outcomes_of((*BATCH[:place], value, *BATCH[place + 1 :]), PAIR, 2)
    with pytest.raises(ContractViolation, match="step returned tuple of 4"):
        outcomes_of(BATCH[:4], PAIR, 2)


@pytest.mark.parametrize(
    ("space", "rows", "words"),
    [
        (Discrete(3), [0, 3], r"an observation is 3, outside Discrete\(3\)"),
        (Discrete(3), [-1, 0], "an observation is -1, outside"),
        (MultiDiscrete([2, 3]), [[1, 2], [2, 0]], r"an observation is \[2, 0\], outside"),
    ],
)
def test_a_choice_that_does_not_exist_is_named(space: Space[Any], rows: Any, words: str) -> None:
    with pytest.raises(ContractViolation, match=words):
        checked(space, np.array(rows), 2)


DENSE = np.array([[0, 0], [1, 2]], np.float32)
ROWS = np.empty(2, object)
ROWS[1] = DENSE[1]


@pytest.mark.parametrize("key", ["final_obs", "final_observation"])
@pytest.mark.parametrize("batch", [ROWS, DENSE], ids=["rows", "dense"])
def test_a_true_successor_is_found_in_every_form(key: str, batch: Any) -> None:
    held = {key: batch, f"_{key}": np.array([False, True])}
    for info, space in (
        (held, PAIR),
        ({key: {"a": batch}}, Dict(a=PAIR)),
        ({key: (batch,)}, Tuple((PAIR,))),
    ):
        found: Any = final_of(info, 1, space)
        leaf = found["a"] if isinstance(space, Dict) else found[0] if isinstance(space, Tuple) else found
        assert leaf.tolist() == [[1, 2]]
    assert final_of(held, 0, PAIR) is None
    assert final_of({}, 0, PAIR) is None


@pytest.mark.parametrize("info", [{"final_obs": DENSE[:1]}, {"final_obs": DENSE, "_final_obs": np.array([True])}])
def test_a_true_successor_for_too_few_is_named(info: dict[str, Any]) -> None:
    with pytest.raises(ContractViolation, match=r"info\['_?final_obs'\] is .*, with nothing for environment 1"):
        final_of(info, 1, PAIR)


@pytest.mark.parametrize("numbers", [np.array([1, 2**63 - 1]), np.array([1.0, np.inf], np.float16)])
def test_rewards_are_float64_whatever_they_were(numbers: Any) -> None:
    rewards = outcomes_of((BATCH[0], numbers, *BATCH[2:]), PAIR, 2)[1]
    assert (rewards.dtype.name, rewards.tolist()) == ("float64", [float(number) for number in numbers])


@pytest.mark.parametrize("returned", [None, np.zeros(2), (np.zeros(2),), [np.zeros(2), {}]])
def test_an_old_reset_is_refused(returned: Any) -> None:
    with pytest.raises(ContractViolation, match="reset returned"):
        first_of(returned)
