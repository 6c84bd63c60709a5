"""Simulators in real processes: every way to fail, what the other rows see of it, and what is left behind."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from actor.config import ActorSettings
from actor.environments import child as child_module
from actor.environments.child_protocol import Description, FailureKind
from actor.environments.contract import checked
from actor.environments.conversion import flatten, spaces_of
from actor.environments.isolated import (
    FailureBudgetSpent,
    IsolatedEngine,
    IsolatedStep,
    fresh_seed,
    make_isolated_engine,
)
from protocol.errors import UserError
from tests.actor import broken_envs
from tests.actor.broken_envs import Act, Fragile

COMMAND = (sys.executable, broken_envs.__file__)
SEED = 7
MANY = 100_000  # steps that no start outlasts

Make = Callable[..., IsolatedEngine]


class Heard(list[tuple[int, str, str]]):
    """Failures as they were told."""

    def __call__(self, row: int, kind: str, detail: str) -> None:
        self.append((row, kind, detail))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def make(heard: Heard) -> Iterator[Make]:
    """Makes simulators, and in the end finds no process and no descriptor of theirs."""
    made: list[IsolatedEngine] = []
    before = open_files()

    def simulators(
        env: str = "Fragile",
        count: int = 2,
        budget: int = 2,
        deadline_s: float = 20.0,
        start_s: float = 60.0,
        **options: Any,
    ) -> IsolatedEngine:
        description = Description(env, options, (), deadline_s, start_s)
        made.append(IsolatedEngine(description, count, budget, heard, command=COMMAND))
        return made[-1]

    yield simulators
    for each in made:
        processes = each.processes
        each.close()
        each.close()
        for process in processes:
            assert process.returncode is not None
    assert open_files() == before


def open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def acts(*each: int) -> np.ndarray:
    return np.array(each, np.int64)


def fragile(seed: int) -> Fragile:
    env = Fragile()
    env.reset(seed=seed)
    return env


FAILURES: dict[Act, tuple[FailureKind, str]] = {
    Act.RAISE: ("raised", "ValueError: boom"),
    Act.KILL: ("died", "signal 9"),
    Act.EXIT: ("died", "exited with code 3"),
    Act.HANG: ("hung", "within 0.4 s"),
    Act.SHAPE: ("wrong_shape", r"float32 \[2\]"),
    Act.DTYPE: ("wrong_shape", "observation is <U"),
    Act.INFINITE: ("observation_not_finite", "number 0 of an observation is inf"),
    Act.NAN: ("reward_not_finite", "reward is nan"),
    Act.NO_REWARD: ("wrong_shape", "reward is NoneType"),
    Act.NO_FLAG: ("wrong_shape", "terminated is int, not a bool"),
    Act.OLD_API: ("wrong_shape", "tuple of 4"),
    Act.RESET_RAISES: ("raised", "RuntimeError: stuck"),
    Act.RESET_SHAPE: ("wrong_shape", r"float32 \[2\]"),
}


@pytest.mark.parametrize("act", FAILURES)
def test_a_row_that_fails_is_rebuilt_alone(make: Make, heard: Heard, act: Act) -> None:
    simulators = make(deadline_s=0.4 if act is Act.HANG else 20.0)
    simulators.reset(SEED)
    other, reborn = fragile(SEED + 1), Fragile()
    held = simulators.step(acts(Act.GO, Act.GO)).observations.copy()
    np.testing.assert_array_equal(held[1], other.step(Act.GO)[0])

    lost = simulators.step(acts(act, Act.GO))
    assert lost.cut.tolist() == [True, False]
    assert_absent(lost, held[0])
    assert_stepped(lost, 1, other)
    *away, back, again = [(batch.observations[0].copy(), batch) for batch in until_back(simulators, other)]
    for observation, _ in away:
        np.testing.assert_array_equal(observation, held[0])
    first, _ = reborn.reset(seed=fresh_seed(SEED, 0, 1))
    np.testing.assert_array_equal(back[0], first)
    np.testing.assert_array_equal(again[0], reborn.step(Act.GO)[0])

    (failure,) = heard
    assert failure[:2] == (0, FAILURES[act][0])
    assert re.search(FAILURES[act][1], failure[2])
    assert (simulators.failures, simulators.failure_counts[FAILURES[act][0]]) == (1, 1)


def until_back(simulators: IsolatedEngine, other: Fragile) -> Iterator[IsolatedStep]:
    """Steps with GO until row 0 is valid again; row 1 goes on as ``other`` does, which nobody disturbs."""
    for _ in range(MANY):
        batch = simulators.step(acts(Act.GO, Act.GO))
        assert_stepped(batch, 1, other)
        assert not batch.cut.any()
        yield batch
        if batch.valid[0]:
            return
        assert_absent(batch, batch.observations[0])
    raise AssertionError("never came back")


def assert_stepped(batch: IsolatedStep, row: int, twin: Fragile) -> None:
    observation, reward, *_ = twin.step(Act.GO)
    np.testing.assert_array_equal(batch.observations[row], observation)
    assert (batch.rewards[row], bool(batch.valid[row])) == (reward, True)


def assert_absent(batch: IsolatedStep, held: np.ndarray) -> None:
    np.testing.assert_array_equal(batch.observations[0], held)
    flags = (batch.valid[0], batch.terminated[0], batch.truncated[0])
    assert (batch.rewards[0], *map(bool, flags)) == (0.0, False, False, False)


def test_where_all_rows_are_absent_one_step_waits(make: Make) -> None:
    simulators = make(count=1)
    simulators.reset(SEED)
    valid = [bool(simulators.step(acts(act)).valid[0]) for act in (Act.GO, Act.RAISE, Act.GO, Act.GO)]
    assert valid == [True, False, False, True]


def test_settings_are_enough(heard: Heard) -> None:
    settings = ActorSettings(env="CartPole-v1", vectorization="processes", simulator_failures=1)
    simulators = make_isolated_engine(settings, 1, frozenset(), heard)
    with contextlib.closing(simulators):
        assert simulators.reset(SEED).shape == (1, 4)
        os.killpg(simulators.children[0].process.pid, signal.SIGKILL)
        assert simulators.step(acts(1)).cut.all()
    assert [kind for _, kind, _ in heard] == ["died"]


def test_an_id_that_names_nothing_is_told_in_the_words_of_envs() -> None:
    with pytest.raises(UserError, match="did you mean CartPole-v1"):
        make_isolated_engine(ActorSettings(env="CartPool-v1"), 1, frozenset(), lambda *_: None)


def test_past_the_budget_the_story_is_told(make: Make, heard: Heard) -> None:
    simulators = make(count=1, budget=1)
    simulators.reset(SEED)
    for act in (Act.KILL, Act.GO):
        simulators.step(acts(act))
    with pytest.raises(FailureBudgetSpent) as caught:
        simulators.step(acts(Act.RAISE))
    assert str(caught.value) == (
        "simulators failed too often: 2 times (1 raised, 1 died), 1 allowed; "
        "the last, number 0, raised: ValueError: boom"
    )
    assert len(heard) == 2


@pytest.mark.parametrize(
    ("lives", "kinds", "words"),
    [
        (["raise"], ["raised"], "RuntimeError: no display"),
        (["reset_raises"], ["raised"], "RuntimeError: stuck"),
        (["well", "other"], ["raised", "wrong_shape"], "its spaces are"),
        (["well", "refuse"], ["raised", "raised"], "no such environment here"),
    ],
)
def test_a_start_that_fails_is_tried_again(
    make: Make, heard: Heard, tmp_path: Path, lives: list[str], kinds: list[str], words: str
) -> None:
    simulators = make(count=1, diary=str(tmp_path / "diary"), lives=lives)
    simulators.reset(SEED)
    if lives[0] == "well":
        simulators.step(acts(Act.RAISE))
        assert not simulators.step(acts(Act.GO)).cut.any()
    assert simulators.step(acts(Act.GO)).valid.all()
    assert [kind for _, kind, _ in heard] == kinds
    assert words in heard[-1][2]


def test_an_environment_that_cannot_be_made_is_the_users_to_put_right(make: Make, heard: Heard, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no such environment here$"):
        make(diary=str(tmp_path / "diary"), lives=["refuse", "refuse"])
    assert heard == []


def test_a_start_has_a_deadline(make: Make, heard: Heard) -> None:
    with pytest.raises(FailureBudgetSpent, match=r"1 hung.*no first observation within 0\.001 s"):
        make(count=1, budget=0, start_s=0.001)


def test_a_reset_begins_what_is_absent_too(make: Make) -> None:
    simulators = make()
    first = simulators.reset(SEED).copy()
    simulators.step(acts(Act.RAISE, Act.GO))
    np.testing.assert_array_equal(simulators.reset(SEED), first)
    assert simulators.step(acts(Act.GO, Act.GO)).valid.all()


def test_who_answers_and_then_dies_is_missed_at_the_next_step(make: Make, heard: Heard) -> None:
    simulators = make(deadline_s=0.4)
    simulators.reset(SEED)
    simulators.send(acts(Act.GO, Act.HANG))
    leaver = simulators.children[0]
    select.select([leaver.socket], [], [], 20.0)
    leaver.process.kill()
    leaver.process.wait(20.0)
    batch = simulators.receive()  # and the dead pipe, which is always ready, does not keep the late one alive
    assert (batch.valid.tolist(), batch.cut.tolist()) == ([True, False], [False, True])
    assert simulators.step(acts(Act.GO, Act.GO)).cut.tolist() == [True, False]
    assert [(row, kind) for row, kind, _ in heard] == [(1, "hung"), (0, "died")]


def test_an_interrupt_is_the_parents_business(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    simulators = make(count=1)
    simulators.reset(SEED)
    os.killpg(simulators.children[0].process.pid, signal.SIGINT)
    assert simulators.step(acts(Act.PRINT)).valid.all()
    simulators.close()
    printed = capfd.readouterr()
    assert (printed.out, "a remark" in printed.err) == ("", True)  # standard output is for our own lines


def test_what_ignores_sigterm_is_killed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "CLOSE_S", 0.2)
    simulators = make(count=1)
    simulators.reset(SEED)
    stubborn = simulators.children[0]
    simulators.send(acts(Act.IMMORTAL))
    wait_until_sigterm_is_ignored(stubborn.process.pid)
    simulators.close()
    assert stubborn.process.returncode == -signal.SIGKILL


def wait_until_sigterm_is_ignored(pid: int) -> None:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("no /proc to look into")
    for _ in range(MANY):
        (mask,) = re.findall(r"SigIgn:\s*(\w+)", status.read_text())
        if int(mask, 16) >> (signal.SIGTERM - 1) & 1:
            return
    raise AssertionError("SIGTERM is still heard")


def test_what_an_environment_started_ends_with_it(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    with os.fdopen(os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK), "rb") as held:
        simulators = make(count=1, holds=str(tmp_path / "held"))
        simulators.close()
        gone = select.poll()
        gone.register(held, 0)
        assert gone.poll(20_000)  # all writing ends are closed


PARENT = """
import sys
import numpy as np
from actor.environments.isolated import IsolatedEngine
from actor.environments.child_protocol import Description, FailureKind
from actor.environments.contract import checked
simulators = IsolatedEngine(Description("Fragile", {}, (), 0.05, 60.0), 2, 0, print, command=sys.argv[2:])
simulators.reset(0)
simulators.send(np.array([int(sys.argv[1]), 0]))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("act", [Act.GO, Act.HANG])
def test_children_do_not_outlive_a_parent_that_is_killed(act: Act) -> None:
    command = [sys.executable, "-c", PARENT, str(int(act)), *COMMAND]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
        parent.communicate(timeout=20.0)  # ends when nobody holds stderr any more, and that is children and all


@pytest.mark.parametrize(
    ("env", "steps", "draw"),
    [
        ("CartPole-v1", 60, lambda rng: rng.integers(0, 2, 3)),
        ("Pendulum-v1", 210, lambda rng: rng.uniform(-2.0, 2.0, (3, 1)).astype(np.float32)),
        ("FrozenLake-v1", 40, lambda rng: rng.integers(0, 4, 3)),
        ("Mixed", 12, lambda rng: rng.uniform([-2.0, 0.0], [2.0, 1.0], (3, 2)).astype(np.float32)),
        ("Screen", 7, lambda rng: rng.integers([0, 0], [3, 4], (3, 2))),
    ],
)
def test_it_is_gymnasiums_own_same_step_mode_to_the_bit(
    make: Make, env: str, steps: int, draw: Callable[[np.random.Generator], np.ndarray]
) -> None:
    makers = [lambda: broken_envs.make(env, {}, frozenset())] * 3
    with contextlib.closing(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)) as oracle:
        simulators, rng = make(env, 3), np.random.default_rng(0)
        space = oracle.single_observation_space
        assert simulators.spaces == spaces_of(env, space, oracle.single_action_space)
        np.testing.assert_array_equal(simulators.reset(SEED), flatten(space, oracle.reset(seed=SEED)[0], 3))
        finished = 0
        for _ in range(steps):
            actions = draw(rng)
            batch, (observed, rewards, terminated, truncated, infos) = simulators.step(actions), oracle.step(actions)
            np.testing.assert_array_equal(batch.observations, flatten(space, observed, 3))
            np.testing.assert_array_equal(batch.rewards, rewards)
            np.testing.assert_array_equal(batch.terminated, terminated)
            np.testing.assert_array_equal(batch.truncated, truncated)
            assert batch.valid.all()
            finished += assert_finals(batch, space, infos)
        assert finished


def assert_finals(batch: IsolatedStep, space: Any, infos: dict[str, Any]) -> int:
    done = batch.terminated | batch.truncated
    if batch.final_observations is None:
        assert not done.any()
        return 0
    for row, final in enumerate(batch.final_observations):
        if done[row]:
            expected = flatten(space, checked(space, infos["final_obs"][row]), 1)
            np.testing.assert_array_equal(final, expected.reshape(final.shape))
        else:
            np.testing.assert_array_equal(final, batch.observations[row])
    return int(done.sum())
