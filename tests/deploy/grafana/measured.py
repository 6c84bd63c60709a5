"""A wrapper whose environments measure themselves, for the panel that shows it. Knows Gymnasium alone."""

from __future__ import annotations

from typing import Any

import gymnasium

FAILS_AT = 15_000  # within two minutes or so


class Landing(gymnasium.Wrapper[Any, Any, Any, Any]):
    """LunarLander: which share of steps an engine burns, and which share of episodes ends on both legs.

    Each simulator raises at its FAILS_AT-th step, for the panel that shows what goes wrong.
    """

    steps = 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """What the simulator does, and both numbers."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        if self.steps == FAILS_AT:
            raise RuntimeError("the engine does not start")
        measured = {"engine burns": float(action != 0)}
        if terminated or truncated:
            measured["stands on both legs"] = float(seen[6] > 0 and seen[7] > 0)
        return seen, float(reward), terminated, truncated, {**info, "metrics": measured}
