"""The actor's table: what it may hold, and what is said of what it may not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actor.config import ActorSettings, read_settings
from protocol.errors import SettingError, UserError


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
        ({"codec": "zip"}, r"actor\.codec = 'zip': one of f32, .*topk_i8"),
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
        {**SARSA, "passes": 4, "loss": "a3c"},
    ],
)
def test_near_misses_pass(table: dict[str, Any]) -> None:
    assert read(**table) is not None
