"""Which environments, and for how many steps. Pure. A table; runs nothing.

Defaults were chosen by what they make of DEVELOPMENT, with its seeds. REPORTING says what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MODULE = "tests.learning.defaults.environments"


@dataclass(frozen=True, slots=True)
class Task:
    """name: unique. env: Gymnasium's id. steps: environment steps of a run. options: keyword arguments of the env.

    own: whether the id is registered by MODULE. tuned: the shipped experiment of it, empty where there is none.
    settings: TABLE.KEY=VALUE that the task is given beside defaults.
    """

    name: str
    env: str
    steps: int = 100_000
    options: dict[str, Any] = field(default_factory=dict)
    own: bool = False
    tuned: str = ""
    settings: tuple[str, ...] = ()


def _own(name: str, env: str, steps: int = 100_000, **options: Any) -> Task:
    return Task(name, env, steps, options, own=True)


DEVELOPMENT = (
    Task("LunarLanderContinuous", "LunarLanderContinuous-v3", 150_000),
    Task("InvertedDoublePendulum", "InvertedDoublePendulum-v5"),
    Task("Pusher", "Pusher-v5"),
    Task("Walker2d", "Walker2d-v5", 200_000),
    Task("FrozenLake 8x8", "FrozenLake8x8-v1", 200_000),
    Task("Taxi, rainy", "Taxi-v4", 150_000, {"is_rainy": True}),
    _own("LavaGap", "Grid-v0", task="MiniGrid-LavaGapS5-v0"),
    _own("linear system of 5, rewards x 1000", "LinearSystem-v0", size=5, controls=2, reward_scale=1000.0),
    _own("pole in other units", "PoleInOtherUnits-v0", 60_000),
    _own("deep sea of 8", "DeepSea-v0", 60_000),
)
REPORTING = (
    Task("CartPole", "CartPole-v1", tuned="cartpole"),
    Task("Acrobot", "Acrobot-v1"),
    Task("MountainCar", "MountainCar-v0"),
    Task("MountainCarContinuous", "MountainCarContinuous-v0"),
    Task("Pendulum", "Pendulum-v1", tuned="pendulum"),
    Task("LunarLander", "LunarLander-v3", 200_000, tuned="lunarlander"),
    Task("BipedalWalker", "BipedalWalker-v3", 200_000, tuned="bipedalwalker"),
    Task("InvertedPendulum", "InvertedPendulum-v5"),
    Task("Reacher", "Reacher-v5"),
    Task("Swimmer", "Swimmer-v5"),
    Task("Hopper", "Hopper-v5", 200_000),
    Task("HalfCheetah", "HalfCheetah-v5", 200_000),
    Task("FrozenLake", "FrozenLake-v1", 100_000, {"is_slippery": False}),
    Task("FrozenLake, slippery", "FrozenLake-v1"),
    Task("Taxi", "Taxi-v4"),
    Task("CliffWalking", "CliffWalking-v1"),
    _own("DoorKey 5x5", "Grid-v0", task="MiniGrid-DoorKey-5x5-v0"),
    _own("chain of 30", "Chain-v0"),
    _own("T-maze of 10", "TMaze-v0", 60_000),
    _own("linear system of 3", "LinearSystem-v0"),
    _own("linear system of 3, x 100 and x 1000", "LinearSystem-v0", observation_scale=100.0, reward_scale=1000.0),
)
LSTM = "actor.memory=lstm"
# What defaults do not bring: memory, which has to be asked for, and larger mazes with rewards that are rare. No peer.
ASKED_FOR = (
    Task("T-maze of 10, LSTM", "TMaze-v0", 100_000, own=True, settings=(LSTM,)),
    Task("T-maze of 30, LSTM", "TMaze-v0", 200_000, {"delay": 30}, own=True, settings=(LSTM,)),
    Task(
        "T-maze of 100, LSTM", "TMaze-v0", 300_000, {"delay": 100}, own=True, settings=(LSTM, "actor.rollout_steps=256")
    ),
    Task("MiniGrid memory, LSTM", "Grid-v0", 300_000, {"task": "MiniGrid-MemoryS7-v0"}, own=True, settings=(LSTM,)),
    Task("DoorKey 6x6", "Grid-v0", 200_000, {"task": "MiniGrid-DoorKey-6x6-v0"}, own=True),
    Task("DoorKey 8x8", "Grid-v0", 400_000, {"task": "MiniGrid-DoorKey-8x8-v0"}, own=True),
    Task(
        "DoorKey 8x8, novelty",
        "Grid-v0",
        400_000,
        {"task": "MiniGrid-DoorKey-8x8-v0"},
        own=True,
        settings=("actor.novelty_weight=0.03",),
    ),
    Task("chain of 30, novelty", "Chain-v0", own=True, settings=("actor.novelty_weight=0.03",)),
)
TASKS = {task.name: task for task in (*DEVELOPMENT, *REPORTING, *ASKED_FOR)}
