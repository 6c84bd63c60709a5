"""A stream with a budget keeps to it, its followers hold its bits, and what a record leaves out comes later."""

from __future__ import annotations

import math

import numpy as np
import pytest

from learner.log import DIGEST_VERSIONS
from learner.mirror import HEADER_BYTES
from learner.optimizer import make_optimizer
from learner.parameters import Parameters
from learner.publication import BURST_S, LEAST_BYTES, Allowance
from protocol.codecs import codec
from protocol.messages import Snapshot, Updates
from protocol.moments import Moments
from protocol.snapshot import Reconstruction
from protocol.updates import theta_digest
from protocol.vectors import size_of
from tests.learner.test_log import LAYOUT, RULES, P, job, settings

KEY_BYTES = 4 * P + HEADER_BYTES
FEW = 400.0  # bytes: a header and some coordinates


def budgeted(
    optimizer: str = "addition", rule: int = 0, version: int = 0, moments: Moments | None = None
) -> Parameters:
    theta = np.linspace(-1.0, 1.0, P).astype(np.float32)
    rules = RULES[rule]
    return Parameters(
        theta, version, make_optimizer(settings(optimizer), theta), rules, 1e6, LAYOUT, moments, budgeted=True
    )


def follower(p: Parameters) -> Reconstruction:
    held = Reconstruction(LAYOUT.digest, P)
    held.apply(*p.snapshot(1))
    return held


def work(
    p: Parameters, held: Reconstruction, allowed_bytes: float, *, name: str = "topk_i8", seed: int = 0
) -> Snapshot | Updates:
    p.apply([job(name, p.version, seed)], 0.1)
    record, buffers = p.record(1, allowed_bytes)
    assert held.apply(record, buffers) == "taken"
    assert held.theta.tobytes() == p.published.tobytes()
    assert held.version == p.version
    assert sum(map(size_of, buffers)) + HEADER_BYTES <= allowed_bytes
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
        assert held.apply(*p.record(1, FEW)) == "taken"
        gaps.append(np.linalg.norm(p.theta - held.theta))
    assert gaps[-1] < 0.1 * gaps[0]
    assert gaps == sorted(gaps, reverse=True)


def test_a_record_that_must_be_says_a_little_whatever_is_left() -> None:
    p = budgeted()
    held = follower(p)
    p.apply([job("f32", 0, 0)], 0.1)
    record, buffers = p.record(1, -5_000.0)
    assert held.apply(record, buffers) == "taken"
    assert 0 < size_of(buffers[0]) < 200


def test_with_more_bytes_all_coordinates_go_in_eight_bits() -> None:
    p = budgeted("adam")
    record = work(p, follower(p), 1000.0, name="f32")
    assert isinstance(record, Snapshot)
    assert (record.record, record.codec, record.count) == ("delta", "i8", P)


def test_a_key_that_fits_makes_all_exact_again() -> None:
    p = budgeted()
    held = follower(p)
    work(p, held, FEW, name="f32")
    assert p.published.tobytes() != p.theta.tobytes()
    record = work(p, held, KEY_BYTES)
    assert isinstance(record, Snapshot)
    assert record.record == "key"
    assert held.theta.tobytes() == p.theta.tobytes()
    assert isinstance(work(p, held, KEY_BYTES - 1), Updates)


@pytest.mark.parametrize("optimizer", ["addition", "adam"])
@pytest.mark.parametrize("rule", range(len(RULES)))
def test_a_key_on_request_says_what_followers_hold(optimizer: str, rule: int) -> None:
    p = budgeted(optimizer, rule)
    held = follower(p)
    random = np.random.default_rng(1)
    for seed in range(20):
        work(p, held, float(random.choice([FEW, 1000.0, KEY_BYTES])), name="f32", seed=seed)
        late = Reconstruction(LAYOUT.digest, P)
        late.apply(*p.snapshot(1))
        assert late.theta.tobytes() == held.theta.tobytes()
        assert late.version == held.version


def test_without_a_budget_followers_hold_theta() -> None:
    theta = np.zeros(P, np.float32)
    p = Parameters(theta, 0, make_optimizer(settings("adam"), theta), RULES[0], 1e6, LAYOUT)
    held = follower(p)
    work(p, held, math.inf, name="f32")
    assert p.published is p.theta


def test_the_thousandth_version_s_delta_tells_the_digest_of_what_it_leads_to() -> None:
    p = budgeted(version=DIGEST_VERSIONS - 2)
    held = follower(p)
    told = [work(p, held, FEW, name="f32", seed=seed) for seed in range(3)]
    assert [getattr(record, "digest", None) is not None for record in told] == [False, True, False]


def test_moments_travel_with_a_delta() -> None:
    moments = Moments(3, np.zeros(2), np.ones(2))
    p = budgeted(moments=moments)
    held = follower(p)
    work(p, held, FEW, name="f32")
    assert held.moments is not None
    assert held.moments.count == 3


def test_a_restored_life_begins_with_theta() -> None:
    p = budgeted()
    work(p, follower(p), FEW, name="f32")
    again = budgeted()
    again.restore(p.version, p.checkpoint_arrays())
    assert again.snapshot(2)[1][0] == p.theta.tobytes()
    assert again.published.tobytes() == p.theta.tobytes()


def test_the_digest_proves_a_follower_of_deltas() -> None:
    p = budgeted()
    held = follower(p)
    work(p, held, FEW, name=codec("f32").name)
    assert theta_digest(held.theta) == theta_digest(p.published)


# the budget


def test_an_allowance_is_bytes_a_second_and_what_was_saved() -> None:
    allowance = Allowance(kbps=80.0, now=0.0)  # 10 kB/s
    assert allowance.at(0.0) == 10_000 * BURST_S == allowance.at(99.0)
    allowance.spent(0.0, 9_000)
    assert allowance.at(0.0) == 1_000
    assert not allowance.ready(0.09)
    assert allowance.ready(0.11)
    assert allowance.at(0.5) == 6_000


def test_an_overdraft_is_paid_back_first() -> None:
    allowance = Allowance(kbps=80.0, now=0.0)
    allowance.spent(0.0, 12_000)
    assert allowance.at(0.0) == -2_000
    assert allowance.at(0.2 + LEAST_BYTES / 10_000) == pytest.approx(LEAST_BYTES)


def test_a_budget_below_the_least_record_waits_for_all_that_may_be_saved() -> None:
    allowance = Allowance(kbps=8.0, now=0.0)  # 1 kB/s
    assert allowance.ready(0.0)
    allowance.spent(0.0, 500)
    assert not allowance.ready(0.4)
    assert allowance.ready(0.5)


def test_a_clock_that_stands_still_gives_nothing() -> None:
    allowance = Allowance(kbps=80.0, now=5.0)
    allowance.spent(5.0, 10_000)
    assert allowance.at(4.0) == 0.0


def test_without_a_budget_everything_is_allowed() -> None:
    allowance = Allowance(None, 0.0)
    allowance.spent(0.0, 10**12)
    assert allowance.at(0.0) == math.inf
    assert allowance.ready(0.0)
