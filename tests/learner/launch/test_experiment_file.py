"""Where settings come from: which source wins, and what each may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from learner.config import SGD, Adam, Median, NoRule, Preconditioned, Scale, learner_settings
from learner.launch.experiment_file import load, origin_of
from learner.launch.toml import dumps
from protocol.annealing import Constant, Cosine, Piecewise
from protocol.errors import SettingError, UserError
from protocol.settings import flat


def written(folder: Path, text: str) -> Path:
    path = folder / "experiment.toml"
    path.write_text(text)
    return path


def error_of(folder: Path, text: str = "", overrides: tuple[str, ...] = (), **environ: str) -> SettingError:
    with pytest.raises(SettingError) as caught:
        load(written(folder, text), overrides, environ)
    return caught.value


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
    found = (resolved.actor if table == "actor" else flat(getattr(resolved, table)))[name]
    assert found == value
    assert type(found) is type(value)


def test_only_the_actor_table_nests() -> None:
    environ = {"FARFLUNG_ACTOR__ENV_OPTIONS__GRAVITY": "-3.0"}
    found = load(None, ["actor.env_options.wind=true"], environ)
    assert found.actor == {"defaults": 3, "env_options": {"gravity": -3.0, "wind": True}}
    with pytest.raises(SettingError, match=r"learner\.credit\.x"):
        load(None, ["learner.credit.x=1"], {})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learner.credit", "an override is written table.key=value"),
        ("credit=1", "did you mean learner.credit?"),
        ("learner=1", "name one key"),
        ("learner.=1", "written table.key"),
        ("learner.credit=many", "learner.credit = 'many': expected a whole number"),
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


MINE = """
[run]
until_return = 18
until_steps = 900
[actor]
env = "ALE/Pong-v5"
env_options = { repeat_action_probability = 0.0 }
normalize_returns = false
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
    assert ("env_options" in experiment.actor) == ("normalize_returns" in experiment.actor) == env.startswith("ALE/")
    assert (experiment.run.until_steps, experiment.actor["discount"], experiment.actor["env"]) == (900, 0.9, env)


def test_what_is_asked_for_by_itself_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(MINE)
    experiment = load(file, ["run.until_return=5", "actor.env=Acrobot-v1", "actor.reward_scale=0.5"], {})
    assert (experiment.run.until_return, experiment.actor["reward_scale"]) == (5, 0.5)


def test_a_later_choice_leaves_out_what_the_file_said_beside_another(tmp_path: Path) -> None:
    file, told = tmp_path / "a.toml", list[str]()
    file.write_text("[learner]\noptimizer = 'adam'\nbeta1 = 0.5\nbeta2 = 0.999\nepsilon = 1e-3\nanneal_steps = 7\n")
    found = load(file, ["learner.optimizer=rmsprop", "learner.anneal=none"], {}, told.append).learner
    assert told == [
        "learner.optimizer = 'rmsprop' does not read learner.beta1 = 0.5: left out",
        "learner.anneal = 'none' does not read learner.anneal_steps = 7: left out",
    ]
    assert found == learner_settings({"optimizer": "rmsprop", "epsilon": 1e-3, "anneal": "none"})
    assert load(file, ["learner.optimizer=adam"], {}, told.append).learner.optimizer == Adam(beta1=0.5, epsilon=1e-3)
    assert len(told) == 2


POINTS = "learner.anneal_points=[[0,1],[5,0.5]]"
FALLS = "[learner]\nanneal = 'cosine'\nanneal_steps = 7\nanneal_floor = 0.05\n"


@pytest.mark.parametrize("kept", [False, True])
def test_points_mean_that_the_rate_goes_through_them(tmp_path: Path, kept: bool) -> None:
    """Nobody can leave out what a file says that is not theirs."""
    told: list[str] = []
    through = Piecewise(anneal_points=((0, 1.0), (5, 0.5)))
    file = written(tmp_path, FALLS)
    assert load(file, [POINTS], {}, told.append, kept=kept).learner.anneal == through
    what = "learner.anneal_floor = 0.05, learner.anneal_steps = 7"
    assert told == [f"learner.anneal = 'piecewise' does not read {what}: left out"]
    assert load(file, [], {"FARFLUNG_LEARNER__ANNEAL_POINTS": "[[0,1],[5,0.5]]"}, kept=kept).learner.anneal == through
    with pytest.raises(SettingError, match="reads it, and it is 'linear'"):
        load(file, [POINTS, "learner.anneal=linear"], {}, kept=kept)


def test_who_said_a_refused_setting(tmp_path: Path) -> None:
    file = written(tmp_path, "[learner]\ncredit = 3\n[actor]\nenv_options = { wind = 1 }\n")

    def of(refusal: str, *overrides: str, **environ: str) -> str | None:
        return origin_of(refusal, file, overrides, environ)

    assert of("learner.credit = 3: no") == of("local-3: learner.credit = 3: no") == "learner.credit"
    assert of("actor.env_options.wind = 1: no") == "actor.env_options"
    assert of("learner.most_credit = 3: no") is None
    assert of("learner.credit = 3: no", "learner.credit=3") is None
    assert of("learner.credit = 3: no", FARFLUNG_LEARNER__CREDIT="3") is None
    assert of("checkpoint learner.credit = 3") is None


def test_what_is_said_with_a_choice_is_held_against_it(tmp_path: Path) -> None:
    said = "learner.beta1 = 0.5: only learner.optimizer = 'adam' or 'adamw' or 'lion' reads it, and it is 'sgd'"
    overrides = ("learner.beta1=0.5", "learner.optimizer=sgd")
    assert said in str(error_of(tmp_path, "", overrides))
    assert said in str(error_of(tmp_path, "", overrides[::-1]))
    assert said in str(error_of(tmp_path, "[learner]\noptimizer = 'sgd'", ("learner.beta1=0.5",)))
    assert load(None, ["learner.optimizer=sgd"], {"FARFLUNG_LEARNER__BETA1": "0.5"}).learner.optimizer == SGD()


KEPT = """
[learner]
optimizer = "addition"
beta1 = 0.9
epsilon = 1e-05
staleness_rule = "accept"
full_lag_updates = 16
anneal = "none"
anneal_steps = 5
"""


def test_what_an_earlier_version_kept_goes_on(tmp_path: Path) -> None:
    experiment = load(written(tmp_path, KEPT), [], {}, kept=True)
    found = experiment.learner
    assert (found.optimizer, found.staleness_rule, found.anneal) == (Preconditioned(), NoRule(), Constant())
    assert "defaults" not in experiment.actor, "what it left unsaid means what it meant"
    assert load(written(tmp_path, dumps(experiment)), [], {}, kept=True) == experiment
    assert "'addition': this is called 'preconditioned' now" in str(error_of(tmp_path, KEPT))


def test_what_is_asked_of_a_kept_experiment_is_held_to_the_names_of_today(tmp_path: Path) -> None:
    for override in ("learner.optimizer=addition", "learner.staleness_rule=accept"):
        with pytest.raises(SettingError, match="is called"):
            load(written(tmp_path, KEPT), [override], {}, kept=True)
    with pytest.raises(SettingError, match=r"only learner\.optimizer = 'adam' or 'adamw' or 'lion' reads it"):
        load(written(tmp_path, KEPT), ["learner.beta1=0.5"], {}, kept=True)
    again = load(written(tmp_path, KEPT), ["learner.staleness_rule=scale", "learner.full_lag_updates=3"], {}, kept=True)
    assert again.learner.staleness_rule == Scale(full_lag_updates=3)
    with pytest.raises(SettingError, match="'addition': this is called 'preconditioned' now"):
        load(None, [], {"FARFLUNG_LEARNER__OPTIMIZER": "addition"})


def test_an_aggregation_is_all_that_a_person_says(tmp_path: Path) -> None:
    found = load(written(tmp_path, ""), ["learner.aggregation=median"], {})
    assert (found.learner.aggregation, found.learner.staleness_rule) == (Median(), NoRule())
    assert load(written(tmp_path, dumps(found)), [], {}) == found


@pytest.mark.parametrize(
    ("begun_with", "asked", "rule"),
    [
        ([], "median", "none"),
        (["learner.aggregation=median"], "none", "compensate"),
        (["learner.staleness_rule=gap"], "none", "gap"),
    ],
)
def test_a_kept_run_follows_another_aggregation_with_the_rule_that_goes_with_it(
    tmp_path: Path, begun_with: list[str], asked: str, rule: str
) -> None:
    begun = load(None, begun_with, {})
    path = written(tmp_path, dumps(begun))
    assert load(path, [f"learner.aggregation={asked}"], {}, kept=True).learner.staleness_rule.name == rule


def test_a_setting_of_a_rule_that_an_aggregation_rules_out_names_the_aggregation() -> None:
    with pytest.raises(SettingError, match=r"learner.compensation = 3.*learner.aggregation = 'mean' rules them out"):
        load(None, ["learner.compensation=3", "learner.aggregation=mean"], {})


def test_a_run_that_goes_on_keeps_the_edition_that_it_began_with(tmp_path: Path) -> None:
    """Its table stays the same to the byte, and what a file leaves out of [learner] means what it meant."""
    file = written(tmp_path, "[run]\nuntil_steps = 9\n[actor]\nenv = 'Mine-v0'\n")
    found = load(file, [], {}, edition=1)
    assert found.actor == {"env": "Mine-v0"}
    assert (found.learner.learning_rate, found.learner.annealing) == (2e-3, (300_000, 0.05))
    assert load(file, ["actor.defaults=1"], {}) == found, "so may a new one"
    assert load(file, ["learner.anneal=none"], {}, edition=1).learner.annealing == (0, 1.0)
    assert load(file, ["learner.anneal_steps=7"], {}, edition=1).learner.annealing == (7, 0.05)
    assert load(file, [], {}).actor == {"defaults": 3, "env": "Mine-v0"}
    points = written(tmp_path, "[learner]\nanneal_points = [[0, 0.5]]\n")
    assert load(points, [], {}, edition=1).learner.anneal == Piecewise(anneal_points=((0, 0.5),))


@pytest.mark.parametrize(
    ("overrides", "annealing"),
    [
        ([], (9, 0.2)),
        (["run.until_steps=90"], (90, 0.2)),
        (["run.until_steps=90", "learner.anneal_steps=9"], (9, 0.2)),
        (["run.until_steps=90", "learner.anneal=none"], (0, 1.0)),
    ],
)
def test_a_run_that_is_to_go_further_has_a_rate_that_does(
    tmp_path: Path, overrides: list[str], annealing: tuple[int, float]
) -> None:
    kept = dumps(load(written(tmp_path, "[run]\nuntil_steps = 9\n"), [], {}))
    assert load(written(tmp_path, kept), overrides, {}, kept=True).learner.annealing == annealing


def test_a_cosine_goes_as_far_as_the_run_too(tmp_path: Path) -> None:
    kept = dumps(load(written(tmp_path, "[run]\nuntil_steps = 9\n[learner]\nanneal = 'cosine'\n"), [], {}))
    assert load(written(tmp_path, kept), ["run.until_steps=90"], {}, kept=True).learner.anneal == Cosine(
        anneal_steps=90
    )


def test_points_may_come_with_an_override(tmp_path: Path) -> None:
    found = load(written(tmp_path, ""), ["learner.anneal_points=[[0,1],[1e5,0.5]]"], {})
    assert found.learner.anneal == Piecewise(anneal_points=((0, 1.0), (100_000, 0.5)))


def test_what_was_annealed_in_other_steps_than_the_run_has_stays(tmp_path: Path) -> None:
    kept = dumps(load(written(tmp_path, "[run]\nuntil_steps = 9\n[learner]\nanneal_steps = 5\n"), [], {}))
    assert load(written(tmp_path, kept), ["run.until_steps=90"], {}, kept=True).learner.annealing == (5, 0.2)
