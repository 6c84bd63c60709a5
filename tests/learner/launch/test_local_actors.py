"""Children, as real processes that play the actor: started, heard, restarted, refused, and never left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy
import uvloop

from learner.launch import relay as module
from learner.launch.initial import Initial
from learner.launch.local_actors import RESTARTS, SAME_ERRORS, ChildFailed, LocalActors, child_environment, initial
from protocol.errors import UserError
from tests.learner.books import LAYOUT

DEADLINE_S = 60.0

STAYS = "say('ready', os.getpid()); signal.pause()"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('ready', os.getpid())\nwhile True: signal.pause()"
REFUSES = "say('error: actor.env = nothing'); sys.exit(2)"
REFUSES_AS_AN_EVENT = """say('{"event": "worker_failed", "detail": "no such module"}'); sys.exit(2)"""
CRASHES_ANEW = "say('Traceback', ''.join(chr(65 + int(digit)) for digit in str(os.getpid()))); sys.exit(3)"
CRASHES_OF_NAN = "say(f'loss {os.getpid()}.5, norm {\"nan\" if os.getpid() % 2 else -1e-05}'); sys.exit(3)"
DIES_SILENTLY = "os.kill(os.getpid(), signal.SIGKILL)"
CRASHES = "say('Traceback'); sys.exit(3)"
LEAVES = "sys.exit(0)"
PRELUDE = "import os, signal, sys\ndef say(*words): print(*words, file=sys.stderr, flush=True)\n"


class Heard:
    """What a fleet announced, and how it said that it ended."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[str, dict[str, object]]] = asyncio.Queue()
        self.ended: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        self.seen: list[tuple[str, dict[str, object]]] = []

    def announce(self, event: str, fields: dict[str, object]) -> None:
        self.seen.append((event, fields))
        self.events.put_nowait((event, fields))

    def on_exit(self, detail: str, exit_code: int) -> None:
        self.ended.set_result((detail, exit_code))  # fails if it is told twice

    async def ready(self) -> int:
        """The process id of the next child that says it is ready."""
        while True:
            _, fields = await self.events.get()
            if str(fields.get("text", "")).startswith("ready"):
                return int(str(fields["text"]).split()[1])

    def named(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.seen if name == event]


def with_fleet(
    folder: Path,
    script: str,
    count: int,
    use: Callable[[LocalActors, Heard], Coroutine[Any, Any, None]],
    stop_s: float = 30.0,
) -> Heard:
    """Runs ``use`` with a started fleet of children that run ``script``; stops the fleet whatever happens."""
    path = folder / "child.py"
    path.write_text(PRELUDE + script)

    async def scene() -> Heard:
        heard = Heard()
        command = (sys.executable, "-S", str(path))
        fleet = LocalActors(
            "ipc:///x", count, ["m"], heard.on_exit, heard.announce, command=command, first_backoff_s=0.001
        )
        async with asyncio.timeout(DEADLINE_S):
            fleet.start()
            try:
                await use(fleet, heard)
            finally:
                await fleet.stop(stop_s)
        assert fleet.alive == 0
        return heard

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the service does
        return runner.run(scene())


async def until_ended(_: LocalActors, heard: Heard) -> None:
    await heard.ended


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_actors_get_their_arguments_and_one_thread(tmp_path: Path) -> None:
    async def use(_: LocalActors, heard: Heard) -> None:
        await heard.ready()

    script = "say(*sys.argv[1:], os.environ['OMP_NUM_THREADS'], os.getsid(0) == os.getpid())\n" + STAYS
    heard = with_fleet(tmp_path, script, 1, use)
    said = heard.seen[0][1]["text"]
    assert said == "run --learner ipc:///x --with-parent --allow-module m --name local-0 1 True"


def test_stopping_leaves_no_process(tmp_path: Path) -> None:
    pids: list[int] = []

    async def use(fleet: LocalActors, heard: Heard) -> None:
        pids.extend([await heard.ready(), await heard.ready()])
        assert fleet.alive == 2

    heard = with_fleet(tmp_path, STAYS, 2, use)
    assert all(map(gone, pids))
    assert not heard.ended.done()
    assert not heard.named("actors_killed")


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    pids: list[int] = []

    async def use(_: LocalActors, heard: Heard) -> None:
        pids.append(await heard.ready())

    heard = with_fleet(tmp_path, DEAF, 1, use, stop_s=0.01)
    assert gone(pids[0])
    assert heard.named("actors_killed") == [{"count": 1}]


def test_what_an_actor_started_goes_with_it(tmp_path: Path) -> None:
    fifo = tmp_path / "held"
    os.mkfifo(fifo)
    script = f"""
import subprocess
subprocess.Popen([sys.executable, "-S", "-c", "import signal; f = open({str(fifo)!r}, 'wb'); signal.pause()"])
{STAYS}"""

    pipes: list[int] = []

    async def use(_: LocalActors, heard: Heard) -> None:
        await heard.ready()
        pipes.append(await asyncio.to_thread(os.open, fifo, os.O_RDONLY))  # once the grandchild holds the other end

    with_fleet(tmp_path, script, 1, use)
    with os.fdopen(pipes[0], "rb") as held:
        assert held.read() == b""  # ends only once the grandchild is gone


def test_an_exit_is_seen_although_a_grandchild_holds_its_stderr(tmp_path: Path) -> None:
    grandchild = 'subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])'
    heard = with_fleet(tmp_path, f"import subprocess; {grandchild}; sys.exit(2)", 1, until_ended)
    assert heard.ended.result() == ("local-0: refused its configuration", 2)


@pytest.mark.parametrize(
    ("script", "detail"),
    [(REFUSES, "local-0: actor.env = nothing"), (REFUSES_AS_AN_EVENT, "local-0: no such module")],
)
def test_a_refused_configuration_is_fatal_at_once(tmp_path: Path, script: str, detail: str) -> None:
    heard = with_fleet(tmp_path, script, 1, until_ended)
    assert heard.ended.result() == (detail, 2)
    assert not heard.named("actor_exited")


def test_a_crash_is_restarted_a_limited_number_of_times(tmp_path: Path) -> None:
    heard = with_fleet(tmp_path, CRASHES_ANEW, 1, until_ended)
    detail, code = heard.ended.result()
    assert code == 1
    assert "no local actor is left" in detail
    assert "; local-0 said last: Traceback " in detail
    exits = heard.named("actor_exited")
    assert [fields["restarting"] for fields in exits] == [True] * RESTARTS + [False]
    assert exits[0] | {"last_words": ""} == {
        "actor": "local-0",
        "how": "exited with code 3",
        "last_words": "",
        "restarting": True,
    }


def test_the_same_error_each_time_is_not_tried_as_often(tmp_path: Path) -> None:
    heard = with_fleet(tmp_path, CRASHES, 1, until_ended)
    detail, code = heard.ended.result()
    assert code == 1
    assert detail.endswith("local-0 ended 3 times in a row of the same error: Traceback")
    assert [fields["restarting"] for fields in heard.named("actor_exited")] == [True] * (SAME_ERRORS - 1) + [False]


def test_an_error_that_differs_in_numbers_alone_is_the_same(tmp_path: Path) -> None:
    detail, _ = with_fleet(tmp_path, CRASHES_OF_NAN, 1, until_ended).ended.result()
    assert "local-0 ended 3 times in a row of the same error: loss " in detail


def test_one_that_says_nothing_is_said_to(tmp_path: Path) -> None:
    detail, _ = with_fleet(tmp_path, DIES_SILENTLY, 1, until_ended).ended.result()
    assert detail.endswith("; local-0 was ended by signal 9 (Killed) and said nothing")


def test_a_restarted_actor_keeps_its_name(tmp_path: Path) -> None:
    counts: list[int] = []

    async def use(fleet: LocalActors, heard: Heard) -> None:
        await heard.ready()
        counts.append(fleet.restarts)

    script = f"""
if not os.path.exists({str(tmp_path / "once")!r}):
    open({str(tmp_path / "once")!r}, "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
{STAYS}"""
    heard = with_fleet(tmp_path, script, 1, use)
    assert heard.named("actor_exited")[0]["how"] == "was ended by signal 9 (Killed)"
    assert heard.named("actor_said")[0]["actor"] == "local-0"
    assert counts == [1]


def test_actors_that_were_asked_to_stop_are_not_restarted(tmp_path: Path) -> None:
    heard = with_fleet(tmp_path, LEAVES, 2, until_ended)
    assert heard.ended.result()[1] == 1
    assert [(fields["how"], fields["restarting"]) for fields in heard.named("actor_exited")] == [
        ("exited with code 0", False)
    ] * 2  # nobody here asked them


def test_one_that_the_learner_dismissed_is_no_news(tmp_path: Path) -> None:
    heard = with_fleet(tmp_path, """say('{"event": "dismissed", "why": "over"}')""", 1, until_ended)
    assert not heard.named("actor_exited")


def test_what_is_printed_comes_with_the_actor_s_name(tmp_path: Path) -> None:
    """On standard output too, and also where it looks like an event of the learner or claims another name."""
    lines = ("a remark", '{"event": "finished"}', '{"event": "fault", "actor": "x", "reason": "r"}', "10%\\r99%")
    script = "\n".join(f"print('{line}')" for line in lines)
    heard = with_fleet(tmp_path, script, 1, until_ended)
    assert heard.named("actor_said") == [
        {"actor": "local-0", "text": text} for text in ("a remark", '{"event": "finished"}', "99%")
    ]
    assert heard.named("fault") == [{"actor": "local-0", "reason": "r"}]


def test_a_fleet_of_none_says_nothing(tmp_path: Path) -> None:
    async def use(_: LocalActors, heard: Heard) -> None:
        assert not heard.ended.done()

    with_fleet(tmp_path, STAYS, 0, use)


def test_a_chatterbox_is_muted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINES_RELAYED", 3)
    heard = with_fleet(tmp_path, "for n in range(50): say(n, 'x' * 100_000)\n", 1, until_ended)
    said = [str(fields["text"]) for fields in heard.named("actor_said")]
    assert len(said) == 3
    assert max(map(len, said)) == module.LINE_CHARACTERS
    assert heard.named("actor_muted") == [{"actor": "local-0", "lines": 47}]


def test_a_command_that_is_not_there_uses_up_its_restarts() -> None:
    async def scene() -> tuple[str, int]:
        heard = Heard()
        command = ("/nonexistent/actor",)
        fleet = LocalActors("ipc:///x", 1, [], heard.on_exit, heard.announce, command=command, first_backoff_s=0.001)
        async with asyncio.timeout(DEADLINE_S):
            fleet.start()
            ended = await heard.ended
            await fleet.stop(1.0)
        return ended

    assert asyncio.run(scene())[1] == 1


def test_the_environment_is_ours_with_one_thread() -> None:
    made = child_environment({"PATH": "/bin", "OMP_NUM_THREADS": "64"})
    assert made["PATH"] == "/bin"
    assert made["OMP_NUM_THREADS"] == "1"


def made_by(folder: Path, script: str, deadline_s: float = DEADLINE_S) -> Initial:
    path = folder / "init.py"
    path.write_text(PRELUDE + script)
    return asyncio.run(initial(b"\x80", 7, ["m"], command=(sys.executable, "-S", str(path)), deadline_s=deadline_s))


def copying(folder: Path, metadata: dict[str, str], theta: np.ndarray) -> str:
    """A script that delivers this file, if it is called as ``actor init`` is."""
    ready = folder / "ready.safetensors"
    safetensors.numpy.save_file({"theta": theta}, ready, metadata)
    return f"""
import shutil
flags = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == "init" and flags["--seed"] == "7" and flags["--allow-module"] == "m", sys.argv
assert open(flags["--table"], "rb").read() == bytes([0x80])
shutil.copy({str(ready)!r}, flags["--out"])
"""


METADATA = {"layout": msgspec.json.encode(LAYOUT).decode(), "env": "E-v0", "observation_size": "4"}
METADATA |= {"seed": "7", "actor_digest": "00" * 8}


def test_initial_parameters_come_from_a_child(tmp_path: Path) -> None:
    theta = np.arange(10, dtype=np.float32)
    made = made_by(tmp_path, copying(tmp_path, METADATA, theta))
    np.testing.assert_array_equal(made.theta, theta)
    assert (made.layout, made.env, made.observation_size) == (LAYOUT, "E-v0", 4)


def test_initial_in_the_child_s_own_words(tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        made_by(tmp_path, "say('some warning'); " + REFUSES)
    assert str(told.value) == "actor.env = nothing"


def test_initial_that_crashes_shows_its_tail(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="exited with code 3: Traceback"):
        made_by(tmp_path, CRASHES)


def test_initial_is_there_although_what_the_child_started_holds_its_stderr(tmp_path: Path) -> None:
    grandchild = 'import subprocess; subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])'
    made = made_by(tmp_path, grandchild + copying(tmp_path, METADATA, np.zeros(10, np.float32)))
    assert made.env == "E-v0"


def test_initial_has_a_deadline(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="took longer than"):
        made_by(tmp_path, DEAF, deadline_s=0.05)


def test_initial_that_delivers_nothing(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="wrote no initial parameters"):
        made_by(tmp_path, LEAVES)
