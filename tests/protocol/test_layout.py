"""The layout: offsets follow from shapes, and a digest names it."""

from __future__ import annotations

import hashlib

import msgpack
import msgspec
import pytest

from protocol.layout import MAX_ENTRIES, Entry, Layout

LAYOUT = Layout((Entry("trunk.weight", (4, 3)), Entry("trunk.bias", (4,)), Entry("temperature", ())))


def test_runs_follow_each_other_without_gaps() -> None:
    assert LAYOUT.slices() == {"trunk.weight": slice(0, 12), "trunk.bias": slice(12, 16), "temperature": slice(16, 17)}
    assert LAYOUT.length == 17


def test_the_digest_is_blake2b_of_the_msgpack_form_read_independently() -> None:
    plain = [[["trunk.weight", [4, 3]], ["trunk.bias", [4]], ["temperature", []]]]
    assert LAYOUT.digest == hashlib.blake2b(msgpack.packb(plain), digest_size=8).digest()


@pytest.mark.parametrize(
    "other",
    [
        Layout(LAYOUT.entries[:2]),
        Layout((LAYOUT.entries[1], LAYOUT.entries[0], LAYOUT.entries[2])),
        Layout((Entry("trunk.weight", (3, 4)), *LAYOUT.entries[1:])),
        Layout((Entry("head.weight", (4, 3)), *LAYOUT.entries[1:])),
    ],
)
def test_another_name_shape_or_order_has_another_digest(other: Layout) -> None:
    assert other.digest != LAYOUT.digest


@pytest.mark.parametrize(
    "plain",
    [
        [[]],
        [[["", [1]]]],
        [[["a", [0]]]],
        [[["a", [1] * 9]]],
        [[["a" * 201, [1]]]],
        [[["a", [1]]] * (MAX_ENTRIES + 1)],
    ],
)
def test_a_layout_out_of_bounds_is_refused(plain: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgpack.packb(plain), type=Layout)


def test_a_layout_survives_the_wire() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(LAYOUT), type=Layout) == LAYOUT
