"""The tables of an experiment: what they take, and what is said of what does not go together."""

from __future__ import annotations

import itertools
import tomllib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.config import (
    NORM_FACTOR,
    TABLE_NAMES,
    Adam,
    AdamW,
    Experiment,
    Gap,
    Journaled,
    LearnerSettings,
    Lion,
    Median,
    NoRule,
    PaperRMSProp,
    Preconditioned,
    RunSettings,
    actor_table,
    experiment,
    learner_settings,
    optimizer_settings,
    stages,
    tasks,
    with_optimizer,
)
from learner.launch.toml import dumps
from protocol.errors import SettingError
from protocol.settings import choices, flat, flat_defaults, unread


def read(text: str) -> Experiment:
    return experiment({name: {} for name in TABLE_NAMES} | tomllib.loads(text))


def error_of(text: str) -> str:
    with pytest.raises(SettingError) as caught:
        read(text)
    return str(caught.value)


def test_nothing_said_is_the_defaults() -> None:
    assert read("") == Experiment() == Experiment(run=RunSettings(), learner=LearnerSettings(), actor={})


@pytest.mark.parametrize(
    ("given", "factor"),
    [({}, NORM_FACTOR), ({"optimizer": "adam"}, None), ({"norm_factor": "none"}, None), ({"norm_factor": 20}, 20.0)],
)
def test_norms_are_compared_by_default_where_they_have_a_usual_size(
    given: dict[str, Any], factor: float | None
) -> None:
    assert learner_settings(given).most_norm_factor == factor


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[learner]\ncredti = 2", "learner.credti = 2: there is no such setting; did you mean learner.credit?"),
        ("[learner]\nenvs = 2", "learner.envs = 2: there is no such setting; did you mean actor.envs?"),
        ("[learner]\nlr = 1", "learner.lr = 1: there is no such setting; did you mean learner.learning_rate?"),
        ("[learner]\ncredit = 0", "learner.credit = 0: expected a whole number, >= 1, <= 65536"),
        ("[learner]\ncredit = 2.5", "learner.credit = 2.5: expected a whole number"),
        ("[learner]\ncredit = true", "learner.credit = true: expected a whole number"),
        ("[learner]\ncredit = 99999999999999999999999", "a whole number"),
        ("[learner]\nlearning_rate = nan", "learner.learning_rate = nan: expected a number, > 0.0, <= 100.0"),
        ("[learner]\nlearning_rate = '1'", "learner.learning_rate = '1': expected a number, > 0.0, <= 100.0; did you"),
        (
            "[learner]\noptimizer = 'sophia'",
            "'sophia': expected one of preconditioned, adam, adamw, lion, rmsprop, rmspr",
        ),
        ("[learner]\noptimizer = 'AdamW'", "sgd; did you mean 'adamw'?"),
        ("[learner]\nweight_decay = 0.1", "only learner.optimizer = 'adamw' or 'lion' reads it, and it is 'precondit"),
        ("[learner]\nanneal = 'cosin'", "expected one of linear, cosine, piecewise, none; did you mean 'cosine'?"),
        ("[learner]\nanneal = 'piecewise'", "learner.anneal_points = []: learner.anneal = 'piecewise' needs some: [["),
        ("[learner]\nanneal_points = []", "learner.anneal_points = []: learner.anneal = 'piecewise' needs some"),
        (
            "[learner]\nanneal_points = [[0, 1], [5, 0.5], [5, 0.1]]",
            "learner.anneal_points = [[0, 1.0], [5, 0.5], [5, 0.1]]: environment steps have to ascend, and 5 comes beh",
        ),
        (
            "[learner]\nanneal_points = [[0, -0.5]]",
            "learner.anneal_points = [[0, -0.5]]: expected a list, each [a whole number, >= 0, < 9007199254740992; a",
        ),
        ("[learner]\nanneal_points = [[0, 1.5]]", "= [[0, 1.5]]: expected a list, each [a whole number, >= 0"),
        ("[learner]\nanneal_points = [[0.5, 1.0]]", "= [[0.5, 1.0]]: expected a list"),
        ("[learner]\nanneal_points = [0, 1.0]", "= [0, 1.0]: expected a list, each ["),
        ("[learner]\nanneal_points = [[0, 1.0, 2]]", "= [[0, 1.0, 2]]: expected a list, each ["),
        ("[learner]\nanneal_points = 0.5", "= 0.5: expected a list, each ["),
        (
            "[learner]\nanneal = 'cosine'\nanneal_points = [[0, 1]]",
            "only learner.anneal = 'piecewise' reads it, and it is",
        ),
        ("[learner]\nanneal = 'piecewise'\nanneal_floor = 0.5", "only learner.anneal = 'linear' or 'cosine' reads it"),
        ("[learner]\noptimizer = 'Adam'", "sgd; did you mean 'adam'?"),
        ("[learner]\noptimizer = 1", "learner.optimizer = 1: expected one of preconditioned"),
        ("[learner]\noptimizer = 'addition'", "learner.optimizer = 'addition': this is called 'preconditioned' now"),
        ("[learner]\nstaleness_rule = 'accept'", "learner.staleness_rule = 'accept': this is called 'none' now"),
        ("[learner]\nmax_gradient_norm = -1", "= -1: expected a number, > 0.0, <= 1000000000000000.0, or left out"),
        ("[learner]\nnorm_factor = 1", "learner.norm_factor = 1: expected a number, >= 2.0"),
        ("[learner]\nnorm_factor = 1", "or one of auto, none"),
        ("[learner]\ntarget_interval_steps = 0", "learner.target_interval_steps = 0: expected a whole number, >= 1"),
        ("[learner]\naggregation = 'krum'", "'krum': expected one of none, mean, trimmed_mean, median"),
        ("[learner]\naggregate_trim = 0.5", "learner.aggregate_trim = 0.5: expected a number, >= 0.0, < 0.5"),
        ("[run]\nname = 'a/b'", "run.name = 'a/b': expected text, at most 64 characters, matching"),
        ("[run]\nseed = []", "run.seed = []: expected a whole number"),
        ("[actor]\nborn = 1979-05-27", "actor.born = '1979-05-27': text, numbers"),
        ("[actor.a]\nb = [{ c = 07:32:00 }]", "actor.a.b.c = '07:32:00'"),
        ("[actor]\nbig = 99999999999999999999999", "actor = '...': 64-bit integers"),
    ],
)
def test_an_error_names_key_value_and_what_is_accepted(text: str, message: str) -> None:
    assert message in error_of(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "beta1 = 0.5",
            (
                "learner.beta1 = 0.5: only learner.optimizer = 'adam' or 'adamw' or 'lion' reads it, and it is "
                "'preconditioned', its default; leave it out, or change that; did you mean actor.beta1?"
            ),
        ),
        (
            "rho = 0.9\noptimizer = 'sgd'",
            "learner.rho = 0.9: only learner.optimizer = 'rmsprop' or 'rmsprop_paper' reads it, and it is 'sgd'; leave",
        ),
        (
            "aggregation = 'median'\nstaleness_rule = 'gap'",
            (
                "learner.staleness_rule = 'gap': cannot stand beside learner.aggregation = 'median': a step of many "
                "gradients has no one age; write 'none', or leave it out"
            ),
        ),
        (
            "durability = 'journal'\nstaleness_rule = 'gap'\noptimizer = 'adam'",
            (
                "learner.staleness_rule = 'gap': cannot stand beside learner.durability = 'journal' and "
                "learner.optimizer = 'adam': it changes the steps of an optimizer, and a journal"
            ),
        ),
        ("silence_s = 1.0", "learner.silence_s = 1.0: must be above learner.heartbeat_s = 1.0, its default; set"),
        ("heartbeat_s = 20", "learner.heartbeat_s = 20.0: must be below learner.silence_s = 10.0, its default; set"),
        (
            "staleness_rule = 'scale'\nfull_lag_updates = 9\nmax_lag_updates = 8",
            "learner.full_lag_updates = 9: must be at most learner.max_lag_updates = 8",
        ),
        (
            "staleness_rule = 'scale'\nmax_lag_updates = 8",
            "learner.max_lag_updates = 8: must be at least learner.full_lag_updates = 16, its default; set",
        ),
        (
            "aggregation = 'median'\naggregate_window = 2",
            "learner.aggregate_window = 2: must be at least learner.aggregate_least = 3, its default",
        ),
        ("max_actors = 1", "learner.max_actors = 1: must be at least run.actors = 2, its default; set run.actors, too"),
    ],
)
def test_a_disagreement_names_both_and_blames_no_default(text: str, message: str) -> None:
    assert message in error_of(f"[learner]\n{text}")


def test_local_actors_are_blamed_where_a_person_set_them() -> None:
    said = "run.actors = 3: must be at most learner.max_actors = 2"
    assert error_of("[run]\nactors = 3\n[learner]\nmax_actors = 2") == said


CHOOSING = [name for name in LearnerSettings.__struct_fields__ if choices(LearnerSettings, name)]
OTHER_VALUES: dict[str, Any] = {
    "momentum": 0.5,
    "on_journal_failure": "continue",
    "max_gradient_norm": 0.5,
    "aggregate_least": 2,
    "anneal_points": [[0, 0.5]],
}
NEEDED: dict[str, dict[str, Any]] = {"piecewise": {"anneal_points": [[0, 1.0]]}}  # by values of choices
UNREAD = [
    (name, value, other)
    for name in CHOOSING
    for value in choices(LearnerSettings, name)
    for other in sorted(unread(LearnerSettings, name, value))
]


@pytest.mark.parametrize(("name", "value", "other"), UNREAD)
def test_what_a_choice_does_not_read_is_refused_unless_it_asks_for_nothing(name: str, value: str, other: str) -> None:
    usual = flat_defaults(LearnerSettings)[other]
    changed = OTHER_VALUES[other] if other in OTHER_VALUES else usual + (1 if isinstance(usual, int) else usual / 1e3)
    chosen = {name: value, **NEEDED.get(value, {})}
    said = rf"learner\.{other} = .*: only learner\.{name} = .* reads it, and it is '{value}'"
    with pytest.raises(SettingError, match=said):
        learner_settings({**chosen, other: changed})
    kept = learner_settings({**chosen, other: changed}, kept=True)
    assert learner_settings({**chosen, other: usual}) == kept == learner_settings(chosen)
    assert other not in flat(kept)


def refusal(given: dict[str, Any]) -> str | None:
    try:
        learner_settings(given)
    except SettingError as error:
        return str(error)
    return None


def test_every_combination_of_choices_is_read_back_or_refused_by_name() -> None:
    for values in itertools.product(*(choices(LearnerSettings, name) for name in CHOOSING)):
        chosen = dict(zip(CHOOSING, values, strict=True))
        given = {**chosen, **{name: each for value in values for name, each in NEEDED.get(value, {}).items()}}
        if (refused := refusal(given)) is None:
            made = learner_settings(given)
            assert {name: flat(made)[name] for name in CHOOSING} == chosen
            assert learner_settings(flat(made)) == made
        else:
            assert refused.startswith(f"learner.staleness_rule = {given['staleness_rule']!r}: cannot stand beside")


def test_an_aggregation_alone_leaves_age_alone() -> None:
    assert learner_settings({"aggregation": "median"}).staleness_rule == NoRule()
    with pytest.raises(SettingError, match="cannot stand beside"):
        LearnerSettings(aggregation=Median())


def test_a_group_of_which_some_may_be_hostile_has_three() -> None:
    groups = [learner_settings({"aggregation": name}).group for name in ("none", "mean", "trimmed_mean", "median")]
    assert [group and group.least_senders for group in groups] == [None, 1, 3, 3]


def test_the_journal_is_told_what_it_always_was() -> None:
    """The head of a segment is compared and read by every version: names and values stay."""
    usual = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-5, "rho": 0.99, "momentum": 0.0, "max_gradient_norm": None}
    told = optimizer_settings(LearnerSettings())
    assert list(told.items()) == [("optimizer", "addition"), *usual.items()]
    adam = LearnerSettings(optimizer=Adam(beta1=0.5, max_gradient_norm=1.0))
    assert optimizer_settings(adam) == {**usual, "optimizer": "adam", "beta1": 0.5, "max_gradient_norm": 1.0}
    assert optimizer_settings(LearnerSettings(optimizer=AdamW())) == {
        **usual,
        "optimizer": "adamw",
        "weight_decay": 0.01,
    }
    assert optimizer_settings(LearnerSettings(optimizer=Lion()))["beta2"] == 0.99


OPTIMIZERS = [
    Preconditioned(),
    Adam(beta2=0.9),
    AdamW(weight_decay=0.5),
    Lion(),
    Lion(beta2=0.5, weight_decay=0.0),
    PaperRMSProp(rho=0.5, max_gradient_norm=2.0),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_the_journal_was_told_makes_the_optimizer_again(optimizer: Any) -> None:
    told = optimizer_settings(LearnerSettings(optimizer=optimizer))
    now = LearnerSettings(durability=Journaled(), staleness_rule=Gap())  # what a new experiment could not say beside it
    assert with_optimizer(now, told) == msgspec.structs.replace(now, optimizer=optimizer)
    with pytest.raises(SettingError, match=r"learner\.damping"):
        with_optimizer(now, {**told, "damping": 1})


def test_of_the_actor_s_table_the_stages_are_looked_at() -> None:
    told = [
        {"env_steps": 100, "set": {"discount": 0.9}},
        {"env_steps": 3e2, "set": {"env_options": {"n": 1}}},
        {"env_steps": 400, "set": {"wrappers": []}},
    ]
    made = Experiment(actor={"curriculum": told})
    assert stages(made) == [(100, told[0]["set"]), (300, told[1]["set"]), (400, told[2]["set"])]
    assert tasks(made) == (300, 400)
    for unchecked in (None, 3, ["x"], [{"env_steps": "x", "set": {}}], [{"set": 3, "env_steps": 1}]):
        assert stages(Experiment(actor={"curriculum": unchecked})) == []
    assert tasks(Experiment()) == ()


def test_the_actor_table_is_canonical_and_bounded() -> None:
    one = Experiment(actor={"b": 1, "a": {"z": 1, "y": [2.0]}})
    other = Experiment(actor={"a": {"y": [2.0], "z": 1}, "b": 1})
    assert actor_table(one) == actor_table(other)
    assert msgspec.msgpack.decode(actor_table(one)) == one.actor
    with pytest.raises(SettingError, match="at most 65536 bytes"):
        actor_table(Experiment(actor={"a": "x" * 65_536}))


def test_the_quantity_follows_from_the_optimizer() -> None:
    assert LearnerSettings().quantity == "update"
    assert learner_settings({"optimizer": "adam"}).quantity == "gradient"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
LEAF = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
PLAIN = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


@given(
    st.dictionaries(TEXT, PLAIN, max_size=4),
    st.floats(0, 100, exclude_min=True),
    st.none() | st.floats(-1e15, 1e15),
    st.sampled_from(["adam", "preconditioned", "sgd"]),
)
def test_what_is_written_is_read_back(actor: dict[str, Any], rate: float, until: float | None, name: str) -> None:
    learner = learner_settings({"learning_rate": rate, "optimizer": name})
    made = Experiment(run=RunSettings(until_return=until, name="a.b-c"), learner=learner, actor=actor)
    again = read(dumps(made))
    assert again == made
    assert actor_table(again) == actor_table(made)


@pytest.mark.parametrize(
    ("text", "annealing"),
    [
        ("", (0, 1.0)),
        ("[run]\nuntil_steps = 500", (500, 0.2)),
        ("[run]\nuntil_steps = 500\n[learner]\nanneal = 'none'", (0, 1.0)),
        ("[run]\nuntil_steps = 500\n[learner]\nanneal_steps = 70", (70, 0.2)),
        ("[run]\nuntil_steps = 500\n[learner]\nanneal_floor = 0.1", (500, 0.1)),
        ("[learner]\nanneal_floor = 0.1", (300_000, 0.1)),
        ("[learner]\nanneal = 'linear'", (300_000, 0.2)),
        ("[run]\nuntil_steps = 500\n[learner]\nanneal = 'cosine'", (500, 0.2)),
        ("[learner]\nanneal = 'cosine'\nanneal_steps = 70", (70, 0.2)),
        ("[run]\nuntil_steps = 500\n[learner]\nanneal_points = [[0, 1], [1e2, 0.5]]", (100, 0.5)),
        ("[learner]\nanneal = 'piecewise'\nanneal_points = [[0, 0.5]]", (1, 0.5)),
    ],
)
def test_the_rate_falls_for_as_long_as_the_run_goes_unless_somebody_says_otherwise(
    text: str, annealing: tuple[int, float]
) -> None:
    assert read(text).learner.annealing == annealing
    assert read(dumps(read(text))).learner == read(text).learner, "as a run keeps it"
