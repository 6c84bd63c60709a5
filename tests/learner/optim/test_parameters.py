"""A gradient is applied whole or refused whole; the version counts what was applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from learner.config import learner_settings
from learner.durability.checkpoint import Checkpoint, load, save
from learner.events import Job, Outcome
from learner.optim.norms import NormCheck
from learner.optim.optimizers import StateMismatch, make_optimizer
from learner.optim.parameters import Parameters
from learner.optim.staleness import Rule
from learner.stream.writer import StreamWriter
from protocol.buffers import Buffer
from protocol.codecs.registry import CODECS, Sparse
from protocol.errors import Reason
from protocol.layout import Entry, Layout
from protocol.moments import Moments
from protocol.snapshot import Reconstruction

P, D = 50, 3
LAYOUT = Layout((Entry("weight", (5, 8)), Entry("bias", (10,))))
RULE = Rule(scaling="scale", full_lag_updates=1, max_lag_updates=8, max_lag_s=5.0)
ONES = np.ones(P, np.float32)


def parameters(optimizer: str = "preconditioned", version: int = 10, normalised: bool = True) -> Parameters:
    theta = np.linspace(-1.0, 1.0, P, dtype=np.float32)
    settings = learner_settings({"optimizer": optimizer})
    moments = Moments.empty(D) if normalised else None
    return Parameters(theta, version, make_optimizer(settings, theta), RULE, NormCheck(100.0), LAYOUT, moments)


def job(
    value: np.ndarray = ONES,
    base_version: int = 10,
    sequence: int = 1,
    lag_s: float = 0.0,
    moments: tuple[int, Buffer] | None = None,
) -> Job:
    payload = value.astype("<f4").tobytes()
    return Job(7, sequence, base_version, "f32", len(value), len(value), payload, moments, lag_s)


def sparse_job(sparse: Sparse) -> tuple[Job, Sparse]:
    encoded = CODECS["topk_i8"].encode(sparse)
    assert isinstance(encoded.decoded, Sparse)
    return Job(7, 1, 10, "topk_i8", P, encoded.count, encoded.buffer, None, 0.0), encoded.decoded


def observed(rows: int, fill: float = 1.0) -> tuple[int, bytes]:
    return rows, Moments(rows, np.full(D, fill), np.full(D, fill)).to_buffer()


def test_each_applied_gradient_makes_one_version() -> None:
    p = parameters()
    before = p.theta.copy()
    assert p.apply([job(sequence=1), job(sequence=2)], 0.5).outcomes == [
        Outcome(7, 1, "applied", 11, 1.0, "f32", 0),
        Outcome(7, 2, "applied", 12, 1.0, "f32", 1),
    ]
    assert p.version == 12
    np.testing.assert_array_equal(p.theta, before - np.float32(0.5) * ONES - np.float32(0.5) * ONES)


def test_age_is_judged_with_the_version_of_the_moment() -> None:
    p = parameters()
    outcomes = p.apply([job(sequence=n) for n in range(1, 12)], 0.01).outcomes
    assert [o.scale for o in outcomes[:4]] == [1.0, 1.0, 2 / 3, 2 / 4]
    assert [o.lag_updates for o in outcomes] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert [o.outcome for o in outcomes[8:]] == ["applied", "stale_updates", "stale_updates"]
    assert outcomes[-1].version == p.version == 19


def test_a_sparse_update_touches_its_coordinates_alone() -> None:
    p = parameters()
    before = p.theta.copy()
    order, decoded = sparse_job(Sparse(P, np.array([2, 30], np.int32), np.array([1.0, -0.5], np.float32)))
    assert p.apply([order], 0.1).outcomes[0].outcome == "applied"
    before[decoded.indices] -= np.float32(0.1) * decoded.values
    np.testing.assert_array_equal(p.theta, before)


BAD_JOBS = {
    Reason.STALE_UPDATES: job(base_version=1),
    Reason.STALE_SECONDS: job(lag_s=5.1),
    Reason.WRONG_LENGTH: job(value=np.ones(P + 1, np.float32)),
    Reason.UNKNOWN_CODEC: Job(7, 1, 10, "zip", P, P, b"", None, 0.0),
    Reason.MALFORMED_PAYLOAD: Job(7, 1, 10, "f32", P, P, b"short", None, 0.0),
    Reason.NOT_FINITE: job(value=np.where(np.arange(P) == 3, np.nan, ONES)),
    Reason.NORM_EXCEEDED: job(value=ONES * 1e3),
}


@pytest.mark.parametrize("optimizer", ["preconditioned", "adam"])
@pytest.mark.parametrize("reason", list(BAD_JOBS))
def test_a_refusal_changes_nothing(reason: Reason, optimizer: str) -> None:
    p = parameters(optimizer)
    before = p.checkpoint_arrays()
    outcome = p.apply([BAD_JOBS[reason]], 0.1).outcomes[0]
    assert (outcome.outcome, outcome.version, outcome.scale) == (reason.value, 10, 0.0)
    _assert_equal(p.checkpoint_arrays(), before)


@pytest.mark.parametrize("moments", [(4, b"short"), (0, observed(4)[1]), observed(4, np.nan), observed(4, -1.0)])
def test_faulty_moments_refuse_the_whole_gradient(moments: tuple[int, bytes]) -> None:
    p = parameters()
    before = p.checkpoint_arrays()
    assert p.apply([job(moments=moments)], 0.1).outcomes[0].outcome in ("malformed_payload", "not_finite")
    _assert_equal(p.checkpoint_arrays(), before)


def test_moments_in_a_run_that_normalises_nothing_are_malformed() -> None:
    p = parameters(normalised=False)
    assert p.apply([job(moments=observed(4))], 0.1).outcomes[0].outcome == "malformed_payload"
    assert p.moments is None


def test_a_bad_gradient_does_not_hold_up_the_next() -> None:
    outcomes = parameters().apply([BAD_JOBS[Reason.NOT_FINITE], job(sequence=2)], 0.1).outcomes
    assert [(o.outcome, o.version) for o in outcomes] == [("not_finite", 10), ("applied", 11)]


def test_moments_of_applied_gradients_are_merged() -> None:
    p = parameters()
    p.apply([job(moments=observed(4, 1.0)), job(moments=observed(4, 3.0))], 0.1)
    assert p.moments is not None
    assert p.moments.count == 8
    np.testing.assert_array_equal(p.moments.mean, [2.0] * D)


def test_a_snapshot_is_what_theta_was() -> None:
    p = parameters()
    p.apply([job(moments=observed(4))], 0.1)
    then = p.theta.copy()
    record, buffers = StreamWriter(p, budgeted=False).key_frame(epoch=2)
    p.apply([job(base_version=11)], 0.1)
    held = Reconstruction(LAYOUT.digest, P)
    assert held.apply(record, buffers) == "taken"
    np.testing.assert_array_equal(held.theta, then)
    assert (record.epoch, record.version, record.observations) == (2, 11, 4)


def test_the_digest_names_the_bits() -> None:
    p, q = parameters(), parameters()
    assert p.digest() == q.digest()
    q.theta[0] = np.nextafter(q.theta[0], np.float32(9))
    assert p.digest() != q.digest()


@pytest.mark.parametrize("optimizer", ["preconditioned", "adam", "rmsprop_paper"])
def test_a_restored_learner_goes_on_to_the_bit(optimizer: str, tmp_path: Path) -> None:
    p, q = parameters(optimizer), parameters(optimizer, version=0)
    p.apply([job(moments=observed(4)), job(value=ONES * 2)], 0.1)
    kept = load(save(tmp_path, Checkpoint("", p.version, 1, {}, p.checkpoint_arrays()), keep=1))
    q.restore(kept.version, kept.arrays)
    for each in (p, q):
        each.apply([job(value=-ONES, base_version=12, moments=observed(2, 5.0))], 0.1)
    assert p.version == q.version == 13
    _assert_equal(p.checkpoint_arrays(), q.checkpoint_arrays())


def test_the_arrays_of_another_run_are_refused_and_nothing_changes() -> None:
    p = parameters("adam")
    before = p.checkpoint_arrays()
    for arrays in ({}, {"theta": ONES[:-1]}, parameters("preconditioned").checkpoint_arrays()):
        with pytest.raises(StateMismatch):
            p.restore(99, arrays)
    assert p.version == 10
    _assert_equal(p.checkpoint_arrays(), before)


def _assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
