"""Bars and the report, from records that nobody measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.store import Store
from tests.faults import bars, report
from tests.faults.peers.follower import Follower


def test_a_bar_without_a_value_is_missed() -> None:
    assert [bars.at_most("x", value, 2.0)["held"] for value in (2.0, 2.1, None)] == [True, False, False]
    assert [bars.at_least("x", value, 2.0)["held"] for value in (2.0, 1.9, None)] == [True, False, False]
    assert bars.record([bars.exactly("a", 0, 0), bars.exactly("b", 1, 0)], n=1)["held"] is False


def test_slopes_and_percentiles() -> None:
    assert bars.slope([0.0, 1.0, 2.0], [5.0, 7.0, 9.0]) == pytest.approx(2.0)
    assert bars.slope([1.0], [5.0]) == 0.0
    assert bars.percentile([1.0], 0.5) is None
    assert bars.percentile([float(value) for value in range(101)], 0.99) == pytest.approx(99.0)


def test_a_log_that_repeats_or_leaves_out_is_broken() -> None:
    follower = Follower("tcp://127.0.0.1:1")
    follower.records = [(0.0, 1, 0, 1), (0.5, 1, 1, 3), (1.0, 1, 3, 4), (2.0, 2, 1, 2)]
    assert (follower.breaks(), follower.steps_s(2)) == (0, [0.5])
    follower.records[2] = (1.0, 1, 2, 4)
    assert follower.breaks() == 1


def test_the_report_shows_the_newest_of_each_variant(tmp_path: Path) -> None:
    store = Store(tmp_path, "kills")
    for actors, value in (("real", 9.0), ("light", 1.0), ("real", 2.0)):
        made = bars.record([bars.at_most("s, longest", value, 5.0)], actors=actors) | {"took_s": 1.0}
        store.add({"drill": "kills"}, lambda made=made: made)  # type: ignore[misc]
    report.write(tmp_path, tmp_path, ("kills", "never"))
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert text.count("| s, longest |") == 2
    assert "missed" not in text
    assert "never" not in text
