"""One update as it was applied: it makes one version. Pure. Knows its bytes and its factors; no θ, no file."""

from __future__ import annotations

import msgspec

from protocol.buffers import Buffer
from protocol.moments import Moments

Numbers = tuple[tuple[int, int], ...]  # (session, sequence) of gradients


class AppliedUpdate(msgspec.Struct, frozen=True, eq=False):
    """θ ← θ − rate · scale · update, by way of the optimizer.

    It holds the update's bytes and no decoded numbers: a batch may have 256 of them, of millions of parameters each.
    numbers: of the gradients that it is made of. codec, count, payload: of the update, as on the wire. moments: of the
    observations that were merged with it.
    """

    numbers: Numbers
    codec: str
    count: int
    payload: Buffer
    rate: float
    scale: float
    moments: Moments | None = None
