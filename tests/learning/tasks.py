"""What must be learnt, how fast, and from which seeds. Pure. A table; runs nothing.

A task is one ``learner run``. Seeds count from 0, or from ``first``; settings were chosen on others.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """One line of the table.

    name: unique, names its records. group: tasks of a group share a panel of the picture. label: of its curve
    arguments: of ``learner run``. target: mean return of 100 training episodes
    steps: environment steps, and seconds: from the start of the command, after which a run is stopped
    median_s: bar for the median of wall_s, seconds; None for none
    below: the control must stay below this mean instead of reaching the target
    first: seed; those before it were seen while settings were chosen
    """

    name: str
    group: str
    label: str
    arguments: tuple[str, ...]
    target: float
    seeds: int
    steps: int
    seconds: float = 900.0
    median_s: float | None = None
    below: float | None = None
    first: int = 0

    @property
    def each_seed(self) -> range:
        """The seeds that count."""
        return range(self.first, self.first + self.seeds)


TASKS = (
    Task("cartpole", "CartPole-v1", "a3c", ("cartpole",), 475.0, 5, 1_000_000),
    Task(
        "cartpole-dense",
        "CartPole-v1, dense gradients",
        "a3c, f32, Adam at the learner",
        ("cartpole", "--set", "learner.optimizer=adam", "--set", "actor.codec=f32"),
        475.0,
        3,
        1_000_000,
    ),
    Task("cartpole-n-step-q", "CartPole-v1", "n_step_q", ("cartpole-n-step-q",), 475.0, 5, 1_000_000),
    Task("cartpole-one-step-q", "CartPole-v1", "one_step_q", ("cartpole-one-step-q",), 475.0, 5, 1_000_000),
    Task("cartpole-one-step-sarsa", "CartPole-v1", "one_step_sarsa", ("cartpole-one-step-sarsa",), 475.0, 5, 1_000_000),
    Task("cartpole-memory", "CartPole-v1, velocities hidden", "lstm", ("cartpole-memory",), 400.0, 3, 1_000_000),
    Task(
        "cartpole-memory-mlp",
        "CartPole-v1, velocities hidden",
        "mlp",
        ("cartpole-memory", "--set", "actor.memory=none", "--set", "actor.hidden=[64, 64]"),
        400.0,
        3,
        500_000,
        below=200.0,
    ),
    Task("acrobot", "Acrobot-v1", "a3c", ("acrobot", "--until-return", "-90"), -90.0, 5, 300_000),
    Task("pendulum", "Pendulum-v1", "a3c", ("pendulum",), -200.0, 5, 300_000),
    Task("lunarlander", "LunarLander-v3", "a3c", ("lunarlander",), 200.0, 5, 2_000_000, median_s=60.0),
    Task(
        "lunarlander-continuous",
        "LunarLanderContinuous-v3",
        "a3c",
        ("lunarlander-continuous",),
        200.0,
        5,
        2_000_000,
        median_s=60.0,
    ),
    Task("bipedalwalker", "BipedalWalker-v3", "a3c", ("bipedalwalker",), 250.0, 3, 10_000_000, 1800.0, median_s=900.0),
    Task("pong", "ALE/Pong-v5", "a3c", ("pong",), 18.0, 2, 10_000_000, 1200.0, first=2),
)
