"""The actor's table: what it may hold, and what is said of what it may not."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from actor.config import USED_WITH, ActorSettings, read_settings
from protocol.codecs.registry import CODECS
from protocol.errors import SettingError, UserError
from tests.learning.tasks import TASKS

EXPERIMENTS = Path(__file__).parents[2] / "deploy" / "experiments"


def read(**table: Any) -> ActorSettings:
    return read_settings(msgspec.msgpack.encode(table))


def test_an_empty_table_is_the_defaults() -> None:
    assert read() == ActorSettings()


def test_what_was_written_is_read_again() -> None:
    settings = read(env="Pendulum-v1", hidden=[7], hidden_observations=[0, 2], reward_clip=1, kl_target=0.01)
    assert (settings.hidden, settings.hidden_observations, settings.reward_clip) == ((7,), (0, 2), 1.0)
    assert read_settings(msgspec.msgpack.encode(settings)) == settings


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"passes": 0}, "passes"),
        ({"hiden": [4]}, "hiden"),
        ({"loss": "ppo"}, "actor.loss = 'ppo': one of clipped, a3c"),
        ({"algorithm": "dqn"}, "actor.algorithm = 'dqn': one of a3c, n_step_q, one_step_q, one_step_sarsa"),
        ({"vectorization": "async"}, "actor.vectorization = 'async': one of auto, .*processes"),
        ({"memory": "rnn"}, "actor.memory = 'rnn': one of none, lstm, gru"),
        ({"network": "resnet"}, "actor.network = 'resnet': one of mlp, a3c, nature"),
        ({"reward_clip": 0.0}, "actor.reward_clip"),
        ({"kl_target": -0.5}, "actor.kl_target"),
        ({"hidden_observations": [-1]}, "actor.hidden_observations"),
        ({"final_epsilons": [1.5]}, "actor.final_epsilons"),
    ],
)
def test_a_table_that_does_not_fit_names_the_key(table: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=named):
        read(**table)


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(SettingError, match="hidden"):
        read(hiden=[4])


@pytest.mark.parametrize("table", [b"\xc1", b"\x90", b""])
def test_what_is_no_table_is_refused(table: bytes) -> None:
    with pytest.raises(UserError, match=r"\[actor\]"):
        read_settings(table)


SARSA: dict[str, Any] = {"algorithm": "one_step_sarsa"}


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"codec": "zip"}, r"actor\.codec = 'zip': auto, or one of f32, .*topk_i8"),
        ({"envs": 6, "groups": 4}, r"actor\.groups = 4: a divisor of actor\.envs = 6"),
        ({"loss": "a3c", "passes": 2}, r"actor\.passes = 2: 1 with actor\.loss = 'a3c'"),
        (
            {"memory": "gru", "envs": 2, "minibatches": 3},
            r"actor\.minibatches = 3: at most actor\.envs = 2 with a memory",
        ),
        ({"kl_target": 0.01, "loss": "a3c", "passes": 1}, r"actor\.kl_target = 0\.01: .*'clipped'"),
        ({"kl_target": 0.01, "minibatches": 1, "passes": 1}, r"actor\.kl_target"),
        ({"kl_target": 0.01, "minibatches": 1, "targets": "vtrace"}, r"actor\.kl_target"),
        ({**SARSA, "memory": "lstm"}, r"actor\.memory = 'lstm': 'none' with actor\.algorithm = 'one_step_sarsa'"),
        ({**SARSA, "kl_target": 0.01}, r"actor\.kl_target = 0\.01: 0\.0 with actor\.algorithm"),
        (
            {**SARSA, "targets": "vtrace"},
            r"actor\.targets = 'vtrace': 'gae' with actor\.algorithm = .*; used with a3c",
        ),
        ({**SARSA, "gae_lambda": 0.9}, r"actor\.gae_lambda = 0\.9: 0\.95 with .*used with a3c"),
        ({**SARSA, "vtrace_clip": 2.0}, r"actor\.vtrace_clip = 2\.0: 1\.0 with actor\.algorithm"),
        ({**SARSA, "loss": "a3c"}, r"actor\.loss = 'a3c': 'clipped' with actor\.algorithm"),
        ({**SARSA, "clip": 0.1}, r"actor\.clip = 0\.1"),
        ({**SARSA, "normalize_advantages": False}, r"actor\.normalize_advantages = False: True with"),
        ({**SARSA, "value_weight": 0.1}, r"actor\.value_weight = 0\.1"),
        ({**SARSA, "entropy_weight": 0.1}, r"actor\.entropy_weight = 0\.1"),
        ({"discount_steps": 50}, r"actor\.discount_steps = 50.*actor\.final_discount"),
        ({"uplink_kbps": 50}, r"actor\.uplink_kbps = 50.*actor\.codec = .auto"),
        ({"entropy_from": 9}, r"actor\.entropy_from = 9: below actor\.entropy_steps = 0"),
        ({"entropy_floor": 0.1}, r"actor\.entropy_floor = 0\.1.*actor\.entropy_steps"),
        (
            {"exploration_steps": 9},
            r"exploration_steps = 9: 1000000 with actor\.algorithm = 'a3c'; used with n_step_q and",
        ),
        (
            {"final_epsilons": [0.1, 0.2, 0.3]},
            r"actor\.final_epsilons = \[0\.1, 0\.2, 0\.3\]: \[0\.1, 0\.01, 0\.5\] with",
        ),
        ({"final_epsilon_odds": [0.2, 0.4, 0.4]}, r"actor\.final_epsilon_odds = \[0\.2, 0\.4, 0\.4\]"),
        ({"vtrace_clip": 2.0}, r"actor\.vtrace_clip = 2\.0: 1\.0 with actor\.targets = 'gae'; used with vtrace"),
        (
            {"precision": "bf16"},
            r"actor\.precision = 'bf16': 'auto' with actor\.network = 'mlp'; used with a3c and nature",
        ),
        ({"vectorization": "sync", "simulator_deadline_s": 5}, r"simulator_deadline_s = 5\.0: .*used with processes"),
        ({"vectorization": "vector_entry_point", "simulator_failures": 5}, r"actor\.simulator_failures = 5: 20 with"),
        ({**SARSA, "final_epsilons": [0.1]}, r"actor\.final_epsilon_odds.*1 numbers"),
        ({**SARSA, "final_epsilon_odds": [0.5, 0.3, 0.3]}, r"actor\.final_epsilon_odds.*sum to 1"),
    ],
)
def test_two_settings_that_do_not_go_together_are_both_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=named):
        read(**table)


@pytest.mark.parametrize(
    "table",
    [
        {"envs": 6, "groups": 3},
        {"loss": "a3c", "passes": 2, "targets": "vtrace"},
        {"memory": "gru", "envs": 3, "minibatches": 3},
        {"envs": 2, "minibatches": 3},
        {"kl_target": 0.01, "minibatches": 1},
        {"kl_target": 0.01, "passes": 1, "targets": "vtrace"},
        {**SARSA, "final_epsilons": [0.1, 0.2], "final_epsilon_odds": [0.25, 0.75]},
        {**SARSA, "passes": 4, "exploration_steps": 9},
        {**SARSA, "loss": "clipped", "gae_lambda": 0.95, "normalize_advantages": True},
        {"final_epsilons": [0.1, 0.01, 0.5], "final_epsilon_odds": [0.4, 0.3, 0.3]},
        {"targets": "vtrace", "vtrace_clip": 2.0, "gae_lambda": 0.9},
        {"network": "nature", "precision": "bf16"},
        {"simulator_deadline_s": 5.0, "simulator_failures": 5},
        {"vectorization": "processes", "simulator_deadline_s": 5.0, "simulator_failures": 5},
        {"codec": "f32", "density": 0.01},
        {"memory": "none", "memory_size": 128},
        {"targets": "n_step", "gae_lambda": 0.98},
        {"loss": "a3c", "passes": 1, "clip": 0.1},
    ],
)
def test_near_misses_pass(table: dict[str, Any]) -> None:
    assert read(**table) is not None


def test_the_table_of_what_is_heard_names_settings_and_choices_that_there_are() -> None:
    for choice, users in USED_WITH.items():
        for name, having in users.items():
            hints = get_type_hints(ActorSettings)
            assert name in hints
            assert set(having) < set(get_args(hints[choice]))


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_experiment_is_taken_as_it_is_and_with_every_value_of_a_switch(path: Path) -> None:
    given = tomllib.loads(path.read_text())["actor"]
    read(**given)
    read_settings(msgspec.msgpack.encode(read(**given)))  # as a resolved experiment, all defaults spelt out
    for codec in CODECS:
        read(**{**given, "codec": codec})
    for name in ("vectorization", "network"):
        for value in get_args(get_type_hints(ActorSettings)[name]):
            read(**{**given, name: value})
    if given.get("algorithm", "a3c") == "a3c":
        read(**{**given, "memory": "none"})
        for targets in ("gae", "n_step"):
            read(**{**given, "targets": targets})
        read(**{**given, "loss": "a3c", "passes": 1, "kl_target": 0.0})


def test_the_command_lines_of_the_learning_tests_are_taken() -> None:
    for task in TASKS:
        given = tomllib.loads((EXPERIMENTS / f"{task.arguments[0]}.toml").read_text())["actor"]
        for override in (each for each in task.arguments if each.startswith("actor.")):
            name, _, text = override.removeprefix("actor.").partition("=")
            given[name] = tomllib.loads(f"v = {text}")["v"] if text.startswith("[") else text
        read(**given)
