"""The actor's table: what it may hold, and what is said of what it may not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from actor.config import (
    CHANGEABLE,
    DEFAULTS,
    FORMER,
    NETWORKS,
    READ_WITH,
    ActorSettings,
    Wrapper,
    read_settings,
    stages,
)
from actor.traits import ALGORITHMS, VALUES
from protocol.codecs.registry import CODECS
from protocol.errors import SettingError, UserError
from protocol.setting_names import KEPT
from tests.learning.tasks import TASKS

EXPERIMENTS = Path(__file__).parents[2] / "deploy" / "experiments"


def read(**table: Any) -> ActorSettings:
    return read_settings(msgspec.msgpack.encode(table))


def test_an_empty_table_is_the_defaults() -> None:
    assert read(defaults=3) == ActorSettings()


def test_a_table_that_names_no_edition_means_the_first() -> None:
    """What a run of an earlier version left unsaid stays what it was, to the bit."""
    first = ActorSettings(defaults=1, **FORMER)
    assert read() == read(defaults=1) == first
    assert (first.passes, first.minibatches, first.network, first.entropy_weight) == (6, 4, "mlp", 0.0)
    assert read(passes=3).passes == 3
    with pytest.raises(SettingError, match=r"actor\.defaults"):
        read(defaults=4)


def test_masks_are_looked_at_from_the_third_edition_on_and_where_somebody_asks() -> None:
    """A run that began before has a network that saw them, and goes on as it began."""
    assert [read(defaults=edition).action_mask for edition in (1, 2, 3)] == ["none", "none", "auto"]
    assert read(defaults=2, action_mask="method").action_mask == "method"


@pytest.mark.parametrize("edition", [1, 2, 3])
@pytest.mark.parametrize("algorithm", VALUES)
def test_value_methods_are_as_they_were(algorithm: str, edition: int) -> None:
    settings = read(defaults=edition, algorithm=algorithm)
    assert (settings.passes, settings.minibatches, settings.normalize_observations) == (6, 4, False)


def test_what_was_written_is_read_again() -> None:
    settings = read(env="Pendulum-v1", hidden=[7], hidden_observations=[0, 2], reward_clip=1, kl_target=0.01)
    assert (settings.hidden, settings.hidden_observations, settings.reward_clip) == ((7,), (0, 2), 1.0)
    assert read_settings(msgspec.msgpack.encode(settings)) == settings


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"passes": 0}, "passes"),
        ({"hiden": [4]}, "hiden"),
        ({"loss": "ppo"}, r"actor\.loss = 'ppo': expected one of clipped, a3c; did you mean 'clipped'\?"),
        ({"algorithm": "dqn"}, r"'dqn': expected one of a3c, n_step_q, one_step_q, one_step_sarsa; .*'one_step_q'\?"),
        ({"vectorization": "async"}, "actor.vectorization = 'async': expected one of auto, .*processes"),
        ({"memory": "rnn"}, "actor.memory = 'rnn': expected one of none, lstm, gru"),
        (
            {"network": "my nets"},
            "actor.network = 'my nets': expected one of auto, mlp, grid, small, a3c, nature, or one of your own as",
        ),
        ({"network": "my_nets:"}, "actor.network = 'my_nets:': expected one of auto, .* as MODULE:NAME"),
        ({"network": ":Net"}, "actor.network = ':Net': expected one of"),
        ({"network_options": {"width": 3}}, "actor.network_options = .*only a network of your own reads it.*'mlp'"),
        ({"hidden": 64}, r"actor\.hidden = 64: expected a list, .*; did you mean \[64\]\?"),
        ({"hidden": "64,32"}, r"did you mean \[64, 32\]\?"),
        ({"hidden": "(64,32)"}, r"did you mean \[64, 32\]\?"),
        ({"value_weight": "0,25"}, r"did you mean 0\.25\?"),
        ({"keep": 0.05}, r"did you mean actor\.density\?"),
        ({"lr": 1e-3}, r"actor\.lr = 0\.001: there is no such setting; did you mean learner\.learning_rate\?"),
        ({"credit": 2}, r"did you mean learner\.credit\?"),
        ({"lerning_rate": 2}, r"did you mean learner\.learning_rate\?"),
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
        ({"codec": "zip"}, "actor.codec = 'zip': expected one of auto, f32, "),
        ({"codec": "topk"}, "did you mean 'topk_i8'?"),
        ({"envs": 6, "groups": 4}, "actor.groups = 4: must divide actor.envs = 6"),
        ({"loss": "a3c", "passes": 2}, "actor.passes = 2: must be 1 with actor.loss = 'a3c'"),
        (
            {"memory": "gru", "envs": 2, "minibatches": 3},
            "actor.minibatches = 3: must be at most actor.envs = 2 with actor.memory = 'gru'",
        ),
        ({"kl_target": 0.01, "loss": "a3c", "passes": 1}, "actor.kl_target = 0.01: needs actor.loss = 'clipped'"),
        ({"kl_target": 0.01, "minibatches": 1, "passes": 1}, "actor.kl_target = 0.01: needs"),
        ({"kl_target": 0.01, "minibatches": 1, "targets": "vtrace"}, "actor.kl_target = 0.01: needs"),
        (
            {**SARSA, "memory": "lstm"},
            "actor.memory = 'lstm': only actor.algorithm = 'a3c' reads it, and it is 'one_step_sarsa'; leave",
        ),
        ({**SARSA, "kl_target": 0.01}, "actor.kl_target = 0.01: only actor.algorithm = 'a3c'"),
        ({**SARSA, "targets": "vtrace"}, "actor.targets = 'vtrace': only actor.algorithm = 'a3c'"),
        ({**SARSA, "gae_lambda": 0.9}, "actor.gae_lambda = 0.9: only actor.algorithm = 'a3c'"),
        ({**SARSA, "vtrace_clip": 2.0}, "actor.vtrace_clip = 2.0: only actor.algorithm = 'a3c'"),
        ({**SARSA, "loss": "a3c"}, "actor.loss = 'a3c': only actor.algorithm = 'a3c'"),
        ({**SARSA, "clip": 0.1}, "actor.clip = 0.1: only"),
        ({**SARSA, "normalize_advantages": False}, "actor.normalize_advantages = false: only"),
        ({**SARSA, "value_weight": 0.1}, "actor.value_weight = 0.1: only"),
        ({**SARSA, "entropy_weight": 0.1}, "actor.entropy_weight = 0.1: only"),
        ({"discount_steps": 50}, "actor.discount_steps = 50: nothing reads it without actor.final_discount"),
        (
            {"uplink_kbps": 50},
            "actor.uplink_kbps = 50.0: only actor.codec = 'auto' reads it, and it is 'topk_i8', the default; leave it",
        ),
        ({"entropy_from": 9}, "actor.entropy_from = 9: must be below actor.entropy_steps = 0"),
        ({"entropy_floor": 0.1}, "actor.entropy_floor = 0.1: needs actor.entropy_steps"),
        (
            {"exploration_steps": 9},
            "actor.exploration_steps = 9: only actor.algorithm = 'n_step_q' or 'one_step_q' or 'one_step_sarsa' reads",
        ),
        ({"final_epsilons": [0.1, 0.2, 0.3]}, "actor.final_epsilons = [0.1, 0.2, 0.3]: only actor.algorithm = 'n_step"),
        ({"final_epsilon_odds": [0.2, 0.4, 0.4]}, "actor.final_epsilon_odds = [0.2, 0.4, 0.4]: only"),
        ({"vtrace_clip": 2.0}, "actor.vtrace_clip = 2.0: only actor.targets = 'vtrace' reads it, and it is 'gae', the"),
        ({**SARSA, "shared_trunk": True}, "actor.shared_trunk = true: only actor.algorithm = 'a3c' reads it"),
        ({"network": "grid", "layer_norm": True}, "actor.layer_norm = true: only actor.network = 'mlp' reads it"),
        ({"network": "my_nets:Net", "shared_trunk": True}, "actor.shared_trunk = true: only actor.network = 'mlp'"),
        ({"network": "mlp", "precision": "bf16"}, "actor.precision = 'bf16': only actor.network = 'grid' or 'small'"),
        (
            {"vectorization": "sync", "simulator_deadline_s": 5},
            "actor.simulator_deadline_s = 5.0: only actor.vectorization = 'processes' reads it, and it is 'sync'",
        ),
        ({"vectorization": "vector_entry_point", "simulator_failures": 5}, "actor.simulator_failures = 5: only"),
        ({**SARSA, "final_epsilons": [0.1]}, "actor.final_epsilons = [0.1]: set actor.final_epsilon_odds, too"),
        (
            {**SARSA, "final_epsilons": [0.1], "final_epsilon_odds": [0.5, 0.5]},
            "actor.final_epsilon_odds = [0.5, 0.5]: 1 numbers, as many as actor.final_epsilons",
        ),
        ({**SARSA, "final_epsilon_odds": [0.5, 0.3, 0.3]}, "as many as actor.final_epsilons, that sum to 1"),
    ],
)
def test_two_settings_that_do_not_go_together_are_both_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=re.escape(named)):
        read(**table)


@pytest.mark.parametrize(
    ("table", "passes", "minibatches"),
    [
        ({"loss": "a3c"}, 1, 4),
        ({"loss": "a3c", "targets": "vtrace"}, 6, 4),
        ({"memory": "lstm", "envs": 2}, 6, 2),
        ({"memory": "none", "envs": 2}, 6, 4),
        ({"memory": "gru"}, 6, 4),
        ({"memory": "gru", "defaults": 2}, 10, 2),
        ({"memory": "gru", "defaults": 2, "envs": 1}, 10, 1),
    ],
)
def test_no_default_stands_against_a_choice(table: dict[str, Any], passes: int, minibatches: int) -> None:
    settings = read(**table)
    assert (settings.passes, settings.minibatches) == (passes, minibatches)


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


def test_the_table_of_what_is_read_names_settings_and_choices_that_there_are() -> None:
    for choice, users in READ_WITH.items():
        for name, having in users.items():
            hints = get_type_hints(ActorSettings)
            assert name in hints
            named = {"codec": {"auto", *CODECS}, "network": set(NETWORKS), "algorithm": set(ALGORITHMS)}
            assert set(having) < (named.get(choice) or set(get_args(hints[choice])))


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_experiment_is_taken_as_it_is_and_with_every_value_of_a_switch(path: Path) -> None:
    given = tomllib.loads(path.read_text())["actor"]
    settings = read(**given)
    assert read_settings(msgspec.msgpack.encode(settings)) == settings  # as resolved, all defaults spelt out
    for codec in CODECS:
        assert read(**{**given, "codec": codec}).codec == codec
    for name, values in (
        ("vectorization", get_args(get_type_hints(ActorSettings)["vectorization"])),
        ("network", NETWORKS),
    ):
        for value in values:
            assert getattr(read(**{**given, name: value}), name) == value
    if given.get("algorithm", "a3c") == "a3c":
        assert read(**{**given, "memory": "none"}).memory == "none"
        for targets in ("gae", "n_step"):
            assert read(**{**given, "targets": targets}).targets == targets
        assert read(**{**given, "loss": "a3c", "passes": 1, "kl_target": 0.0}).loss == "a3c"


def test_the_command_lines_of_the_learning_tests_are_taken() -> None:
    for task in TASKS:
        given = tomllib.loads((EXPERIMENTS / f"{task.arguments[0]}.toml").read_text())["actor"]
        for override in (each for each in task.arguments if each.startswith("actor.")):
            name, _, text = override.removeprefix("actor.").partition("=")
            given[name] = tomllib.loads(f"v = {text}")["v"] if text.startswith("[") else text
        assert read(**given).env == given["env"]


def staged(*entries: dict[str, Any], **table: Any) -> list[tuple[int, ActorSettings]]:
    return list(stages(read(**table, curriculum=list(entries))))


def test_a_stage_holds_beside_those_before_it() -> None:
    first, second, third = staged(
        {"env_steps": 100, "set": {"discount": 0.9, "env_options": {"b": 3}}},
        {"env_steps": 2e2, "set": {"env_options": {"c": 4}, "wrappers": ["a:B"]}},
        env_options={"a": 1, "b": 2},
    )
    assert [at for at, _ in (first, second, third)] == [0, 100, 200]
    assert [each.discount for _, each in (first, second, third)] == [0.99, 0.9, 0.9]
    assert first[1].env_options == {"a": 1, "b": 2}
    assert second[1].env_options == {"a": 1, "b": 3}
    assert third[1].env_options == {"a": 1, "b": 3, "c": 4}
    assert [each.wrappers for _, each in (first, second, third)] == [(), (), ("a:B",)]


def test_another_environment_begins_with_no_options() -> None:
    *_, (_, last) = staged({"env_steps": 9, "set": {"env": "B-v0", "env_options": {"b": 1}}}, env_options={"a": 1})
    assert (last.env, last.env_options) == ("B-v0", {"b": 1})


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ([{"env_steps": 9, "set": {"hidden": [4]}}], "actor.curriculum[0].set.hidden = [4]: cannot change while a run"),
        (
            [{"env_steps": 9, "set": {"gamma": 0.9}}],
            "[0].set.gamma = 0.9: there is no such setting; did you mean actor.di",
        ),
        ([{"env_steps": 9, "set": {"discount": 2}}], "actor.curriculum[0].set.discount = 2: expected a number, >= 0.0"),
        (
            [{"env_steps": 9, "set": {"clip": 0.1}}, {"env_steps": 9, "set": {"clip": 0.2}}],
            "actor.curriculum[1].env_steps = 9: must be above 9, the stage before",
        ),
        ([{"env_steps": 0, "set": {"clip": 0.1}}], "expected a list, each a table of env_steps and set"),
        ([{"env_steps": 9, "set": {}}], "expected a list, each a table of env_steps and set"),
        ([{"env_steps": 9, "sets": {"clip": 0.1}}], "expected a list, each a table of env_steps and set"),
        ([{"env_steps": 9, "set": {"passes": 3}}], "actor.curriculum[0].set.passes = 3: must be 1 with actor.loss"),
    ],
)
def test_a_stage_that_cannot_be_is_named(entries: list[dict[str, Any]], named: str) -> None:
    with pytest.raises(SettingError, match=re.escape(named)):
        read(curriculum=entries, **({"loss": "a3c"} if "passes" in named else {}))


def test_all_that_may_change_is_a_setting_and_none_that_a_run_keeps() -> None:
    assert {*CHANGEABLE} <= {*DEFAULTS}
    assert {*DEFAULTS} >= KEPT
    assert not KEPT & {*CHANGEABLE}


@pytest.mark.parametrize("vectorization", ["envpool", "vector_entry_point"])
def test_no_wrapper_goes_around_vectors(vectorization: str) -> None:
    with pytest.raises(SettingError, match=r"no wrapper goes around; beside .* auto, sync or processes"):
        read(wrappers=["a:B"], vectorization=vectorization)


def test_wrappers_are_names_or_tables() -> None:
    settings = read(wrappers=["a:B", {"wrapper": "c:D", "options": {"n": 1}}])
    assert settings.wrappers == ("a:B", Wrapper("c:D", {"n": 1}))
    with pytest.raises(SettingError, match="expected a list, each text or a table of wrapper and options"):
        read(wrappers=[{"name": "a:B"}])
