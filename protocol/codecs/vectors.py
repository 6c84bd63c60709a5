"""What a payload can carry, and the face of every way to write it. Pure. Knows numpy; no codec in particular.

A payload is one buffer whose parts have no lengths of their own: all follow from ``length`` (P), ``count`` (numbers
carried) and the buffer's size (WIRE.md, section 4). Decoding checks sizes before it allocates and returns arrays that
own their memory. Little-endian throughout.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protocol.buffers import Buffer
from protocol.errors import PayloadFault, Reason

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]
Selection = Literal["all", "largest", "random", "rank"]


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """A vector that is zero but at some coordinates.

    length: P
    indices: int32 [k], strictly increasing, 0 <= index < P
    values: float32 [k]
    seed: where the indices were drawn from one (``sparse.random_indices``), so that it can be sent in their place
    """

    length: int
    indices: Indices
    values: Floats
    seed: int | None = None

    def dense(self) -> Floats:
        """float32 [P]."""
        vector = np.zeros(self.length, np.float32)
        vector[self.indices] = self.values
        return vector


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """A vector whose runs are matrices of low rank, or plain. Only codecs with selection "rank" are given one.

    length: P, the sum of all runs' sizes
    runs: in order; (left float32 [rows, r], right float32 [columns, r]) for left · rightᵀ, or float32 [n] as it is
    """

    length: int
    runs: tuple[tuple[Floats, Floats] | Floats, ...]


Array = Floats | Sparse


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A payload, and what the other side will read from it.

    buffer: the payload. count: for the header. decoded: bit for bit what ``decode`` returns; may be read-only
    """

    buffer: bytes
    count: int
    decoded: Array


class Codec(ABC):
    """One way to write a vector.

    name: on the wire. exact: loses nothing. selection: what it takes: all coordinates (float32 [P]), a ``Sparse`` of
    the largest or of random ones, or ``Factors``.
    """

    name: str
    selection: Selection = "all"
    exact = False

    @property
    def sparse(self) -> bool:
        """Whether it takes and gives ``Sparse``."""
        return self.selection in ("largest", "random")

    @abstractmethod
    def encode(self, value: Array | Factors) -> Encoded:
        """value: finite, as ``selection`` says. It is not kept and not changed.

        Raises ValueError where quantised numbers hold NaN or infinity.
        """

    @abstractmethod
    def decode(self, buffer: Buffer, length: int, count: int, out: Floats | None = None) -> Array:
        """The vector of ``length`` that ``buffer`` holds. Raises PayloadFault(malformed_payload).

        A dense one takes 4 · length bytes and some of the same size in passing: the caller has held ``length`` against
        its layout.

        out: float32 [length], where a codec that gives no Sparse may put it; reusing is cheaper than allocating.
        """

    @abstractmethod
    def check_size(self, size_bytes: int, length: int, count: int) -> None:
        """Raises PayloadFault where the size alone tells that the payload is none. Allocates nothing."""


def dense_of(value: Array | Factors) -> Floats:
    """The value of a codec that takes all coordinates."""
    assert isinstance(value, np.ndarray), "a dense codec was given a Sparse or Factors"
    return value


def sparse_of(value: Array | Factors) -> Sparse:
    """The value of a codec that takes some."""
    assert isinstance(value, Sparse), "a sparse codec was given a dense vector"
    return value


def finite(vector: Floats) -> bool:
    """Whether it holds no NaN and no infinity. One pass where all is well: squares of finite numbers may overflow, so
    only then each is looked at.
    """
    return math.isfinite(float(np.vdot(vector, vector))) or bool(np.isfinite(vector).all())


def malformed(detail: str) -> PayloadFault:
    """What no encoder writes."""
    return PayloadFault(Reason.MALFORMED_PAYLOAD, detail)
