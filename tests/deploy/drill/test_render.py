"""How numbers are told in the renderings: as Grafana's units say them."""

from __future__ import annotations

import pytest

from tests.deploy.drill.render import legend, told


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.278, "percentunit", "27.8 %"),
        (0.0401, "s", "40.1 ms"),
        (90.0, "s", "1.5 min"),
        (0.0, "s", "0 s"),
        (1560.0, "Bps", "1.56 kB/s"),
        (2048.0, "bytes", "2 KiB"),
        (1_230_000.0, "short", "1.23 M"),
        (3.0, "suffix: updates", "3 updates"),
        (1.0, "bool_on_off", "On"),
        (float("nan"), "none", "–"),
    ],
)
def test_units(value: float, unit: str, text: str) -> None:
    assert told(value, unit) == text


def test_labels_fill_a_legend() -> None:
    assert legend("{{part}}, 90% below", {"part": "wait"}) == "wait, 90% below"
