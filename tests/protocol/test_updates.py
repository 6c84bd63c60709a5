"""Records of what was applied: who repeats them holds the same bits, and nothing unsound is repeated."""

from __future__ import annotations

import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codecs.registry import CODECS, Array, Factors, Sparse, codec
from protocol.codecs.sparse import random_indices
from protocol.errors import PayloadFault, Reason
from protocol.messages import Applied, Updates, decode, encode
from protocol.moments import Moments
from protocol.snapshot import WAITING, Reconstruction, key_frame
from protocol.updates import Entry, pack, subtract, theta_digest, unpack

P = 600
LAYOUT = bytes(range(8))
START = np.linspace(-1.0, 1.0, P).astype(np.float32)


def entry(name: str, seed: int, factor: float = 0.5) -> Entry:
    random = np.random.default_rng(seed)
    vector = random.standard_normal(P).astype(np.float32)
    value: Array | Factors = vector
    if codec(name).selection == "rank":
        value = Factors(P, ((vector[:40].reshape(20, 2), vector[40:90].reshape(25, 2)), vector[500:]))
    elif codec(name).sparse:
        value = Sparse(P, random_indices(seed, P, 20), vector[:20], seed)
    encoded = codec(name).encode(value)
    return Entry(name, encoded.count, encoded.buffer, float(np.float32(factor)))


def record(*entries: Entry, base_version: int = 0, epoch: int = 1, **fields: object) -> tuple[Updates, list[bytes]]:
    applied, payload = pack(entries)
    made = Updates(epoch, base_version + len(entries), base_version, LAYOUT, P, applied)
    return msgspec.structs.replace(made, **fields), [payload]


def follower(version: int = 0, epoch: int = 1) -> Reconstruction:
    held = Reconstruction(LAYOUT, P)
    held.apply(*key_frame(epoch, version, LAYOUT, START))
    return held


def plainly(*entries: Entry) -> bytes:
    """One float32 product and one float32 difference for each coordinate, in order."""
    theta = START.copy()
    for each in entries:
        value = codec(each.codec).decode(each.payload, P, each.count)
        for i, number in enumerate((value.dense() if isinstance(value, Sparse) else value).tolist()):
            if number:
                theta[i] = theta[i] - np.float32(each.factor) * np.float32(number)
    return theta.tobytes()


@pytest.mark.parametrize("name", CODECS)
def test_what_was_applied_is_repeated_to_the_bit(name: str) -> None:
    entries = [entry(name, 1, 0.1), entry(name, 2, 0.3), entry("f16", 3, 1e-3)]
    message, buffers = decode(encode(*record(*entries)))
    assert isinstance(message, Updates)
    held = follower()
    assert held.apply(message, buffers) == "taken"
    assert held.version == 3
    assert held.theta.tobytes() == plainly(*entries)


def test_the_learner_subtracts_as_a_follower_does() -> None:
    entries = [entry("f32", 1, 0.1), entry("topk_i8", 2, 0.7)]
    theta = START.copy()
    for value, factor in unpack(*_only(record(*entries))):
        subtract(theta, value, factor)
    assert theta.tobytes() == plainly(*entries)


def _only(made: tuple[Updates, list[bytes]]) -> tuple[Updates, bytes]:
    return made[0], made[1][0]


def test_weights_that_were_handed_out_are_never_written_again() -> None:
    held = follower()
    first = held.theta
    held.apply(*record(entry("topk_i8", 1)))
    second = held.theta
    held.apply(*record(entry("topk_i8", 2), base_version=1))
    assert first.tobytes() == START.tobytes()
    assert second.tobytes() == plainly(entry("topk_i8", 1))
    assert not second.flags.writeable


def test_weights_that_nobody_has_are_changed_in_place() -> None:
    """Without a copy, which the largest network would feel: memory does not grow by θ."""
    length = 1 << 20
    held = Reconstruction(LAYOUT, length)
    held.apply(*key_frame(1, 0, LAYOUT, np.zeros(length, np.float32)))
    records = [record(entry("topk_i8", n), base_version=n, length=length) for n in range(2)]
    held.apply(*records[0])
    tracemalloc.start()
    assert held.apply(*records[1]) == "taken"
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < length  # a fourth of θ


def test_a_gap_is_told_and_closed_by_a_key_and_what_waited() -> None:
    held = follower()
    records = [record(entry("topk_i8", n), base_version=n) for n in range(6)]
    assert [held.apply(*records[n]) for n in (0, 2, 3, 4)] == ["taken", "gap", "gap", "gap"]
    assert held.version == 1
    behind = follower(0)
    for n in range(3):
        behind.apply(*records[n])
    assert held.apply(*key_frame(1, 3, LAYOUT, behind.theta)) == "taken"
    assert held.version == 5
    assert held.apply(*records[5]) == "taken"
    assert held.theta.tobytes() == plainly(*(entry("topk_i8", n) for n in range(6)))


def test_a_key_that_does_not_reach_what_waited_is_taken_and_leaves_a_gap() -> None:
    held = follower()
    held.apply(*record(entry("topk_i8", 5), base_version=5))
    assert held.apply(*key_frame(1, 3, LAYOUT, START)) == "gap"
    assert held.version == 3
    assert held.apply(*key_frame(1, 5, LAYOUT, START)) == "taken"
    assert held.version == 6


def waited(length: int, each: Entry, count: int, key_version: int) -> tuple[str, int]:
    """What a key frame of this version leads to where so many records waited, from version 0 on; and to which."""
    held = Reconstruction(LAYOUT, length)
    for n in range(count):
        held.apply(*record(each, base_version=n, length=length))
    return held.apply(*key_frame(1, key_version, LAYOUT, np.zeros(length, np.float32))), held.version


def test_what_waits_is_bounded_by_count_and_by_bytes() -> None:
    """The newest are kept: what leads on from the version before them is gone."""
    thin, count = entry("topk_i8", 1), WAITING + 9
    assert waited(1 << 16, thin, count, key_version=8) == ("gap", 8)
    assert waited(1 << 16, thin, count, key_version=9) == ("taken", count)
    thick = entry("f32", 1)
    assert waited(P, thick, 9, key_version=6) == ("gap", 6)
    assert waited(P, thick, 9, key_version=7) == ("taken", 9)


def test_a_thick_record_that_proves_unsound_at_its_end_changes_nothing() -> None:
    made, payload = _only(record(*(entry("i8", n) for n in range(5))))
    assert fault(made, payload[:-3] + b"\x80\x80\x80") is Reason.MALFORMED_PAYLOAD


def test_a_divergence_among_what_waited_is_told() -> None:
    held = follower()
    held.apply(*record(entry("topk_i8", 1), base_version=5, digest=bytes(8)))
    held.apply(*record(entry("topk_i8", 2), base_version=7))
    assert held.apply(*key_frame(1, 5, LAYOUT, START)) == "diverged"


def test_a_waiting_record_that_proves_unsound_costs_no_more_than_itself() -> None:
    held = follower()
    made, _ = record(entry("topk_i8", 5), base_version=5)
    held.apply(made, [b"short"])
    assert held.apply(*key_frame(1, 5, LAYOUT, START)) == "gap"
    assert held.version == 5


def test_updates_of_another_life_wait_for_that_life_s_key() -> None:
    held = follower(7)
    assert held.apply(*record(entry("topk_i8", 1), base_version=7, epoch=2)) == "gap"
    assert held.apply(*key_frame(2, 7, LAYOUT, START)) == "taken"
    assert (held.epoch, held.version) == (2, 8)


def test_moments_target_and_age_come_along() -> None:
    held, moments = follower(), Moments(3, np.array([1.0]), np.array([0.5]))
    made, buffers = record(entry("topk_i8", 1), observations=3, target=1, env_steps=77)
    held.apply(made, [*buffers, moments.to_buffer()])
    assert held.moments is not None
    assert (held.moments.count, held.target, held.env_steps) == (3, 1, 77)
    held.apply(*record(entry("topk_i8", 2), base_version=1))
    assert held.moments.count == 3


def test_a_digest_tells_other_bits_apart() -> None:
    entries = [entry("topk_i8", 1)]
    right = theta_digest(np.frombuffer(plainly(*entries), np.float32))
    held = follower()
    assert held.apply(*record(*entries, digest=right)) == "taken"
    held = follower()
    assert held.apply(*record(*entries, digest=bytes(8))) == "diverged"
    assert not held.held
    assert held.apply(*key_frame(1, 1, LAYOUT, START)) == "taken"


def fault(made: Updates, payload: bytes) -> Reason:
    held = follower()
    with pytest.raises(PayloadFault) as caught:
        held.apply(made, [payload])
    assert (held.version, held.theta.tobytes()) == (0, START.tobytes())
    return caught.value.reason


def test_what_does_not_add_up_changes_nothing() -> None:
    made, payload = _only(record(entry("topk_i8", 1), entry("topk_i8", 2)))
    malformed = Reason.MALFORMED_PAYLOAD
    assert fault(msgspec.structs.replace(made, version=3), payload) is malformed
    assert fault(made, payload[:-1]) is malformed
    assert fault(made, payload + b"?") is malformed
    other = msgspec.structs.replace(made.applied[1], codec="zip")
    assert fault(msgspec.structs.replace(made, applied=(made.applied[0], other)), payload) is Reason.UNKNOWN_CODEC
    assert fault(msgspec.structs.replace(made, length=P + 1), payload) is Reason.WRONG_LENGTH
    assert fault(msgspec.structs.replace(made, layout=bytes(8)), payload) is Reason.WRONG_LAYOUT


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e39, 0.1])
def test_a_factor_is_a_finite_float32(factor: float) -> None:
    made, payload = _only(record(entry("topk_i8", 1)))
    wrong = msgspec.structs.replace(made.applied[0], factor=factor)
    assert fault(msgspec.structs.replace(made, applied=(wrong,)), payload) is Reason.MALFORMED_PAYLOAD


@pytest.mark.parametrize("number", [np.nan, np.inf, 2e38])
def test_numbers_stay_finite_under_their_factor(number: float) -> None:
    payload = np.full(P, number, "<f4").tobytes()
    made = Updates(1, 1, 0, LAYOUT, P, (Applied("f32", P, len(payload), 2.0),))
    assert fault(made, payload) is Reason.NOT_FINITE


@settings(max_examples=50)
@given(st.lists(st.sampled_from(sorted(CODECS)), min_size=1, max_size=6), st.integers(0, 5))
def test_one_record_or_many_lead_to_the_same_bits(names: list[str], cut: int) -> None:
    entries = [entry(name, n, 0.1 * (n + 1)) for n, name in enumerate(names)]
    whole, parts = follower(), follower()
    whole.apply(*record(*entries))
    at = min(cut, len(entries))
    for base, some in ((0, entries[:at]), (at, entries[at:])):
        if some:
            assert parts.apply(*record(*some, base_version=base)) == "taken"
    assert whole.theta.tobytes() == parts.theta.tobytes()
