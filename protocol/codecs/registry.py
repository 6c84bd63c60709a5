"""Every codec by its name on the wire. Pure. The register, and nothing besides.

What a payload can carry is in ``vectors.py``; the ways to write it are in ``dense.py``, ``sparse.py``, ``lowrank.py``
and, around any of them, ``lossless.py``. WIRE.md, section 4, has all of them in bytes.
"""

from __future__ import annotations

from protocol.codecs.dense import BF16, F16, F16_MAX, F32, I4, I8, Sign
from protocol.codecs.lossless import Lossless
from protocol.codecs.lowrank import LowRank
from protocol.codecs.sparse import RandkI8, TopkF16, TopkI8
from protocol.codecs.vectors import Array, Codec, Encoded, Factors, Floats, Indices, Selection, Sparse
from protocol.errors import PayloadFault, Reason

__all__ = [
    "CODECS",
    "F16_MAX",
    "Array",
    "Codec",
    "Encoded",
    "Factors",
    "Floats",
    "Indices",
    "Selection",
    "Sparse",
    "codec",
]

_PLAIN: tuple[Codec, ...] = (F32(), F16(), BF16(), I8(), I4(), Sign(), TopkI8(), TopkF16(), RandkI8(), LowRank())
_ALL: tuple[Codec, ...] = (*_PLAIN, *(Lossless(each) for each in _PLAIN))
CODECS: dict[str, Codec] = {each.name: each for each in _ALL}
assert len(CODECS) == len(_ALL), "two codecs share a name"


def codec(name: str) -> Codec:
    """The codec of this name. Raises PayloadFault(unknown_codec)."""
    found = CODECS.get(name)
    if found is None:
        raise PayloadFault(Reason.UNKNOWN_CODEC, f"codec {name[:64]!r} is not one of {', '.join(CODECS)}")
    return found
