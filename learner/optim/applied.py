"""One update as it was applied: it makes one version. Pure. Knows updates and their factors; no θ, no file."""

from __future__ import annotations

from dataclasses import dataclass

from learner.optim.update import Update
from protocol.moments import Moments

Numbers = tuple[tuple[int, int], ...]  # (session, sequence) of gradients


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """θ ← θ − rate · scale · update, by way of the optimizer.

    numbers: of the gradients that it is made of. moments: of the observations that were merged with it.
    """

    numbers: Numbers
    update: Update
    rate: float
    scale: float
    moments: Moments | None
