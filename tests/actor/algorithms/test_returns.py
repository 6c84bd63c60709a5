"""Advantages and returns against slow loops that look like the papers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor.algorithms.returns import discount_at, explained_variance, gae, n_step_returns, one_step_returns, vtrace

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
                if terminated[i, b] or truncated[i, b] or (i + 1 < steps and not valid[i + 1, b]):
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
            while end < steps - 1 and not (terminated[end, b] or truncated[end, b]) and valid[end + 1, b]:
                end += 1
            total = 0.0 if terminated[end, b] else float(next_values[end, b])
            for i in range(end, t - 1, -1):
                total = rewards[i, b] + gamma * total
            result[t, b] = total
    return result


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """A rollout with ends of both kinds; rows that only reset or failed hold values that must not leak."""
    steps, count = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    terminated, truncated = rng.random((steps, count)) < 0.2, rng.random((steps, count)) < 0.2
    valid = np.ones((steps, count), np.bool_)
    if draw(st.booleans()):
        for t in range(1, steps):
            valid[t] = ~((terminated[t - 1] | truncated[t - 1]) & valid[t - 1])
    if draw(st.booleans()):
        valid &= rng.random((steps, count)) < 0.8  # a simulator fails wherever it likes
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
    goes_on = ~(terminated | truncated)[:-1] & valid[:-1] & valid[1:]
    next_values[:-1][goes_on] = values[1:][goes_on]  # the sum telescopes over one value function
    expected = returns_of(stream) - values
    np.testing.assert_allclose(advantages_of(stream, 1.0)[valid], expected[valid], rtol=1e-4, atol=1e-5)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(streams())
def test_one_step_returns_look_one_step_ahead(stream: Stream) -> None:
    """y = r for terminal s', r + γ max_a' Q(s', a'; θ⁻) for non-terminal s': Mnih et al. 2016, algorithm 1."""
    rewards, _, next_values, terminated, _, valid = stream
    expected = np.zeros(rewards.shape)
    for t, b in np.ndindex(rewards.shape):
        if valid[t, b]:
            expected[t, b] = rewards[t, b] if terminated[t, b] else rewards[t, b] + GAMMA * next_values[t, b]
    returns = one_step_returns(rewards, next_values, terminated, valid, GAMMA)
    np.testing.assert_allclose(returns, expected, rtol=1e-5, atol=1e-6)


def vtrace_of(stream: Stream, log_ratios: np.ndarray, lam: float, clip: float) -> tuple[np.ndarray, np.ndarray]:
    returns, advantages, _ = vtrace(log_ratios, *stream, GAMMA, lam, clip)
    return returns, advantages


def joined(stream: Stream) -> Stream:
    """The same with one value function: V of a successor is the value of the next row, where the episode goes on."""
    rewards, values, next_values, terminated, truncated, valid = stream
    goes_on = ~(terminated | truncated)[:-1] & valid[:-1] & valid[1:]
    next_values[:-1][goes_on] = values[1:][goes_on]
    return rewards, values, next_values, terminated, truncated, valid


def vtrace_oracle(
    stream: Stream, log_ratios: np.ndarray, gamma: float, lam: float, clip: float
) -> tuple[np.ndarray, np.ndarray]:
    """Espeholt et al. 2018, equation 1, with c_i = λ min(c̄, π/μ); and section 4.2's ρ_s (r_s + γ v_{s+1} - V(x_s))."""
    rewards, values, next_values, terminated, truncated, valid = stream
    steps, count = rewards.shape
    v, advantages = np.zeros((steps, count)), np.zeros((steps, count))

    def ends(t: int, b: int) -> bool:
        return bool(terminated[t, b] or truncated[t, b]) or t == steps - 1 or not valid[t + 1, b]

    def rho(t: int, b: int) -> float:
        return min(clip, float(np.exp(log_ratios[t, b])))

    def delta(t: int, b: int) -> float:
        ahead = 0.0 if terminated[t, b] else next_values[t, b]
        return float(rho(t, b) * (rewards[t, b] + gamma * ahead - values[t, b]))

    for s, b in np.ndindex(steps, count):
        if not valid[s, b]:
            continue
        v[s, b] = values[s, b]
        for t in range(s, steps):
            product = 1.0
            for i in range(s, t):
                product *= lam * rho(i, b)
            v[s, b] += gamma ** (t - s) * product * delta(t, b)
            if ends(t, b):
                break
    for s, b in np.ndindex(steps, count):
        if valid[s, b]:
            ahead = next_values[s, b] if ends(s, b) else v[s + 1, b]
            ahead = 0.0 if terminated[s, b] else ahead
            advantages[s, b] = rho(s, b) * (rewards[s, b] + gamma * ahead - values[s, b])
    return v, advantages


@settings(derandomize=True, deadline=None, max_examples=60)
@given(streams(), st.sampled_from([1.0, 0.8]), st.sampled_from([1.0, 0.5, 1e9]))
def test_vtrace_is_what_the_paper_says(stream: Stream, lam: float, clip: float) -> None:
    stream = joined(stream)
    log_ratios = np.random.default_rng(0).normal(0, 0.7, stream[0].shape).astype(np.float32)
    v, advantages = vtrace_of(stream, log_ratios, lam, clip)
    expected_v, expected_advantages = vtrace_oracle(stream, log_ratios, GAMMA, lam, clip)
    valid = stream[5]
    np.testing.assert_allclose(v[valid], expected_v[valid], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(advantages, expected_advantages, rtol=1e-3, atol=1e-4)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(streams())
def test_vtrace_from_equal_policies_is_generalised_advantage_estimation(stream: Stream) -> None:
    stream = joined(stream)
    valid, equal = stream[5], np.zeros_like(stream[0])
    v, _ = vtrace_of(stream, equal, LAM, 1.0)
    np.testing.assert_allclose((v - stream[1])[valid], advantages_of(stream)[valid], rtol=1e-4, atol=1e-5)
    v, advantages = vtrace_of(stream, equal, 1.0, 1.0)
    np.testing.assert_allclose(advantages, advantages_of(stream, 1.0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(v[valid], returns_of(stream)[valid], rtol=1e-4, atol=1e-5)


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


def test_ends_of_both_kinds_side_by_side_for_the_other_targets() -> None:
    """Row 1 ends the episode; ratios of 1/2, so that ρ = c = 1/2."""
    halves = np.log(column(0.5, 0.5, 0.5))
    for marks, ahead in (((0, 1, 0), 0.0), ((0, 0, 0), 0.9 * 7)):
        terminated, truncated = flags(*marks), flags(0, 1 - marks[1], 0)
        one_step = one_step_returns(REWARDS, NEXT, terminated, flags(1, 1, 1), GAMMA)
        np.testing.assert_allclose(one_step[:, 0], [1 + 0.9 * 3, 1 + ahead, 1 + 0.9 * 11], rtol=1e-6)
        stream = (REWARDS, VALUES, NEXT, terminated, truncated, flags(1, 1, 1))
        v, advantages = vtrace_of(stream, halves, 1.0, 1.0)
        cut = 3 + 0.5 * (1 + ahead - 3)
        last = 0.5 * (1 + 0.9 * 11 - 5)
        first = 0.5 * (1 + 0.9 * 3 - 2)
        np.testing.assert_allclose(v[:, 0], [2 + first + 0.9 * 0.5 * (cut - 3), cut, 5 + last], rtol=1e-5)
        np.testing.assert_allclose(advantages[:, 0], [0.5 * (1 + 0.9 * cut - 2), cut - 3, last], rtol=1e-5)


def test_a_row_before_a_failure_bootstraps_from_what_it_last_saw() -> None:
    stream = (REWARDS, VALUES, NEXT, flags(0, 0, 0), flags(0, 0, 0), flags(1, 0, 1))
    np.testing.assert_allclose(returns_of(stream)[:, 0], [1 + 0.9 * 3, 0, 1 + 0.9 * 11], rtol=1e-6)
    np.testing.assert_allclose(advantages_of(stream)[:, 0], [1 + 0.9 * 3 - 2, 0, 1 + 0.9 * 11 - 5], rtol=1e-6)


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
    vtrace_of(stream, column(0, 0, 0), 1.0, 1.0)
    one_step_returns(stream[0], stream[2], stream[3], stream[5], GAMMA)
    assert all(np.array_equal(a, b) for a, b in zip(stream, kept, strict=True))


def test_the_discount_goes_straight_from_the_first_to_the_last_and_stays() -> None:
    assert [discount_at(0.98, 0.99, steps, 1000) for steps in (0, 500, 1000, 9000)] == pytest.approx(
        [0.98, 0.985, 0.99, 0.99]
    )
    assert discount_at(0.98, None, 10**9, 1) == 0.98


def test_explained_variance_by_hand() -> None:
    generator = np.random.default_rng(3)
    values, returns = generator.normal(size=(2, 5, 3)).astype(np.float32)
    valid = generator.random((5, 3)) < 0.7
    told = [(float(returns[t, b]), float(values[t, b])) for t in range(5) for b in range(3) if valid[t, b]]

    def variance(numbers: list[float]) -> float:
        mean = sum(numbers) / len(numbers)
        return sum((number - mean) ** 2 for number in numbers) / len(numbers)

    by_hand = 1.0 - variance([g - v for g, v in told]) / variance([g for g, _ in told])
    assert explained_variance(values, returns, valid) == pytest.approx(by_hand, rel=1e-9)


def test_explained_variance_of_perfect_and_of_constant_values_and_where_there_is_none() -> None:
    returns, valid = np.array([[1.0], [3.0]], np.float32), np.ones((2, 1), np.bool_)
    assert explained_variance(returns, returns, valid) == 1.0
    assert explained_variance(np.full_like(returns, 7.0), returns, valid) == 0.0
    assert explained_variance(returns, np.ones_like(returns), valid) is None
    assert explained_variance(returns, returns, ~valid) is None
    assert explained_variance(returns * np.float32(np.inf), returns, valid) is None
