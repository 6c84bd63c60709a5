"""Settings: which source wins, what an error says, and that what is written is read back."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.config import NORM_FACTOR, Experiment, LearnerSettings, RunSettings, actor_table, load, named
from learner.launch.toml import dumps
from protocol.errors import SettingError, UserError


def written(folder: Path, text: str) -> Path:
    path = folder / "experiment.toml"
    path.write_text(text)
    return path


def error_of(folder: Path, text: str = "", overrides: tuple[str, ...] = (), **environ: str) -> SettingError:
    with pytest.raises(SettingError) as caught:
        load(written(folder, text), overrides, environ)
    return caught.value


def test_nothing_said_is_the_defaults() -> None:
    assert load(None, [], {}) == Experiment() == Experiment(run=RunSettings(), learner=LearnerSettings(), actor={})


def test_later_sources_win(tmp_path: Path) -> None:
    file = written(tmp_path, "[learner]\ncredit = 3\nlearning_rate = 1\n[run]\nseed = 3\nactors = 3\n")
    environ = {"FARFLUNG_RUN__SEED": "4", "FARFLUNG_RUN__ACTORS": "4", "HOME": "/", "FARFLUNG_OTHER": "x"}
    found = load(file, ["run.actors=5"], environ)
    assert (found.learner.credit, found.run.seed, found.run.actors) == (3, 4, 5)
    assert found.learner.learning_rate == 1.0


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("learner.optimizer=adam", "adam"),
        ('learner.optimizer="adam"', "adam"),
        ("learner.learning_rate = 3e-4", 3e-4),
        ("learner.credit=1_0", 10),
        ("learner.norm_factor=none", "none"),
        ("learner.norm_factor=20", 20.0),
        ("learner.anneal_steps=3e5", 300_000),
        ("run.name=007", "007"),
        ("run.name=true", "true"),
        ("run.name=", ""),
        ("run.until_return=475", 475.0),
        ("actor.env=CartPole-v1", "CartPole-v1"),
        ("actor.hidden=[32, 32]", [32, 32]),
        ("actor.env_options={ a = 1 }", {"a": 1}),
        ("actor.note=1\nb = 2", "1\nb = 2"),
        ("actor.empty=", ""),
    ],
)
def test_overrides_are_toml_values_or_bare_words(override: str, value: object) -> None:
    table, _, name = override.partition("=")[0].strip().partition(".")
    resolved = load(None, [override], {})
    found = resolved.actor[name] if table == "actor" else getattr(getattr(resolved, table), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "factor"),
    [
        ("learner.credit=2", NORM_FACTOR),
        ("learner.optimizer=adam", None),
        ("learner.norm_factor=none", None),
        ("learner.norm_factor=20", 20.0),
    ],
)
def test_norms_are_compared_by_default_where_they_have_a_usual_size(override: str, factor: float | None) -> None:
    assert load(None, [override], {}).learner.most_norm_factor == factor


def test_only_the_actor_table_nests() -> None:
    environ = {"FARFLUNG_ACTOR__ENV_OPTIONS__GRAVITY": "-3.0"}
    found = load(None, ["actor.env_options.wind=true"], environ)
    assert found.actor == {"env_options": {"gravity": -3.0, "wind": True}}
    with pytest.raises(SettingError, match=r"learner\.credit\.x"):
        load(None, ["learner.credit.x=1"], {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[learner]\ncredti = 2", "learner.credti = 2: there is no such setting; did you mean learner.credit?"),
        ("[learnr]\ncredit = 2", "learnr = '[...]': there is no such table; [run], [learner], [actor]; did you mean"),
        ("seed = 1", "seed = 1: every setting lies in a table: [run], [learner], [actor]; did you mean run.seed?"),
        ("[learner]\ncredit = 0", "learner.credit = 0: a whole number, >= 1, <= 65536"),
        ("[learner]\ncredit = 2.5", "learner.credit = 2.5: a whole number"),
        ("[learner]\ncredit = true", "learner.credit = True: a whole number"),
        ("[learner]\ncredit = 99999999999999999999999", "a whole number"),
        ("[learner]\nlearning_rate = nan", "learner.learning_rate = nan: a number, > 0.0, <= 100.0"),
        ("[learner]\nlearning_rate = '1'", "learner.learning_rate = '1': a number"),
        ("[learner]\noptimizer = 'lion'", "'lion': one of addition, adam, rmsprop, rmsprop_paper, sgd"),
        ("[learner]\noptimizer = 1", "learner.optimizer = 1: one of addition"),
        ("[learner]\nmax_gradient_norm = -1", "= -1: a number, > 0.0, <= 1000000000000000.0, or left out"),
        ("[learner]\nmax_gradient_norm = 1", "left out with learner.optimizer = addition"),
        ("[learner]\nbeta1 = 0.5", "beta1 = 0.5: left out with learner.optimizer = addition; used by adam"),
        ("[learner]\nbeta1 = 0.5", "(actor.beta1 is the actors')"),
        ("[learner]\nmomentum = 0.9\noptimizer = 'adam'", "left out with learner.optimizer = adam; used by sgd"),
        ("[learner]\nrho = 0.9\noptimizer = 'sgd'", "used by rmsprop and rmsprop_paper"),
        (
            "[learner]\ncompensation = 1\nstaleness_rule = 'accept'",
            "left out with learner.staleness_rule = accept; used by compensate",
        ),
        ("[learner]\nring_bytes = 9\nstaleness_rule = 'scale'", "used by gap and compensate"),
        ("[learner]\nstaleness_rule = 'gaps'", "one of accept, scale, gap, compensate"),
        ("[learner]\ntarget_interval_steps = 0", "learner.target_interval_steps = 0: a whole number, >= 1"),
        ("[learner]\nmax_actors = 1", "run.actors = 2: at most learner.max_actors = 1"),
        ("[learner]\nfull_lag_updates = 9", "left out with learner.staleness_rule = compensate; used by scale"),
        ("[learner]\nfull_lag_updates = 9\nstaleness_rule = 'gap'", "left out with learner.staleness_rule = gap"),
        (
            "[learner]\nfull_lag_updates = 9\nmax_lag_updates = 8\nstaleness_rule = 'scale'",
            "learner.full_lag_updates = 9: at most learner.max_lag_updates = 8",
        ),
        ("[learner]\naggregation = 'krum'", "'krum': one of none, mean, trimmed_mean, median"),
        (
            "[learner]\naggregation = 'median'",
            "staleness_rule = 'compensate': accept, with learner.aggregation = median",
        ),
        (
            "[learner]\naggregation = 'median'\nstaleness_rule = 'accept'\naggregate_trim = 0.1",
            "left out with learner.aggregation = median; used by trimmed_mean",
        ),
        ("[learner]\naggregate_wait_s = 2", "left out with learner.aggregation = none; used by mean and trimmed_mean"),
        ("[learner]\naggregate_trim = 0.5", "learner.aggregate_trim = 0.5: a number, >= 0.0, < 0.5"),
        ("[learner]\nnorm_factor = 1", "learner.norm_factor = 1: a number, >= 2.0"),
        ("[learner]\nquota_kbps = 0", "learner.quota_kbps = 0: a number, > 0.0"),
        ("[learner]\nsessions_per_key = 0", "learner.sessions_per_key = 0: a whole number, >= 1"),
        ("[learner]\nsilence_s = 1.0", "learner.silence_s = 1.0: above learner.heartbeat_s = 1.0"),
        ("[run]\nname = 'a/b'", "run.name = 'a/b': text, at most 64 characters, matching"),
        ("[run]\nseed = []", "run.seed = []: a whole number"),
        ("[actor]\nborn = 1979-05-27", "actor.born = '1979-05-27': text, numbers"),
        ("[actor.a]\nb = [{ c = 07:32:00 }]", "actor.a.b.c = '07:32:00'"),
        ("[actor]\nbig = 99999999999999999999999", "actor = '...': 64-bit integers"),
    ],
)
def test_an_error_names_key_value_and_what_is_accepted(tmp_path: Path, text: str, message: str) -> None:
    assert message in str(error_of(tmp_path, text))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learner.credit", "an override is written table.key=value"),
        ("credit=1", "did you mean learner.credit?"),
        ("learner=1", "name one key"),
        ("learner.=1", "written table.key"),
        ("learner.credit=many", "learner.credit = 'many': a whole number"),
        ("actor.env.x=1", "env is a single value"),
    ],
)
def test_an_override_is_held_to_the_same(tmp_path: Path, override: str, message: str) -> None:
    assert message in str(error_of(tmp_path, "[actor]\nenv = 'a'", (override,)))


def test_an_environment_variable_is_held_to_the_same(tmp_path: Path) -> None:
    assert "learner.credti" in str(error_of(tmp_path, FARFLUNG_LEARNER__CREDTI="1"))
    assert "did you mean" in str(error_of(tmp_path, FARFLUNG_LERNER__CREDIT="1"))
    assert "Unicode" in str(error_of(tmp_path, FARFLUNG_ACTOR__ENV="\udc80"))


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.toml: No such file"):
        load(tmp_path / "missing.toml", [], {})
    with pytest.raises(UserError, match=r"line 2"):
        load(written(tmp_path, "[run]\nseed = = 1\n"), [], {})
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"binary\.toml"):
        load(tmp_path / "binary.toml", [], {})


def test_the_actor_table_is_canonical_and_bounded() -> None:
    one = Experiment(actor={"b": 1, "a": {"z": 1, "y": [2.0]}})
    other = Experiment(actor={"a": {"y": [2.0], "z": 1}, "b": 1})
    assert actor_table(one) == actor_table(other)
    assert msgspec.msgpack.decode(actor_table(one)) == one.actor
    with pytest.raises(SettingError, match="at most 65536 bytes"):
        actor_table(Experiment(actor={"a": "x" * 65_536}))


def test_the_quantity_follows_from_the_optimizer() -> None:
    assert LearnerSettings().quantity == "update"
    assert LearnerSettings(optimizer="adam").quantity == "gradient"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
LEAF = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
PLAIN = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


@given(
    st.dictionaries(TEXT, PLAIN, max_size=4),
    st.floats(0, 100, exclude_min=True),
    st.none() | st.floats(-1e15, 1e15),
    st.sampled_from(["adam", "addition", "sgd"]),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, actor: dict[str, Any], rate: float, until: float | None, name: str
) -> None:
    learner = LearnerSettings(learning_rate=rate, optimizer=name)  # type: ignore[arg-type]
    experiment = Experiment(run=RunSettings(until_return=until, name="a.b-c"), learner=learner, actor=actor)
    path = tmp_path_factory.getbasetemp() / "written.toml"
    path.write_bytes(dumps(experiment).encode())
    again = load(path, [], {})
    assert again == experiment
    assert actor_table(again) == actor_table(experiment)


@pytest.mark.parametrize("rule", ["accept", "gap", "compensate"])
def test_a_bound_alone_is_enough_where_no_scale_is_read(tmp_path: Path, rule: str) -> None:
    """And what a run directory then holds, every default written out, is loaded again on --resume."""
    experiment = load(None, ["learner.max_lag_updates=8", f"learner.staleness_rule={rule}"], {})
    assert experiment.learner.max_lag_updates == 8
    assert load(written(tmp_path, dumps(experiment)), [], {}) == experiment


def test_scale_takes_the_setting_that_is_its_own(tmp_path: Path) -> None:
    experiment = load(None, ["learner.full_lag_updates=0", "learner.staleness_rule=scale"], {})
    assert experiment.learner.full_lag_updates == 0
    assert load(written(tmp_path, dumps(experiment)), [], {}) == experiment


def test_every_default_is_itself_accepted() -> None:
    assert tomllib.loads(dumps(Experiment()))["learner"]["credit"] == 2


def test_an_unknown_experiment_lists_those_that_exist() -> None:
    with pytest.raises(UserError, match="no experiment is named 'cartpoles'"):
        named("cartpoles")


def test_names_lead_to_shipped_files_only() -> None:
    for name in ("../deploy/experiments/cartpole", "/etc/passwd", ""):
        with pytest.raises(UserError):
            named(name)


MINE = """
[run]
until_return = 18
until_steps = 900
[actor]
env = "ALE/Pong-v5"
env_options = { repeat_action_probability = 0.0 }
reward_scale = 0.1
hidden_observations = [1]
discount = 0.9
"""


@pytest.mark.parametrize(
    ("env", "left"),
    [
        ("ALE/Pong-v5", []),
        ("ALE/Breakout-v5", ["run.until_return = 18", "actor.reward_scale = 0.1", "actor.hidden_observations = [1]"]),
        (
            "Acrobot-v1",
            ["run.until_return = 18", "actor.env_options = {'repeat_action_probability': 0.0}", "actor.reward_scale"],
        ),
    ],
)
@pytest.mark.parametrize("how", ["override", "environment"])
def test_what_was_chosen_for_one_environment_stays_with_it(tmp_path: Path, env: str, left: list[str], how: str) -> None:
    file, told = tmp_path / "a.toml", list[str]()
    file.write_text(MINE)
    overrides, environ = ([f"actor.env={env}"], {}) if how == "override" else ([], {"FARFLUNG_ACTOR__ENV": env})
    experiment = load(file, overrides, environ, told.append)
    assert len(told) == bool(left)
    assert all(part in told[0] for part in [env, "ALE/Pong-v5", *left] if left)
    assert experiment.run.until_return == (None if left else 18)
    assert ("env_options" in experiment.actor) == env.startswith("ALE/")
    assert (experiment.run.until_steps, experiment.actor["discount"], experiment.actor["env"]) == (900, 0.9, env)


def test_what_is_asked_for_by_itself_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(MINE)
    experiment = load(file, ["run.until_return=5", "actor.env=Acrobot-v1", "actor.reward_scale=0.5"], {})
    assert (experiment.run.until_return, experiment.actor["reward_scale"]) == (5, 0.5)
