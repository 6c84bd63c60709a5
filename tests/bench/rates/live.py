"""A real learner, kept running while a benchmark loads it or reads its progress. Knows processes and files."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.machine import start

DEADLINE_S = 120.0  # for whatever is waited for
POLL_S = 0.05


class Learner:
    """``learner run`` listening on an ipc address in ``folder``. A context manager; leaving it stops the process.

    address: for actors. run_dir: with progress.jsonl and, afterwards, result.json. core: to stay on; None for any.
    actors: local ones, which it starts.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        settings: Sequence[str],
        folder: Path,
        core: int | None = None,
        actors: int = 0,
    ) -> None:
        self.address, self.run_dir = f"ipc://{folder}/link", folder / "run"
        overrides = [part for setting in settings for part in ("--set", setting)]
        place = ["--bind", self.address, "--run-dir", str(self.run_dir), "--http", "off", "--json"]
        command = ["learner", "run", *arguments, *overrides, "--actors", str(actors), *place]
        self._child = start(command, core, stdout=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._child.pid

    def __enter__(self) -> Learner:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        self._child.wait(20)

    def await_progress(self, reached: Callable[[dict[str, Any]], bool]) -> None:
        """Until a line of progress.jsonl is as asked. Raises RuntimeError where the learner ends before."""
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until and self._child.poll() is None:
            if any(line["event"] == "progress" and reached(line) for line in self._lines()):
                return
            time.sleep(POLL_S)
        raise RuntimeError(f"the learner did not get there: exit code {self._child.poll()}")

    def result(self) -> dict[str, Any]:
        """result.json, once the learner has stopped."""
        found: dict[str, Any] = json.loads((self.run_dir / "result.json").read_text(encoding="utf-8"))
        return found

    def _lines(self) -> list[dict[str, Any]]:
        path = self.run_dir / "progress.jsonl"
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]
