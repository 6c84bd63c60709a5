"""Advantages and returns against slow loops that look like the papers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor.returns import gae, n_step_returns

GAMMA, LAM = 0.9, 0.8
Stream = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # gae's arrays, in its order


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)[:, None]


def flags(*marks: int) -> np.ndarray:
    return np.array(marks, np.bool_)[:, None]


def advantages_of(stream: Stream, lam: float = LAM) -> np.ndarray:
    rewards, values, next_values, terminated, truncated, valid = stream
    return gae(rewards, values, next_values, terminated, truncated, valid, GAMMA, lam)


def returns_of(stream: Stream) -> np.ndarray:
    rewards, _, next_values, terminated, truncated, valid = stream
    return n_step_returns(rewards, next_values, terminated, truncated, valid, GAMMA)


def gae_oracle(stream: Stream, gamma: float, lam: float) -> np.ndarray:
    """Â_t = Σ_l (γλ)^l δ_{t+l}, the sum stopping where the episode does: Schulman et al. 2016, equation 16."""
    rewards, values, next_values, terminated, truncated, valid = stream
    steps, count = rewards.shape
    result = np.zeros((steps, count))
    for b in range(count):
        for t in range(steps):
            if not valid[t, b]:
                continue
            for i in range(t, steps):
                bootstrap = 0.0 if terminated[i, b] else next_values[i, b]
                delta = rewards[i, b] + gamma * bootstrap - values[i, b]
                result[t, b] += (gamma * lam) ** (i - t) * delta
                if terminated[i, b] or truncated[i, b]:
                    break
    return result


def n_step_oracle(stream: Stream, gamma: float) -> np.ndarray:
    """R = 0 or V(s), then R <- r_i + γR backwards: Mnih et al. 2016, algorithm S3."""
    rewards, _, next_values, terminated, truncated, valid = stream
    steps, count = rewards.shape
    result = np.zeros((steps, count))
    for b in range(count):
        for t in range(steps):
            if not valid[t, b]:
                continue
            end = t
            while end < steps - 1 and not (terminated[end, b] or truncated[end, b]):
                end += 1
            total = 0.0 if terminated[end, b] else float(next_values[end, b])
            for i in range(end, t - 1, -1):
                total = rewards[i, b] + gamma * total
            result[t, b] = total
    return result


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """A rollout with ends of both kinds; a reset row may follow an end, and holds values that must not leak."""
    steps, count = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    terminated, truncated = rng.random((steps, count)) < 0.2, rng.random((steps, count)) < 0.2
    valid = np.ones((steps, count), np.bool_)
    if draw(st.booleans()):
        for t in range(1, steps):
            valid[t] = ~((terminated[t - 1] | truncated[t - 1]) & valid[t - 1])
        terminated, truncated = terminated & valid, truncated & valid
    rewards, values, next_values = rng.standard_normal((3, steps, count)).astype(np.float32)
    rewards[~valid] = values[~valid] = np.nan
    next_values[~valid] = np.nan
    return rewards, values, next_values, terminated, truncated, valid


@settings(derandomize=True, deadline=None, max_examples=60)
@given(streams())
def test_both_are_what_the_papers_say(stream: Stream) -> None:
    np.testing.assert_allclose(advantages_of(stream), gae_oracle(stream, GAMMA, LAM), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(returns_of(stream), n_step_oracle(stream, GAMMA), rtol=1e-4, atol=1e-5)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(streams())
def test_with_lambda_one_the_advantage_is_the_n_step_return_less_the_value(stream: Stream) -> None:
    _, values, next_values, terminated, truncated, valid = stream
    goes_on = ~(terminated | truncated)[:-1] & valid[:-1]
    next_values[:-1][goes_on] = values[1:][goes_on]  # the sum telescopes over one value function
    expected = returns_of(stream) - values
    np.testing.assert_allclose(advantages_of(stream, 1.0)[valid], expected[valid], rtol=1e-4, atol=1e-5)


REWARDS, VALUES, NEXT = column(1, 1, 1), column(2, 3, 5), column(3, 7, 11)


def test_terminated_zeroes_the_bootstrap() -> None:
    stream = (REWARDS, VALUES, NEXT, flags(0, 1, 0), flags(0, 0, 0), flags(1, 1, 1))
    np.testing.assert_allclose(returns_of(stream)[:, 0], [1 + 0.9 * 1, 1, 1 + 0.9 * 11], rtol=1e-6)
    advantages = advantages_of(stream)[:, 0]
    np.testing.assert_allclose(advantages, [1 + 0.9 * 3 - 2 + 0.72 * (1 - 3), 1 - 3, 1 + 0.9 * 11 - 5], rtol=1e-5)


def test_truncated_bootstraps_and_cuts_the_trace() -> None:
    stream = (REWARDS, VALUES, NEXT, flags(0, 0, 0), flags(0, 1, 0), flags(1, 1, 1))
    cut = 1 + 0.9 * 7
    np.testing.assert_allclose(returns_of(stream)[:, 0], [1 + 0.9 * cut, cut, 1 + 0.9 * 11], rtol=1e-6)
    advantages = advantages_of(stream)[:, 0]
    np.testing.assert_allclose(advantages, [1 + 0.9 * 3 - 2 + 0.72 * (cut - 3), cut - 3, 1 + 0.9 * 11 - 5], rtol=1e-5)


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_both_autoreset_modes_give_one_episode_stream_the_same_advantages(kind: str) -> None:
    """Two steps, an end, two steps; in next-step mode a reset row lies between them."""
    ends, nothing = flags(0, 1, 0, 0), flags(0, 0, 0, 0)
    terminated, truncated = (ends, nothing) if kind == "terminated" else (nothing, ends)
    same = (column(1, 2, 3, 4), column(5, 6, 7, 8), column(6, 9, 8, 2), terminated, truncated, flags(1, 1, 1, 1))
    reset = (0, 9, 7, 0, 0, 0)
    a, b, c, d, e, f = (np.insert(array, 2, filler, 0) for array, filler in zip(same, reset, strict=True))
    following = (a, b, c, d, e, f)
    assert advantages_of(following)[2] == returns_of(following)[2] == 0
    np.testing.assert_array_equal(np.delete(advantages_of(following), 2, 0), advantages_of(same))
    np.testing.assert_array_equal(np.delete(returns_of(following), 2, 0), returns_of(same))


def test_the_arguments_are_left_alone() -> None:
    stream = (REWARDS, VALUES, NEXT, flags(0, 1, 0), flags(0, 0, 0), flags(1, 1, 1))
    kept = [array.copy() for array in stream]
    advantages_of(stream)
    returns_of(stream)
    assert all(np.array_equal(a, b) for a, b in zip(stream, kept, strict=True))
