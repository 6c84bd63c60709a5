"""The weight stream: keys set the bits, deltas continue them, and gaps and old records are told apart."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from protocol.codecs.registry import Sparse, codec
from protocol.errors import PayloadFault, Reason
from protocol.messages import Snapshot, decode, encode
from protocol.moments import Moments
from protocol.snapshot import Reconstruction, Record, delta, key_frame
from protocol.updates import theta_digest

LAYOUT = bytes(range(8))
THETA = np.array([0.1, -0.0, 3e-40, 2.5], np.float32)
CHANGE = Sparse(4, np.array([1, 3], np.int32), np.array([0.5, -0.25], np.float32))
MOMENTS = Moments(3, np.array([1.0, 2.0]), np.array([0.5, 0.0]))


def subscriber() -> Reconstruction:
    return Reconstruction(LAYOUT, 4)


def at(version: int, epoch: int = 1, theta: NDArray[np.float32] = THETA) -> Record:
    return key_frame(epoch, version, LAYOUT, theta)


def after(held: Record, version: int) -> Record:
    return delta(held[0], version, "topk_i8", codec("topk_i8").encode(CHANGE))


def test_a_key_crosses_the_wire_to_the_bit() -> None:
    message, buffers = decode(encode(*key_frame(1, 5, LAYOUT, THETA, MOMENTS)))
    held = subscriber()
    assert isinstance(message, Snapshot)
    assert held.apply(message, buffers) == "taken"
    assert held.theta.tobytes() == THETA.tobytes()
    assert (held.held, held.epoch, held.version) == (True, 1, 5)
    assert held.moments is not None
    assert (held.moments.count, held.moments.mean.tolist()) == (3, [1.0, 2.0])


def test_the_first_weights_are_version_zero() -> None:
    held = subscriber()
    assert not held.held
    assert held.apply(*at(0)) == "taken"
    assert held.held


def test_a_delta_adds_what_its_codec_says_was_read() -> None:
    held, first = subscriber(), at(5)
    held.apply(*first)
    record = after(first, 7)
    assert held.apply(*record) == "taken"
    told = codec("topk_i8").encode(CHANGE).decoded
    assert isinstance(told, Sparse)
    assert held.theta.tobytes() == (THETA + told.dense()).tobytes()
    assert held.version == 7


def test_a_dense_delta_is_added_too() -> None:
    held, first = subscriber(), at(5)
    held.apply(*first)
    assert held.apply(*delta(first[0], 6, "f32", codec("f32").encode(THETA))) == "taken"
    assert held.theta.tobytes() == (THETA + THETA).tobytes()


def test_a_delta_on_another_base_is_a_gap_and_a_key_closes_it() -> None:
    held = subscriber()
    assert held.apply(*after(at(5), 6)) == "gap"
    held.apply(*at(4))
    assert held.apply(*after(at(5), 6)) == "gap"
    assert held.version == 4
    assert held.apply(*at(6)) == "taken"


def test_deltas_that_overtake_a_key_wait_for_it() -> None:
    held, first = subscriber(), at(5)
    second = after(first, 6)
    third = after(second, 9)
    assert [held.apply(*record) for record in (second, third, first)] == ["gap", "gap", "taken"]
    assert held.version == 9


def test_a_delta_s_digest_is_of_what_it_leads_to() -> None:
    first = at(5)
    follower, other = subscriber(), subscriber()
    record, buffers = after(first, 6)
    follower.apply(*first)
    follower.apply(record, buffers)
    record = msgspec.structs.replace(record, digest=theta_digest(follower.theta))
    for theta, outcome in ((THETA, "taken"), (THETA * 2, "diverged")):
        other.held = False
        other.apply(*at(5, theta=theta))
        assert other.apply(record, buffers) == outcome
        assert other.held == (outcome == "taken")


def test_what_is_not_newer_is_old() -> None:
    held = subscriber()
    held.apply(*at(5))
    for record in (at(5), at(4), after(at(3), 4)):
        assert held.apply(*record) == "old"
    assert held.version == 5


def test_an_epoch_fences_off_the_one_before() -> None:
    held = subscriber()
    held.apply(*at(900, epoch=1))
    assert held.apply(*after(at(900, epoch=2), 901)) == "gap"
    assert held.apply(*at(850, epoch=2, theta=THETA * 2)) == "gap"  # taken, and does not reach what waited
    assert (held.epoch, held.version) == (2, 850)
    assert held.apply(*at(901, epoch=1)) == "old"


def test_theta_is_never_written_after_it_was_handed_out() -> None:
    held, first = subscriber(), at(5)
    held.apply(*first)
    before = held.theta
    held.apply(*after(first, 6))
    assert before.tobytes() == THETA.tobytes()
    assert not held.theta.flags.writeable


def refused(held: Reconstruction, record: Record) -> Reason:
    before = (held.version, held.theta.tobytes(), held.moments)
    with pytest.raises(PayloadFault) as caught:
        held.apply(*record)
    assert (held.version, held.theta.tobytes(), held.moments) == before
    return caught.value.reason


def test_a_refused_record_changes_nothing() -> None:
    held = subscriber()
    held.apply(*key_frame(1, 5, LAYOUT, THETA, MOMENTS))
    assert refused(held, key_frame(1, 6, bytes(8), THETA)) is Reason.WRONG_LAYOUT
    assert refused(held, key_frame(1, 6, LAYOUT, THETA[:3])) is Reason.WRONG_LENGTH
    assert refused(held, at(6, theta=np.full(4, np.nan, np.float32))) is Reason.NOT_FINITE
    assert refused(held, (at(6)[0], [b"short"])) is Reason.MALFORMED_PAYLOAD
    assert refused(held, key_frame(1, 6, LAYOUT, THETA, Moments(1, np.ones(3), np.ones(3)))) is Reason.MALFORMED_PAYLOAD


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "bits"), [("f32", 0x7F800001), ("bf16", 0x7F81), ("f32", 0x7F7FFFFF)])
def test_a_delta_that_leads_out_of_the_numbers_is_refused_and_nothing_else(name: str, bits: int) -> None:
    """A signalling NaN, and a sum beyond float32."""
    held = subscriber()
    held.apply(*at(1, theta=np.full(4, 3e38, np.float32)))
    width = 4 if name == "f32" else 2
    with pytest.raises(PayloadFault) as caught:
        held.apply(Snapshot(1, 2, "delta", 1, LAYOUT, name, 4, 4), [bits.to_bytes(width, "little") * 4])
    assert caught.value.reason is Reason.NOT_FINITE
    assert held.theta.tolist() == [np.float32(3e38)] * 4
