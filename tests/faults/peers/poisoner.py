"""``python -m tests.faults.peers.poisoner run ...``: the command ``actor``, sending the opposite, ten times as long."""

from __future__ import annotations

from typing import Any

import numpy as np

from actor.cli import main
from actor.compression.compressor import Compressor
from protocol.codecs.registry import Encoded, Sparse, codec
from tests.learning.poison import POISON


def arm() -> None:
    """From now on, in this process. What is sent is not what the residual believes: an attacker does not mind."""
    honest = Compressor.compress

    def compress(self: Compressor, *arguments: Any) -> Encoded:
        value = honest(self, *arguments).decoded
        dense = value.dense() if isinstance(value, Sparse) else value
        return codec("i8").encode(np.float32(POISON) * dense)

    setattr(Compressor, "compress", compress)  # noqa: B010  (mypy minds the assignment)


if __name__ == "__main__":
    arm()
    main()
