"""Advantages and returns of a rollout. Pure. Knows numpy arrays; no torch, no simulator, no network.

All arrays are [T, B], row t about the transition that action t made:
rewards: float32, received after action t
values: float32, V(s_t)
next_values: float32, V of the true successor s_{t+1}, also where the episode ended there
terminated: bool, the episode ended in s_{t+1}: nothing follows, so the bootstrap is 0
truncated: bool, the episode was cut at s_{t+1}: the return goes on from V(s_{t+1}), the trace does not
valid: bool, False where the simulator only reset, or failed; such a row gets 0 and no other row sees it
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Corrected(NamedTuple):
    """V-trace's, float32 [T, B] each. returns: v_s, which values are fitted to. advantages: of the policy.

    corrections: v_s - V(s_s).
    """

    returns: Floats
    advantages: Floats
    corrections: Floats


def discount_at(first: float, final: float | None, env_steps: int, discount_steps: int) -> float:
    """γ after so many environment steps of the run: straight from the first to the final one, then level."""
    if final is None:
        return first
    return first + min(1.0, env_steps / discount_steps) * (final - first)


def gae(
    rewards: Floats,
    values: Floats,
    next_values: Floats,
    terminated: Bools,
    truncated: Bools,
    valid: Bools,
    discount: float,
    lam: float,
) -> Floats:
    """Generalised advantage estimates, float32 [T, B]: Schulman et al. 2016, equation 16.

    The sum of (γλ)^l δ_{t+l} to the end of the episode or of the rollout, with δ_t = r_t + γ V(s_{t+1}) - V(s_t).
    """
    gamma = np.float32(discount)
    bootstrap = np.where(terminated, np.float32(0.0), next_values)
    deltas = np.where(valid, rewards + gamma * bootstrap - values, np.float32(0.0))
    decay = np.where(terminated | truncated | ~valid, np.float32(0.0), gamma * np.float32(lam))
    return _discounted_sums(deltas, decay)


def n_step_returns(
    rewards: Floats, next_values: Floats, terminated: Bools, truncated: Bools, valid: Bools, discount: float
) -> Floats:
    """The longest n-step return that the rollout holds, float32 [T, B]: Mnih et al. 2016, algorithm S3.

    R_t = r_t + γ R_{t+1}, where R after the last row or a truncated one is V(s_{t+1}), and after a terminated one 0.
    A row that a simulator's failure follows is like a truncated one.
    """
    gamma = np.float32(discount)
    ends = terminated | truncated
    ends[:-1] |= ~valid[1:]
    ends[-1] = True
    bootstrap = np.where(terminated | ~ends, np.float32(0.0), next_values)
    gains = np.where(valid, rewards + gamma * bootstrap, np.float32(0.0))
    decay = np.where(ends | ~valid, np.float32(0.0), gamma)
    return _discounted_sums(gains, decay)


def one_step_returns(rewards: Floats, next_values: Floats, terminated: Bools, valid: Bools, discount: float) -> Floats:
    """r_t + γ of the next row's value, float32 [T, B]: Mnih et al. 2016, algorithms 1 and S1.

    next_values: float32 [T, B], max_a Q(s_{t+1}, a; θ⁻) or, for Sarsa, Q(s_{t+1}, a_{t+1}; θ⁻).
    """
    bootstrap = np.where(terminated, np.float32(0.0), next_values)
    return np.where(valid, rewards + np.float32(discount) * bootstrap, np.float32(0.0))


def vtrace(  # noqa: PLR0913, PLR0917 - the paper's quantities, each by its name
    log_ratios: Floats,
    rewards: Floats,
    values: Floats,
    next_values: Floats,
    terminated: Bools,
    truncated: Bools,
    valid: Bools,
    discount: float,
    lam: float,
    clip: float,
) -> Corrected:
    """Value targets and policy advantages: Espeholt et al. 2018, equation 1 and section 4.2.

    v_s = V(s_s) + Σ γ^{t-s} (Π λ c_i) ρ_t δ_t with ρ and c cut at ``clip`` (ρ̄ = c̄), and the advantage is
    ρ_s (r_s + γ v_{s+1} - V(s_s)). log_ratios: log π(a_t|s_t) - log μ(a_t|s_t), π the policy to learn, μ the one that
    acted. With equal policies v_s - V(s_s) is generalised advantage estimation's.
    """
    gamma = np.float32(discount)
    ends = terminated | truncated
    ratios = np.minimum(np.exp(log_ratios), np.float32(clip))
    bootstrap = np.where(terminated, np.float32(0.0), next_values)
    errors = np.where(valid, ratios * (rewards + gamma * bootstrap - values), np.float32(0.0))
    decay = np.where(ends | ~valid, np.float32(0.0), gamma * np.float32(lam) * ratios)
    corrections = _discounted_sums(errors, decay)
    following = np.concatenate([corrections[1:], np.zeros_like(corrections[:1])])
    ahead = bootstrap + np.where(ends, np.float32(0.0), following)  # v_{s+1}: V(s_{s+1}) and its correction
    advantages = np.where(valid, ratios * (rewards + gamma * ahead - values), np.float32(0.0))
    return Corrected(values + corrections, advantages, corrections)


def explained_variance(values: Floats, returns: Floats, valid: Bools) -> float | None:
    """1 - Var(returns - values) / Var(returns) over valid rows: 1 of perfect values, 0 of a constant, below 0 of worse.

    None where the returns are all alike, or something is not finite.
    """
    told = returns[valid].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        if told.size == 0 or not (variance := float(told.var())) > 0.0:
            return None
        explained = 1.0 - float((told - values[valid]).var()) / variance
    return explained if math.isfinite(explained) else None


def _discounted_sums(terms: Floats, decay: Floats) -> Floats:
    """In place: terms[t] += decay[t] * terms[t + 1], from the last row to the first."""
    for t in range(len(terms) - 2, -1, -1):
        terms[t] += decay[t] * terms[t + 1]
    return terms
