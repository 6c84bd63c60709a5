"""One gradient or update on its way into θ: what it says, and the bytes that say it. Pure.

What is applied is what is logged: where a rule changes an update whose payload others will repeat, it is written anew
with its own codec, and what that codec makes of it is applied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocol.buffers import Buffer
from protocol.codecs.registry import Array, Floats, Sparse, codec

WHOLE = "f32"
UNFACTORED = "i8"  # for what came as factors, which a change of single coordinates leaves no factors of


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """value: what ``payload``, in ``codec`` with ``count`` coordinates, was decoded to; nobody changes it."""

    value: Array
    codec: str
    count: int
    payload: Buffer

    @property
    def numbers(self) -> Floats:
        """float32 [k], at the coordinates that it carries."""
        return self.value.values if isinstance(self.value, Sparse) else self.value

    def with_numbers(self, numbers: Floats) -> Update:
        """The same coordinates with other numbers; the payload is not touched and says the old ones."""
        value = self.value
        return replace(self, value=replace(value, values=numbers) if isinstance(value, Sparse) else numbers)

    def whole(self) -> Update:
        """The value as float32, whose payload says all of it."""
        encoded = codec(WHOLE).encode(self.value.dense() if isinstance(self.value, Sparse) else self.value)
        return Update(encoded.decoded, WHOLE, encoded.count, encoded.buffer)

    def written(self) -> Update:
        """What a payload can say of the value: the payload and what is read from it."""
        name = UNFACTORED if codec(self.codec).selection == "rank" else self.codec
        encoded = codec(name).encode(self.value)
        return Update(encoded.decoded, name, encoded.count, encoded.buffer)
