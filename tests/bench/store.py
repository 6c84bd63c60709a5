"""Finished measurements as JSON lines, one file for each part. Knows files; measures nothing.

A measurement is never repeated while its line is there, so a benchmark that was stopped goes on where it was, and the
report can be built again at any time.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from learner.progress import RENAMED_IN_RESULT, with_present
from tests.bench.machine import ROOT, commit

RESULTS = ROOT / "bench-results"
Record = dict[str, Any]
CHANGED = "-dirty"  # how git marks a checkout whose files differ from its commit


class OutOfTime(Exception):
    """A measurement would have begun after its time was over."""


def end(minutes: float | None) -> float:
    """When so many minutes from now are over, by the monotonic clock; never for None."""
    return math.inf if minutes is None else time.monotonic() + 60.0 * minutes


class Store:
    """One part's measurements. key fields: what tells one measurement from another.

    ends: by the monotonic clock, after which none begins.
    """

    def __init__(self, folder: Path, part: str, ends: float = math.inf) -> None:
        self.path, self.ends = folder / f"{part}.jsonl", ends

    def read(self) -> list[Record]:
        """All that is finished, oldest first. Numbers that were kept under a former name have the present one, too."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [with_present(json.loads(line), RENAMED_IN_RESULT) for line in lines]

    def find(self, key: Record) -> Record | None:
        """The first measurement with this key."""
        found = (record for record in self.read() if all(record.get(name) == value for name, value in key.items()))
        return next(found, None)

    def once(self, key: Record, measure: Callable[[], Record]) -> Record:
        """The measurement with this key: from the file, or made now and written down. Raises OutOfTime."""
        return self.find(key) or self.add(key, measure)

    def add(self, key: Record, measure: Callable[[], Record]) -> Record:
        """One measurement more, made now and written down. Raises OutOfTime."""
        if time.monotonic() >= self.ends:
            raise OutOfTime
        print(" ".join(f"{name}={value}" for name, value in key.items()), end=" ... ", flush=True)
        began, origin = time.perf_counter(), commit()  # before: a commit may be made while it runs
        record = {**key, **measure(), "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "commit": origin}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{time.perf_counter() - began:.1f} s", flush=True)
        return record


def add_options(parser: argparse.ArgumentParser, results: Path = RESULTS) -> None:
    """What every series that can be resumed is asked with: minutes, report, results."""
    parser.add_argument("--minutes", type=float, metavar="M", help="begin no run after so long; run again to go on")
    parser.add_argument("--report", action="store_true", help="measure nothing, only write the report")
    parser.add_argument("--results", type=Path, default=results, metavar="DIR", help="where lines go, and any report")


def at_once(store: Store, runs: Sequence[tuple[Record, Callable[[], Record]]], workers: int) -> int:
    """Makes every measurement that is not there yet, so many at once. Returns how many are left, and says so.

    runs: key, and what measures it. One whose child fails is left, and the others go on.
    """

    def one(key: Record, measure: Callable[[], Record]) -> bool:
        try:
            return bool(store.once(key, measure))
        except OutOfTime:
            return False
        except (SystemExit, RuntimeError) as error:
            print(f"{key}: {error}", flush=True)
            return False

    with ThreadPoolExecutor(workers) as pool:
        left = sum(not made for made in pool.map(lambda run: one(*run), runs))
    if left:
        print(f"{left} of {len(runs)} runs are left: run the same command again to go on")
    return left


def origins(records: Iterable[Record]) -> str:
    """The commits that measured, each once: a line that is reused may be older than the checkout that reports it."""
    commits = dict.fromkeys(str(record["commit"]) for record in records)
    return ", ".join(_words(name) for name in commits) or "none"


def _words(name: str) -> str:
    return f"{name.removesuffix(CHANGED)} + uncommitted changes" if name.endswith(CHANGED) else name
