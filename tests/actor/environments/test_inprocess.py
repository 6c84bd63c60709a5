"""Environments in this process: numbers that are not finite leave their rows out, are counted, and are told once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box

from actor.config import ActorSettings
from actor.environments import signals
from actor.environments.contract import ContractViolation
from actor.environments.inprocess import InProcessEngine
from actor.environments.registry import make_vector_envs
from actor.environments.vector import Step, VectorEnv
from actor.spaces import Spaces
from tests.actor.counter import discrete

ACTIONS = np.zeros((2, 1), np.int64)
NAN, INF = float("nan"), float("inf")


class Written:
    """A vector of two whose steps are written down: of each what both rows show, are paid, and whether they are cut.

    The true successors of cut rows stand in ``finals``; without them it resets one step later.
    """

    num_envs = 2
    single_observation_space = Box(-INF, INF, (2,), np.float32)

    def __init__(self, *steps: tuple[tuple[float, float], tuple[float, float], tuple[bool, bool]]) -> None:
        self._steps = iter(steps)
        self.finals: Any = None
        self.first = 0.0
        self.pays: Any = np.float64

    def reset(self, seed: int) -> Any:
        return np.full((2, 2), self.first, np.float32), {}

    def step(self, actions: np.ndarray) -> Any:
        seen, rewards, cut = map(np.array, next(self._steps))
        rewards = rewards.astype(self.pays)
        shown = np.stack([np.zeros(2), seen], 1).astype(np.float32)
        info = {} if self.finals is None else {"final_obs": self.finals}
        return shown, rewards, np.zeros(2, np.bool_), cut, info

    def close(self) -> None:
        pass


NO = (False, False)
Failures = list[tuple[int, str, str]]


def simulators(env: Written, *, next_step_autoreset: bool = True) -> tuple[VectorEnv, Failures]:
    told: Failures = []
    engine = InProcessEngine(
        env, next_step_autoreset=next_step_autoreset, name="Odd-v0", on_failure=lambda *said: told.append(said)
    )
    made = VectorEnv(engine, Spaces((2,), "float32", discrete(2)), next_step_autoreset=next_step_autoreset)
    made.reset(0)
    return made, told


def taken(made: VectorEnv, count: int) -> list[Step]:
    return [made.step(ACTIONS) for _ in range(count)]


def test_an_infinite_reward_of_half_precision_is_seen() -> None:
    env = Written(((0, 0), (INF, 1.0), NO))
    env.pays = np.float16
    made, told = simulators(env)
    assert (made.step(ACTIONS).valid.tolist(), [kind for _, kind, _ in told]) == ([False, True], ["reward_not_finite"])


@pytest.mark.parametrize("reward", [NAN, INF, -INF, 1e39])
def test_a_reward_that_is_not_finite_leaves_its_row_out_and_its_score_untold(reward: float) -> None:
    ends = ((0.0, 0.0), (1.0, 1.0), (True, True))
    made, told = simulators(
        Written(((0, 0), (1.0, 1.0), NO), ((0, 0), (reward, 1.0), NO), ends, ((0, 0), (0.0, 0.0), NO), ends)
    )
    steps = taken(made, 5)
    assert [step.valid.tolist() for step in steps] == [
        [True, True],
        [False, True],
        [True, True],
        [False, False],
        [True, True],
    ]
    assert steps[1].rewards.tolist() == [0.0, 1.0]
    assert steps[1].starts.tolist() == [True, False]  # nothing is carried over the hole
    assert [(step.rows.tolist(), step.episodes) for step in (steps[2], steps[4])] == [
        ([1], [(3.0, 3)]),
        ([0, 1], [(1.0, 1), (1.0, 1)]),
    ]
    assert made.failures == {"reward_not_finite": 1}
    assert told == [(0, "reward_not_finite", f"Odd-v0: the reward is {reward}, in step 2 of row 0")]


def test_an_observation_that_is_not_finite_takes_the_action_that_follows_it_with_it() -> None:
    good = ((0.0, 0.0), (1.0, 1.0), NO)
    made, told = simulators(Written(good, ((0.0, NAN), (1.0, 1.0), NO), ((0.0, INF), (1.0, 1.0), NO), good, good))
    steps = taken(made, 5)
    assert [bool(step.valid[1]) for step in steps] == [True, False, False, False, True]
    assert all(step.valid[0] for step in steps)
    assert all(np.isfinite(step.observations).all() for step in steps)
    assert made.failures == {"observation_not_finite": 2}
    assert [detail for _, _, detail in told] == ["Odd-v0: number 1 of an observation is nan, in step 2 of row 1"]
    assert made.first_failures == {"observation_not_finite": told[0][2]}


def test_a_true_successor_that_is_not_finite_leaves_its_row_out() -> None:
    env = Written(((0.0, 0.0), (1.0, 1.0), (True, True)))
    made, _ = simulators(env, next_step_autoreset=False)
    env.finals = np.array([[0.0, NAN], [0.0, 2.0]], np.float32)
    (step,) = taken(made, 1)
    assert (step.valid.tolist(), step.truncated.tolist()) == ([False, True], [False, True])
    assert (step.starts.tolist(), step.episodes, step.rows.tolist()) == ([True, True], [(1.0, 1)], [1])
    assert made.failures == {"observation_not_finite": 1}


def test_an_episode_cannot_begin_with_what_is_not_finite() -> None:
    env = Written()
    env.first = NAN
    with pytest.raises(ContractViolation, match="Odd-v0: number 0 of an observation is nan, the first of row 0"):
        simulators(env)


def test_what_breaks_the_contract_is_named_with_the_environment() -> None:
    made, _ = simulators(Written(((0.0, 0.0), (1.0,), NO)))  # type: ignore[arg-type]
    with pytest.raises(ContractViolation, match=r"^Odd-v0: the reward is float64 \[1\], not numbers \[2\]"):
        made.step(ACTIONS)


def twice(made: VectorEnv, actions: np.ndarray) -> None:
    """What fails at reset fails one step later."""
    for _ in range(2):
        made.step(actions)


BROKEN = "tests.actor.broken_envs:Fragile-v0"
TIMED = "tests.actor.broken_envs:Timed-v0"  # in Gymnasium's time limit


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("SHAPE", r"an observation is float32 \[2\], not of Box"),
        ("DTYPE", "an observation is <U"),
        ("NO_REWARD", "the reward is NoneType, not a number"),
        ("NO_FLAG", "terminated is int, not a bool"),
        ("OLD_API", "step returned tuple of 4"),
        ("RESET_SHAPE", r"an observation is float32 \[2\]"),
    ],
)
def test_one_environment_in_this_process_is_refused_in_the_words_of_its_own_process(act: str, words: str) -> None:
    from tests.actor.broken_envs import Act

    (made,) = make_vector_envs(ActorSettings(env=BROKEN, envs=2), frozenset({"tests.actor.broken_envs"}))
    try:
        made.reset(0)
        with pytest.raises(ContractViolation, match=f"^{BROKEN}: {words}"):
            twice(made, np.full((2, 1), Act[act]))
    finally:
        made.close()


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        ("OLD_API", ContractViolation, f"^{TIMED}: step did not return Gymnasium's five values .*got 4"),
        ("RAISE", ValueError, "^boom$"),
    ],
)
def test_a_wrapper_that_expects_five_values_is_heard_in_our_words(act: str, error: type[Exception], words: str) -> None:
    from tests.actor.broken_envs import Act

    (made,) = make_vector_envs(ActorSettings(env=TIMED, envs=1), frozenset({"tests.actor.broken_envs"}))
    try:
        made.reset(0)
        with pytest.raises(error, match=words):
            made.step(np.full((1, 1), Act[act]))
    finally:
        made.close()


class Taking(Written):
    """Takes the signals for itself whenever its code runs."""

    def reset(self, seed: int) -> Any:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return super().reset(seed)

    def step(self, actions: np.ndarray) -> Any:
        signal.signal(signal.SIGTERM, lambda *_: None)
        return super().step(actions)


@pytest.fixture
def heard() -> Iterator[list[int]]:
    before = [signal.getsignal(number) for number in signals.OURS]
    numbers: list[int] = []
    signals.install(lambda number, _: numbers.append(number))
    yield numbers
    signals.uninstall()
    for number, handler in zip(signals.OURS, before, strict=True):
        signal.signal(number, handler)


def test_an_environment_that_takes_the_signals_loses_them_again(heard: list[int]) -> None:
    made, _ = simulators(Taking(((0.0, 0.0), (1.0, 1.0), NO)))
    signal.raise_signal(signal.SIGINT)
    taken(made, 1)
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGINT, signal.SIGTERM]
