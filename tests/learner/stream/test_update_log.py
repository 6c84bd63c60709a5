"""The log is thin while it is worth it, whole or not at all, and its followers hold the learner's bits."""

from __future__ import annotations

import numpy as np
import pytest

from learner.config import LearnerSettings, learner_settings
from learner.events import Job
from learner.optim.applied import AppliedUpdate
from learner.optim.norms import NormCheck
from learner.optim.optimizers import make_optimizer
from learner.optim.parameters import Parameters
from learner.optim.staleness import Rule
from learner.stream.update_log import DIGEST_VERSIONS, UpdateLog
from protocol.codecs.registry import CODECS, Array, Factors, Sparse, codec
from protocol.codecs.sparse import random_indices
from protocol.layout import Entry, Layout
from protocol.messages import MAX_UPDATES, Snapshot, Updates
from protocol.moments import Moments
from protocol.snapshot import Reconstruction
from protocol.updates import theta_digest
from tests.learner.streamed import Streamed

P = 400
LAYOUT = Layout((Entry("w", (20, 20)),))
RULES = [
    Rule(),
    Rule(scaling="scale", full_lag_updates=1),
    Rule(scaling="gap", learning_rate=0.1),
    Rule(scaling="compensate", compensation=2.0),
]


def settings(optimizer: str) -> LearnerSettings:
    return learner_settings({"optimizer": optimizer})


def parameters(rule: Rule = RULES[0], optimizer: str = "preconditioned", moments: Moments | None = None) -> Streamed:
    theta = np.linspace(-1.0, 1.0, P).astype(np.float32)
    made = make_optimizer(settings(optimizer), theta)
    return Streamed(Parameters(theta, 0, made, rule, NormCheck(1e6), LAYOUT, moments))


def job(name: str, base_version: int, seed: int, moments: tuple[int, bytes] | None = None) -> Job:
    random = np.random.default_rng(seed)
    vector = random.standard_normal(P).astype(np.float32)
    value: Array | Factors = vector
    if codec(name).selection == "rank":
        value = Factors(P, ((vector[:40].reshape(20, 2), vector[40:80].reshape(20, 2)),))
    elif codec(name).sparse:
        value = Sparse(P, random_indices(seed, P, 8), vector[:8], seed)
    encoded = codec(name).encode(value)
    return Job(1, seed + 1, base_version, name, P, encoded.count, encoded.buffer, moments, 0.0)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.scaling)
@pytest.mark.parametrize("name", sorted(CODECS))
def test_a_follower_of_the_records_holds_the_learner_s_bits(rule: Rule, name: str) -> None:
    p, held = parameters(rule), Reconstruction(LAYOUT.digest, P)
    held.apply(*p.record(1))
    for batch in range(4):
        lags = [min(p.version, each) for each in (0, 1, 3)]
        p.apply([job(name, p.version - lag, 10 * batch + n) for n, lag in enumerate(lags)], 0.1)
        assert held.apply(*p.record(1)) == "taken"
        assert held.theta.tobytes() == p.theta.tobytes()
        assert held.version == p.version


def test_a_thin_batch_is_one_record_and_a_thick_one_a_key() -> None:
    p = parameters()
    p.record(1)
    p.apply([job("topk_i8", 0, n) for n in range(5)], 0.1)
    record, buffers = p.record(1)
    assert isinstance(record, Updates)
    assert (record.base_version, record.version, len(record.applied)) == (0, 5, 5)
    assert len(buffers[0]) == sum(each.size for each in record.applied) < 2 * P
    p.apply([job("i8", p.version, n) for n in range(2)], 0.1)  # together more than half a key
    assert isinstance(p.record(1)[0], Snapshot)
    p.apply([job("i8", p.version, 0)], 0.1)
    assert isinstance(p.record(1)[0], Updates)


def test_what_is_refused_is_no_part_of_a_record() -> None:
    p = parameters(Rule(max_lag_updates=2))
    p.record(1)
    p.apply([job("topk_i8", 0, n) for n in range(9)], 0.1)
    record, _ = p.record(1)
    assert isinstance(record, Updates)
    assert len(record.applied) == record.version == 3


def test_with_an_optimizer_here_there_are_keys_alone() -> None:
    p = parameters(optimizer="adam")
    p.record(1)
    p.apply([job("topk_i8", 0, 0)], 0.1)
    assert isinstance(p.record(1)[0], Snapshot)


def test_moments_are_told_with_each_record() -> None:
    p = parameters(moments=Moments.empty(2))
    seen = Moments(4, np.ones(2), np.ones(2))
    p.record(1)
    p.apply([job("topk_i8", 0, 0, (4, seen.to_buffer()))], 0.1)
    record, buffers = p.record(1)
    assert record.observations == 4
    assert Moments.from_buffer(buffers[1], 4).mean.tolist() == [1.0, 1.0]


def test_after_a_restore_the_log_begins_there() -> None:
    p, q = parameters(), parameters()
    p.apply([job("topk_i8", 0, n) for n in range(3)], 0.1)
    q.restore(p.version, p.checkpoint_arrays())
    q.apply([job("topk_i8", 3, 7)], 0.1)
    record, _ = q.record(2)
    assert isinstance(record, Updates)
    assert (record.epoch, record.base_version, record.version) == (2, 3, 4)


def some(payload: bytes = b"12345") -> AppliedUpdate:
    return AppliedUpdate(((1, 1),), "f32", P, payload, 1.0, 1.0)


def test_the_log_keeps_no_more_than_half_a_key() -> None:
    log, theta = UpdateLog(LAYOUT.digest, P, 0), np.zeros(P, np.float32)
    log.add(some(bytes(2 * P)))
    assert log.next_record(1, 1, theta, None) is not None
    log.add(some(bytes(2 * P)))
    log.add(some(b"1"))
    log.add(some(b"1"))
    assert log.next_record(1, 4, theta, None) is None
    log.add(some(b"1"))
    assert log.next_record(1, 5, theta, None) is not None


def test_the_log_keeps_no_more_than_a_record_may_hold() -> None:
    log = UpdateLog(LAYOUT.digest, P * 100, 0)
    for _ in range(MAX_UPDATES + 1):
        log.add(some(b""))
    assert log.next_record(1, MAX_UPDATES + 1, np.zeros(P, np.float32), None) is None


def test_a_digest_is_told_now_and_then() -> None:
    log, theta = UpdateLog(LAYOUT.digest, P, DIGEST_VERSIONS - 2), np.ones(P, np.float32)
    told = []
    for version in range(DIGEST_VERSIONS - 1, DIGEST_VERSIONS + 3):
        log.add(some())
        made = log.next_record(1, version, theta, None)
        assert made is not None
        told.append(made[0].digest)
    assert told == [None, theta_digest(theta), None, None]
