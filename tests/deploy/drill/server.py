"""A real Prometheus for drills: our own rules in fast motion, and questions to it. Knows processes and HTTP.

Waiting for half an hour is no drill, so durations are divided by FACTOR, and in an act that needs it those of an hour
and more by LONG_FACTOR: after ``for``, in brackets, after ``offset``, and bounds on metrics that count seconds.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.deploy.rules import RULE_FILES
from tests.loopback.system import free_ports

FACTOR, LONG_FACTOR = 20, 120
SCRAPE_S = 1.0
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION = re.compile(r"(\bfor: |\boffset |\[)(\d+)([smhd])\b")
SINCE = re.compile(r"(_seconds\)? > )(\d{3,})\b")
READY_S = 30.0

Labels = dict[str, str]


def hurried(text: str, hours_by: int = FACTOR) -> str:
    """Rules in fast motion. hours_by: what durations of an hour and more are divided by."""

    def shorter(seconds: float) -> float:
        return seconds / (FACTOR if seconds < 3600 else hours_by)

    text = DURATION.sub(lambda m: f"{m[1]}{round(1000 * shorter(int(m[2]) * SECONDS[m[3]]))}ms", text)
    return SINCE.sub(lambda m: f"{m[1]}{shorter(int(m[2])):g}", text)


class Prometheus:
    """One that scrapes these targets, by job, and knows our rules. A context manager.

    hurry: whether its rules run in fast motion. alerts: HOST:PORT of an Alertmanager that is told.
    """

    def __init__(
        self,
        folder: Path,
        targets: Mapping[str, Iterable[int]],
        hours_by: int = FACTOR,
        *,
        hurry: bool = True,
        alerts: str | None = None,
    ) -> None:
        self.folder = folder / f"prometheus-{time.monotonic_ns()}"
        self.folder.mkdir()
        for path in RULE_FILES:
            text = path.read_text(encoding="utf-8")
            (self.folder / path.name).write_text(hurried(text, hours_by) if hurry else text, encoding="utf-8")
        written = json.dumps(_configuration(targets, alerts))
        (self.folder / "prometheus.yml").write_text(written, encoding="utf-8")
        self._port = free_ports()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = shutil.which("prometheus")
        assert program is not None, "there is no prometheus (Debian: prometheus)"
        self._process = subprocess.Popen(
            [
                program,
                f"--config.file={self.folder}/prometheus.yml",
                f"--storage.tsdb.path={self.folder}/data",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--log.level=warn",
            ],
            stderr=(self.folder / "log").open("wb"),
        )
        until = time.monotonic() + READY_S
        while not self._ready():
            assert time.monotonic() < until, (self.folder / "log").read_text(encoding="utf-8")
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def series(self, expr: str) -> list[tuple[Labels, float]]:
        """What an expression comes to now."""
        return [(found["metric"], float(found["value"][1])) for found in self._ask("query", query=expr)]

    def courses(self, expr: str, begin: float, end: float, step_s: float) -> list[tuple[Labels, list[list[float]]]]:
        """And over time: of each series its labels and its [moment, value]."""
        asked = {"query": expr, "start": str(begin), "end": str(end), "step": str(step_s)}
        found = self._ask("query_range", **asked)
        return [(s["metric"], [[float(at), float(value)] for at, value in s["values"]]) for s in found]

    def fired(self, begin: float) -> dict[str, float]:
        """Alerts that have fired since then, and when each did first."""
        found: dict[str, float] = {}
        for labels, course in self.courses('ALERTS{alertstate="firing"}', begin, time.time(), SCRAPE_S):
            name = labels["alertname"]
            found[name] = min(found.get(name, course[0][0]), course[0][0])
        return found

    def firing(self) -> set[str]:
        """At this moment."""
        return {labels["alertname"] for labels, _ in self.series('ALERTS{alertstate="firing"}')}

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _ask(self, what: str, **fields: str) -> list[Any]:
        data = urllib.parse.urlencode(fields).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{what}", data) as answer:
                found: list[Any] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{fields['query']}: {error.read().decode()}") from None
        return found


def _configuration(targets: Mapping[str, Iterable[int]], alerts: str | None) -> dict[str, Any]:
    interval = f"{round(SCRAPE_S * 1000)}ms"
    places = {job: [f"127.0.0.1:{port}" for port in ports] for job, ports in targets.items()}
    told = {"alertmanagers": [{"static_configs": [{"targets": [alerts]}]}]} if alerts else {}
    return {
        "alerting": told,
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": ["*.rules.yml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": addresses}]} for job, addresses in places.items()
        ],
    }
