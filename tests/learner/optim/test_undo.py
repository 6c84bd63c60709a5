"""The undo log against the vectors themselves, whatever is written; and what a question costs, however much was."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np
import pytest

from learner.optim.undo import ENTRY_BYTES, UndoLog

P = 9
EVERYWHERE = slice(None)


def write(log: UndoLog, vector: np.ndarray, indices: np.ndarray, random: np.random.Generator) -> None:
    log.write(indices, vector[indices])
    vector[indices] = random.standard_normal(len(indices)).astype(np.float32)


def some(random: np.random.Generator, skewed: bool) -> np.ndarray:
    """Coordinates of one write; skewed: the first of them nearly always."""
    share = np.linspace(0.95, 0.02, P) if skewed else np.full(P, 0.4)
    return np.flatnonzero(random.random(P) < share).astype(np.int32)


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("most", [8, 40, 300, 100_000])
def test_every_moment_that_is_held_comes_back_to_the_bit(most: int, skewed: bool) -> None:
    """Room for 8 and 40 is made anew at nearly every write, for 300 after dozens. Some questions wait for others."""
    random = np.random.default_rng(11)
    vector, log = np.zeros(P, np.float32), UndoLog(P, most)
    past: list[tuple[int, np.ndarray]] = []
    for _ in range(150):
        past.append((log.end, vector.copy()))
        write(log, vector, some(random, skewed), random)
        if random.random() < 0.5:
            continue
        if random.random() < 0.2:  # as when weights grow too old
            log.begin = max(log.begin, past[int(random.integers(len(past)))][0])
        held = [moment for moment in past if moment[0] >= log.begin]
        for start, before in random.choice(np.array(held, object), 4):
            for stop, after in (past[-1], (log.end, vector)):
                values, few = after.copy(), after[[1, 4]]
                log.undo(values, EVERYWHERE, start, stop)
                log.undo(few, np.array([1, 4], np.int32), start, stop)
                np.testing.assert_array_equal(values, before)
                np.testing.assert_array_equal(few, before[[1, 4]])
    assert log.end - log.begin <= max(most * 3 // 4, P)
    assert log.room <= 1 + max(most, P)
    assert past[-1][0] >= log.begin  # the last write is held whatever it takes


def test_what_nobody_asks_for_any_more_takes_no_room() -> None:
    random, vector, log = np.random.default_rng(1), np.zeros(P, np.float32), UndoLog(P, 1 << 20)
    for _ in range(20_000):
        log.begin = max(0, log.end - 20)
        write(log, vector, np.array([2, 5], np.int32), random)
    assert log.room * ENTRY_BYTES < 1 << 17


def calls(log: UndoLog, start: int) -> int:
    """Array operations of one question, and of nothing else."""
    counted = 0

    def count(frame: FrameType, event: str, what: Any) -> None:
        nonlocal counted
        counted += event == "c_call"

    values = np.zeros(P, np.float32)
    sys.setprofile(count)
    try:
        log.undo(values, EVERYWHERE, start, log.end)
    finally:
        sys.setprofile(None)
    return counted


def test_a_question_costs_a_logarithm_of_what_was_written_since() -> None:
    """One coordinate written each time makes the longest chain that there is; a step down it is three calls."""
    random, vector, log = np.random.default_rng(2), np.zeros(P, np.float32), UndoLog(P, 1 << 20)
    for _ in range(1 << 14):
        write(log, vector, np.array([3], np.int32), random)
    assert calls(log, 0) > calls(log, 0)  # what waited is chained once
    cost = [max(calls(log, log.end - lag - more) for more in range(8)) for lag in (1, 16, 256, 4096)]
    assert all(each <= 6 * (bits + 3) for each, bits in zip(cost, (3, 5, 9, 13), strict=True)), cost
