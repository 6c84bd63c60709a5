"""A container engine for tests: runs containers and a compose project, and reads what they say.

Knows Docker's command line, which is Podman's too. ENGINE and COMPOSE in the environment name the commands, as
``make test-deploy`` sets them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[3]
ENGINE = os.environ.get("ENGINE", "docker")
COMPOSE = shlex.split(os.environ.get("COMPOSE", "docker compose --file deploy/compose.yaml"))
DEADLINE_S = 120.0  # for anything that must happen
POLL_S = 0.25
HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp")

T = TypeVar("T")
Said = dict[str, Any]


def eventually(ask: Callable[[], T | None], what: str, story: Callable[[], str] = str) -> T:
    """The first answer that is neither None nor False; fails with ``what`` and the story after DEADLINE_S."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        if answer := ask():
            return answer
        time.sleep(POLL_S)
    raise AssertionError(f"never: {what}\n{story()}")


def engine(*arguments: object) -> str:
    """What the engine printed; fails with its words."""
    done = subprocess.run([ENGINE, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Ended:
    """A container that ran to its end. lines: what it said, the engine's own words left out."""

    code: int
    lines: list[str]

    def line(self, code: int = 2) -> str:
        """The one line of a command that refused."""
        assert self.code == code, self
        assert len(self.lines) == 1, self
        assert self.lines[0].startswith("error: "), self
        return self.lines[0]


def run(image: str, *command: object, options: tuple[object, ...] = ()) -> Ended:
    """One hardened container to its end."""
    with started(image, *command, options=options) as container:
        code = int(engine("wait", container.name))
        return Ended(code, container.logs().splitlines())


@contextlib.contextmanager
def started(image: str, *command: object, options: tuple[object, ...] = ()) -> Iterator[Container]:
    """One hardened container, which is gone afterwards."""
    name = f"farflung-test-{uuid.uuid4().hex[:8]}"
    try:
        engine("run", "--detach", "--name", name, *HARDENED, *options, image, *command)
        yield Container(name)
    finally:
        engine("rm", "--force", "--volumes", name)


@dataclass(frozen=True)
class Container:
    """One that exists."""

    name: str

    def logs(self) -> str:
        """All that it said so far, through all its lives."""
        both = subprocess.run([ENGINE, "logs", self.name], stdout=-1, stderr=-2, text=True, timeout=60, check=True)
        return both.stdout

    def events(self) -> list[Said]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]

    def event(self, name: str, test: Callable[[Said], bool] = lambda _: True) -> Said:
        """The first event of this name that passes ``test``, now or later."""

        def ask() -> Said | None:
            return next((said for said in self.events() if said["event"] == name and test(said)), None)

        return eventually(ask, f"{name} of {self.name}", self.story)

    def story(self) -> str:
        """The end of what it said."""
        return self.logs()[-3000:]

    def inspect(self) -> Said:
        """What the engine knows of it."""
        found: Said = json.loads(engine("inspect", self.name))[0]
        return found

    def exit_code(self) -> int:
        """Once it has exited and is not started again."""
        eventually(lambda: self.inspect()["State"]["Status"] == "exited", f"{self.name} exits", self.story)
        return int(self.inspect()["State"]["ExitCode"])

    def kill_the_daemon(self) -> None:
        """SIGKILL to the daemon itself and not by the engine, which would take it for an order to stop."""
        pid = self.inspect()["State"]["Pid"]
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(child), 9)


@dataclass
class Project:
    """The compose file as a project of its own. environment: of the commands."""

    environment: Mapping[str, str]
    name: str = field(default_factory=lambda: f"farflung-test-{uuid.uuid4().hex[:8]}")

    def compose(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """One command, whatever comes of it."""
        environment = {**os.environ, **self.environment, "COMPOSE_PROJECT_NAME": self.name}
        command = [*COMPOSE, *map(str, arguments)]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    def up(self) -> None:
        """As ``make up`` does, without Prometheus and Grafana."""
        alone = ("--no-deps",) if "podman" in ENGINE else ()
        for command in (("run", "--rm", "-T", "keys"), ("run", "--rm", "-T", "initial"), ("up", "--detach", *alone)):
            done = self.compose(*command)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    def containers(self, service: str) -> list[Container]:
        """Those of a service."""
        labels = (f"com.docker.compose.project={self.name}", f"com.docker.compose.service={service}")
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        return [Container(name) for name in engine("ps", "--all", *filters, "--format", "{{.Names}}").split()]

    def volume(self, name: str) -> str:
        """What the engine calls a volume of the file."""
        return f"{self.name}_{name}"
