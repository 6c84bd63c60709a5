"""Fast motion: which numbers of a rule are durations, and which are not."""

from __future__ import annotations

import pytest

from tests.deploy import rules
from tests.deploy.drill.server import DURATION, LONG_FACTOR, hurried


@pytest.mark.parametrize(
    ("slow", "fast"),
    [
        ("for: 2m", "for: 6000ms"),
        ("rate(x_total[5m])", "rate(x_total[15000ms])"),
        ("x offset 2h", "x offset 60000ms"),
        ("min_over_time(x[1d])", "min_over_time(x[720000ms])"),
        ("(x_age_seconds or x_training_seconds) > 600", "(x_age_seconds or x_training_seconds) > 30"),
        ("x_training_seconds > 7200", "x_training_seconds > 60"),
    ],
)
def test_durations_shrink(slow: str, fast: str) -> None:
    assert hurried(slow, LONG_FACTOR) == fast


@pytest.mark.parametrize(
    "text", ["farflung:updates:rate1m > 0", "lag:p90_5m > 64", "wait_seconds:p90_5m > 1", "x < 1e15"]
)
def test_names_and_other_bounds_stay(text: str) -> None:
    assert hurried(text, LONG_FACTOR) == text


def test_no_duration_of_our_rules_is_overlooked() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in rules.RULE_FILES)
    marks = sum(text.count(mark) for mark in (" for: ", "offset ", "["))
    assert len(DURATION.findall(text)) == marks
    assert not DURATION.findall(hurried(text))
