"""What frames are made of."""

from __future__ import annotations

import numpy as np

from protocol.buffers import MAX_MOMENTS_BYTES, size_of
from protocol.moments import MAX_OBSERVATION, Moments


def test_a_size_is_in_bytes_whatever_the_items_are() -> None:
    assert size_of(b"abc") == 3
    assert size_of(np.zeros(5, np.float32).data) == 20


def test_the_largest_row_of_observations_has_moments_that_fit() -> None:
    assert size_of(Moments.empty(MAX_OBSERVATION).to_buffer()) == MAX_MOMENTS_BYTES
