"""A stream with a budget keeps to it, its followers hold its bits, and what a record leaves out comes later."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from learner.optim.norms import NormCheck
from learner.optim.optimizers import make_optimizer
from learner.optim.parameters import Parameters
from learner.stream.bandwidth import TokenBucket
from learner.stream.delta import HEADER_BYTES
from learner.stream.update_log import DIGEST_VERSIONS
from protocol.buffers import size_of
from protocol.messages import Snapshot, Updates
from protocol.moments import Moments
from protocol.snapshot import Reconstruction
from tests.learner.stream.test_update_log import LAYOUT, RULES, P, job, settings
from tests.learner.streamed import Streamed

KEY_BYTES = 4 * P + HEADER_BYTES
FEW = 400.0  # bytes: a header and some coordinates


def budgeted(
    optimizer: str = "preconditioned", rule: int = 0, version: int = 0, moments: Moments | None = None
) -> Streamed:
    theta = np.linspace(-1.0, 1.0, P).astype(np.float32)
    rules = msgspec.structs.replace(RULES[rule], budgeted=True)
    made = make_optimizer(settings(optimizer), theta)
    return Streamed(Parameters(theta, version, made, rules, NormCheck(1e6), LAYOUT, moments), budgeted=True)


def follower(p: Streamed) -> Reconstruction:
    held = Reconstruction(LAYOUT.digest, P)
    held.apply(*p.key_frame(1))
    return held


def work(
    p: Streamed,
    held: Reconstruction,
    allowed_bytes: float,
    *,
    name: str = "topk_i8",
    seed: int = 0,
    pays: bool = False,
) -> Snapshot | Updates:
    p.apply([job(name, p.version, seed)], 0.1)
    record, buffers = p.record(1, allowed_bytes, may_key_frame=pays)
    assert held.apply(record, buffers) == "taken"
    assert held.theta.tobytes() == p.published.tobytes()
    assert held.version == p.version
    assert pays or sum(map(size_of, buffers)) + HEADER_BYTES <= 1.05 * allowed_bytes
    return record


def test_what_fits_is_told_as_it_was_applied() -> None:
    p = budgeted()
    held = follower(p)
    for seed in range(5):
        assert isinstance(work(p, held, 1e6, seed=seed), Updates)
    assert held.theta.tobytes() == p.theta.tobytes()


def test_what_does_not_fit_is_a_delta_of_the_largest_differences() -> None:
    p = budgeted()
    held = follower(p)
    before = p.theta.copy()
    record = work(p, held, FEW, name="f32")
    assert isinstance(record, Snapshot)
    assert (record.record, record.codec) == ("delta", "topk_i8")
    moved, wanted = np.abs(held.theta - before), np.abs(p.theta - before)
    assert 0 < np.count_nonzero(moved) <= record.count < P
    assert wanted[moved > 0].min() >= np.sort(wanted)[-record.count]


def test_what_was_left_out_comes_with_the_next_records() -> None:
    p = budgeted()
    held = follower(p)
    work(p, held, FEW, name="f32")
    gaps = [np.linalg.norm(p.theta - held.theta)]
    for _ in range(12):
        p.apply([job("topk_i8", p.version, 1)], 1e-6)
        assert held.apply(*p.record(1, FEW, may_key_frame=False)) == "taken"
        gaps.append(np.linalg.norm(p.theta - held.theta))
    assert gaps[-1] < 0.1 * gaps[0]
    assert gaps == sorted(gaps, reverse=True)


def test_a_record_that_must_be_says_a_little_whatever_is_left() -> None:
    p = budgeted()
    held = follower(p)
    p.apply([job("f32", 0, 0)], 0.1)
    record, buffers = p.record(1, -5_000.0, may_key_frame=False)
    assert held.apply(record, buffers) == "taken"
    assert 0 < size_of(buffers[0]) < 200


def test_with_more_bytes_all_coordinates_go_in_eight_bits() -> None:
    p = budgeted("adam")
    record = work(p, follower(p), 1000.0, name="f32")
    assert isinstance(record, Snapshot)
    assert (record.record, record.codec, record.count) == ("delta", "i8", P)


def test_a_key_makes_all_exact_again() -> None:
    p = budgeted()
    held = follower(p)
    work(p, held, FEW, name="f32")
    assert p.published.tobytes() != p.theta.tobytes()
    assert isinstance(work(p, held, 1e6), Snapshot)  # updates alone would not do
    record = work(p, held, FEW, pays=True)
    assert isinstance(record, Snapshot)
    assert record.record == "key"
    assert held.theta.tobytes() == p.theta.tobytes()
    assert isinstance(work(p, held, FEW, pays=True), Updates)  # they fit, so a key is not wasted


@pytest.mark.parametrize("optimizer", ["preconditioned", "adam"])
@pytest.mark.parametrize("rule", range(len(RULES)))
def test_a_key_on_request_says_what_followers_hold(optimizer: str, rule: int) -> None:
    p = budgeted(optimizer, rule)
    held = follower(p)
    random = np.random.default_rng(1)
    for seed in range(20):
        work(p, held, float(random.choice([FEW, 1000.0])), name="f32", seed=seed, pays=bool(random.random() < 0.2))
        late = Reconstruction(LAYOUT.digest, P)
        late.apply(*p.key_frame(1))
        assert late.theta.tobytes() == held.theta.tobytes()
        assert late.version == held.version


def test_without_a_budget_followers_hold_theta() -> None:
    theta = np.zeros(P, np.float32)
    p = Streamed(Parameters(theta, 0, make_optimizer(settings("adam"), theta), RULES[0], NormCheck(1e6), LAYOUT))
    held = follower(p)
    work(p, held, math.inf, name="f32", pays=True)
    assert p.published is p.theta


def test_the_thousandth_version_s_delta_tells_the_digest_of_what_it_leads_to() -> None:
    p = budgeted(version=DIGEST_VERSIONS - 2)
    held = follower(p)
    told = [work(p, held, FEW, name="f32", seed=seed) for seed in range(3)]
    assert [getattr(record, "digest", None) is not None for record in told] == [False, True, False]


def test_moments_travel_with_some_deltas_and_take_a_small_part() -> None:
    p = budgeted(moments=Moments(3, np.zeros(20), np.ones(20)))
    held, moments_bytes, sent_bytes = follower(p), 0, 0
    for _ in range(40):
        p.apply([job("f32", p.version, 1)], 0.1)
        record, buffers = p.record(1, 600.0, may_key_frame=False)
        assert held.apply(record, buffers) == "taken"
        moments_bytes += size_of(buffers[1]) if len(buffers) > 1 else 0
        sent_bytes += HEADER_BYTES + sum(map(size_of, buffers))
        assert HEADER_BYTES + sum(map(size_of, buffers)) <= 630
    assert 0.05 < moments_bytes / sent_bytes < 0.2
    assert held.moments is not None
    assert held.moments.count == 3


def test_a_restored_life_begins_with_theta() -> None:
    p = budgeted()
    work(p, follower(p), FEW, name="f32")
    again = budgeted()
    again.restore(p.version, p.checkpoint_arrays())
    assert again.key_frame(2)[1][0] == p.theta.tobytes()
    assert again.published.tobytes() == p.theta.tobytes()


def test_a_follower_with_another_bit_finds_out_at_the_next_digest() -> None:
    p = budgeted(version=DIGEST_VERSIONS - 2)
    record, (whole, *rest) = p.key_frame(1)
    theta = np.frombuffer(whole, "<f4").copy()
    theta[7] += 0.5
    held = Reconstruction(LAYOUT.digest, P)
    held.apply(record, [theta.tobytes(), *rest])
    outcomes = []
    for seed in range(2):
        p.apply([job("f32", p.version, seed)], 0.1)
        outcomes.append(held.apply(*p.record(1, FEW, may_key_frame=False)))
    assert outcomes == ["taken", "diverged"]


@pytest.mark.parametrize("optimizer", ["preconditioned", "adam"])
def test_what_a_delta_left_out_counts_as_drift_without_lag(optimizer: str) -> None:
    """A gradient at what followers hold is late by what they lack, though it is of the newest version."""
    exact, thin = budgeted(optimizer, rule=3), budgeted(optimizer, rule=3)
    for p, allowed_bytes in ((exact, math.inf), (thin, FEW)):
        work(p, follower(p), allowed_bytes, name="f32", pays=p is exact)
        p.apply([job("f32", p.version, 5)], 0.1)
    lacking = np.flatnonzero(thin.theta != exact.theta)
    assert 0 < len(lacking) < P  # the first gradient left θ the same, and the second met what followers lack


def test_after_a_burst_a_stream_that_fits_is_exact_again() -> None:
    """Three seconds of too much, then less than the budget: a key within its time, then updates as they are."""
    p = budgeted()
    held, budget, now = follower(p), TokenBucket(24.0, KEY_BYTES, 0.0), 0.0  # 3 kB/s
    told: list[tuple[float, str]] = []
    while now < 12.0:
        rate = 200 if now < 3.0 else 20
        p.apply([job("topk_i8", p.version, round(now * 100))], 0.1)
        if budget.ready(now):
            record, buffers = p.record(1, budget.available(now), may_key_frame=budget.affords_key_frame(now))
            kind = record.record if isinstance(record, Snapshot) else "updates"
            budget.spend(now, HEADER_BYTES + sum(map(size_of, buffers)), key=kind == "key")
            assert held.apply(record, buffers) == "taken"
            told.append((now, kind))
        now += 1.0 / rate
    assert "delta" in [kind for at, kind in told if at < 3.0]
    assert {kind for at, kind in told if at > 6.0} == {"updates"}
    assert held.theta.tobytes() == p.published.tobytes() == p.theta.tobytes()
