"""What a program hands to ``learner run``, and how events wait for it. Real runs are in test_real_training.py."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import tomllib
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learner.launch import training
from learner.launch.training import Inbox, Training, TrainingFailed, arguments_of
from protocol.errors import UserError
from tests.loopback.system import await_end

SAYS = "import json, sys, signal\nsay = lambda **event: print(json.dumps(event), flush=True)\n"
BEGINS = SAYS + "say(event='started', run_dir='runs/x')\n"


def arguments(**settings: Any) -> list[str]:
    return arguments_of(experiment=None, options={}, settings=settings, allow_modules=(), flags=())


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{"event": str(number)} for number in numbers]


def run(monkeypatch: pytest.MonkeyPatch, script: str, **more: Any) -> Training:
    """A learner that does what this script says."""
    monkeypatch.setattr(training, "COMMAND", (sys.executable, "-c", script))
    return Training([], **more)


def test_events_are_taken_in_order_and_then_there_are_none() -> None:
    inbox = Inbox()
    for event in numbered(1, 2):
        inbox.put(event)
    assert [inbox.take(), inbox.take(0.0)] == numbered(1, 2)
    with pytest.raises(TimeoutError):
        inbox.take(0.0)
    inbox.close()
    assert inbox.take() is None
    assert inbox.take() is None


def test_of_too_many_events_the_oldest_go_and_are_counted_where_they_were() -> None:
    inbox = Inbox(limit=2)
    for event in numbered(1, 2, 3, 4):
        inbox.put(event)
    inbox.close()
    assert [inbox.take(), inbox.take(), inbox.take(), inbox.take()] == [
        {"event": "events_lost", "count": 2},
        *numbered(3, 4),
        None,
    ]


def test_whoever_waits_is_woken() -> None:
    inbox, found = Inbox(), list[Any]()
    waiting = threading.Thread(target=lambda: found.extend([inbox.take(), inbox.take()]))
    waiting.start()
    inbox.put({"event": "x"})
    inbox.close()
    waiting.join(60.0)
    assert found == [{"event": "x"}, None]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (0.99, 0.99),
        (True, True),
        ("auto", "auto"),
        ('a "b"', 'a "b"'),
        ((64, 64), [64, 64]),
        ({"a": (1, "x")}, {"a": [1, "x"]}),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.array([1, 2]), [1, 2]),
        (Path("x/y"), "x/y"),
    ],
)
def test_settings_read_back_as_they_were_given(given: Any, meant: Any) -> None:
    *_, flag, text = arguments(**{"actor.x": given})
    key, _, value = text.partition("=")
    assert (flag, key) == ("--set", "actor.x")
    assert tomllib.loads(f"x = {value}")["x"] == meant


def test_flags_come_last_so_that_they_win_and_what_is_none_is_not_said() -> None:
    assert arguments_of(
        experiment=Path("my.toml"),
        options={"--seed": 3, "--until-return": -200.0, "--env": None},
        settings={},
        allow_modules=["a", "b"],
        flags=["--http", "127.0.0.1:0"],
    ) == [
        "my.toml",
        *("--http", "off", "--seed=3", "--until-return=-200.0"),
        *("--allow-module", "a", "--allow-module", "b", "--http", "127.0.0.1:0"),
    ]


def test_a_setting_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"actor\.x = None"):
        arguments(**{"actor.x": None})


@pytest.mark.parametrize(
    ("script", "error", "text"),
    [
        ("import sys; print('note: x\\nerror: no', file=sys.stderr); sys.exit(2)", UserError, "no"),
        ("import sys; print('Error: No such option: --x', file=sys.stderr); sys.exit(2)", UserError, "No such option"),
        ("import sys; print('x\\nKeyError: 3', file=sys.stderr); sys.exit(1)", TrainingFailed, "code 1: x | KeyError"),
        ("import os; os.kill(os.getpid(), 9)", TrainingFailed, "ended by signal 9"),
        ("pass", TrainingFailed, "stopped before it began"),
    ],
)
def test_a_run_that_does_not_begin_says_why(
    monkeypatch: pytest.MonkeyPatch, script: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as raised:
        run(monkeypatch, script)
    assert text in str(raised.value)


def test_what_may_pass_by_itself_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as raised:
        run(monkeypatch, "import sys; print('error: it is in use', file=sys.stderr); sys.exit(75)")
    assert (str(raised.value), raised.value.passing) == ("it is in use", True)


def test_a_run_that_fails_later_raises_for_whoever_takes_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = BEGINS + "say(event='actors_gone', detail='none is left'); sys.exit(1)"
    with pytest.raises(TrainingFailed, match="none is left"):
        run(monkeypatch, fails).wait()
    failing = run(monkeypatch, fails)
    assert [next(failing)["event"], next(failing)["event"]] == ["started", "actors_gone"]
    with pytest.raises(TrainingFailed, match="none is left"):
        next(failing)


def test_a_run_that_nobody_looked_at_raises_at_the_end_of_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = BEGINS + "signal.signal(signal.SIGTERM, signal.SIG_IGN); say(event='journal_failed', detail='full')"
    with pytest.raises(TrainingFailed, match="full"), run(monkeypatch, f"{deaf}; sys.exit(1)") as failing:
        next(event for event in failing if event["event"] == "journal_failed")


def test_an_error_of_the_block_is_the_one_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError), run(monkeypatch, BEGINS + "sys.exit(1)"):
        _ = 1 / 0


def test_lines_that_are_no_events_are_told_or_left(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = BEGINS + "print('[1]\\nno'); print('{\"x\": 1}', flush=True); print('note: \\u00e4', file=sys.stderr)"
    assert sorted(event["event"] for event in run(monkeypatch, script)) == ["learner_said", "started"]
    assert capfd.readouterr() == ("", "")


def test_a_result_there_is_none_of_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"env_steps": 3}')
    with run(monkeypatch, BEGINS + "sys.stdin.read(); signal.pause()", run_dir=tmp_path) as going:
        with pytest.raises(UserError, match="the run goes on"):
            going.result  # noqa: B018 - it raises
        with pytest.raises(TimeoutError):
            going.wait(0.0)
        going.stop()
        with pytest.raises(TrainingFailed, match="signal 15"):
            going.wait()
    assert going.result == {"env_steps": 3}
    (tmp_path / "result.json").unlink()
    with pytest.raises(UserError, match="left no result"):
        going.result  # noqa: B018 - it raises


def test_a_learner_that_does_not_leave_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STOP_S", 0.0)
    monkeypatch.setattr(training, "INSIST_S", 0.0)
    deaf = SAYS + "signal.signal(signal.SIGTERM, signal.SIG_IGN); say(event='started', run_dir='x'); signal.pause()"
    with pytest.raises(TrainingFailed, match="signal 9"), run(monkeypatch, deaf):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="waits for a process by its descriptor")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_run_that_nobody_holds_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    tells = SAYS + "say(event='started', run_dir='x', pid=__import__('os').getpid()); signal.pause()"
    going = run(monkeypatch, tells)
    pid, gone = next(going)["pid"], weakref.ref(going)
    del going
    gc.collect()
    assert gone() is None
    await_end([pid])


def test_a_child_that_ends_is_not_waited_for_by_its_pipes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What it started holds them."""
    monkeypatch.setattr(training, "LAST_WORDS_S", 0.0)
    held = "import os, subprocess; child = subprocess.Popen(['sleep', '600'])\n"
    held += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
    list(run(monkeypatch, f"{BEGINS}{held}os._exit(0)"))
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
