"""Flat tables as structs, in a world of two settings: what is read, kept, suggested and said."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from msgspec import Meta

from protocol.errors import SettingError
from protocol.setting_names import ALIASES, TABLES, suggest
from protocol.settings import Choice, accepted, convert, flat, flat_defaults, flat_types, near, read


class Foot(Choice, frozen=True, tag="foot"):
    """Slow."""

    formerly: ClassVar[str] = "walk"


class Horse(Choice, frozen=True, tag="horse"):
    """Fast."""

    oats: int = 2
    saddle: Literal["none", "western"] = "none"


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """Not a setting of ours."""

    by: Foot | Horse = Foot()
    days: Annotated[int, Meta(ge=1, le=9)] = 1
    stops: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    toll: float | Literal["auto"] | None = None


@pytest.mark.parametrize(
    ("table", "trip"),
    [
        ({}, Trip()),
        ({"days": 3.0, "stops": [1, 2]}, Trip(days=3, stops=(1, 2))),
        ({"by": "horse", "oats": 5}, Trip(by=Horse(oats=5))),
        ({"by": "foot", "oats": 2}, Trip()),
        ({"toll": None}, Trip()),
    ],
)
def test_a_flat_table_is_read_and_written(table: dict[str, Any], trip: Trip) -> None:
    assert read("trip", Trip, table) == trip == read("trip", Trip, flat(trip))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"oats": 3},
            "trip.oats = 3: only trip.by = 'horse' reads it, and it is 'foot', its default; leave it out, or",
        ),
        (
            {"oats": 3, "by": "foot"},
            "trip.oats = 3: only trip.by = 'horse' reads it, and it is 'foot'; leave it out, or",
        ),
        ({"by": "walk"}, "trip.by = 'walk': this is called 'foot' now"),
        ({"by": "Horses"}, "trip.by = 'Horses': expected one of foot, horse; did you mean 'horse'?"),
        (
            {"by": "horse", "saddle": "west"},
            "trip.saddle = 'west': expected one of none, western; did you mean 'western'?",
        ),
        ({"days": "3"}, "trip.days = '3': expected a whole number, >= 1, <= 9; did you mean 3?"),
        ({"days": True}, "trip.days = true: expected a whole number, >= 1, <= 9"),
        ({"days": 1e99}, "trip.days = "),
        ({"stops": 4}, "trip.stops = 4: expected a list, each a whole number, >= 0; did you mean [4]?"),
        ({"stops": "4, 5"}, "did you mean [4, 5]?"),
        ({"toll": "much"}, "trip.toll = 'much': expected a number or 'auto', or left out"),
        ({"moon": 1}, "trip.moon = 1: there is no such setting"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(table: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        read("trip", Trip, table)
    assert str(caught.value).startswith(message) or message in str(caught.value)


def test_of_a_kept_table_old_names_and_what_is_not_read_are_taken() -> None:
    assert read("trip", Trip, {"by": "walk", "oats": 7}, kept=True) == Trip()
    with pytest.raises(SettingError, match=r"trip\.moon"):
        read("trip", Trip, {"moon": 1}, kept=True)


def test_flat_names_types_and_defaults() -> None:
    assert list(flat_types(Trip)) == ["by", "oats", "saddle", "days", "stops", "toll"]
    assert flat_types(Trip)["by"] == Literal["foot", "horse"]
    assert flat_defaults(Trip) == {"by": "foot", "oats": 2, "saddle": "none", "days": 1, "stops": (), "toll": None}


def test_words_for_what_a_field_takes() -> None:
    few = Annotated[tuple[float, ...], Meta(min_length=1, max_length=3)]
    assert accepted(few) == "a list, each a number, at least 1 of them, at most 3 of them"
    assert accepted(Annotated[str, Meta(max_length=3)]) == "text, at most 3 characters"
    assert accepted(dict[str, object]) == "a table"
    assert convert("k", [1], few) == (1.0,)


def test_the_word_that_is_meant() -> None:
    assert near("topk", ["auto", "topk_i8", "topk_f16"]) == "topk_i8"
    assert near("Top-K-I8", ["topk", "top_k_i8"]) == "top_k_i8"
    assert near("zzz", ["auto"]) is None


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("learner.lr", "learner.learning_rate"),
        ("actor.lr", "learner.learning_rate"),
        ("actor.lerning_rate", "learner.learning_rate"),
        ("actor.gamma", "actor.discount"),
        ("actor.n_envs", "actor.envs"),
        ("run.num-envs", "actor.envs"),
        ("learner.envs", "actor.envs"),
        ("actor.seed", "run.seed"),
        ("actor.total_timesteps", "run.until_steps"),
        ("actor.ent_coef", "actor.entropy_weight"),
        ("actor.batch_size", "actor.minibatches"),
        ("actor.hiden", "actor.hidden"),
        ("learner.beta_1", "learner.beta1"),
        ("actor.beta_1", "actor.beta1"),
        ("run.epsilon", "learner.epsilon"),
        ("lerner.credit", "learner.credit"),
        ("learner.credit.x", "learner.credit"),
        ("seed", "run.seed"),
        ("learner.xyzzy", None),
    ],
)
def test_what_a_wrong_name_means(key: str, meant: str | None) -> None:
    assert suggest(key) == meant


def test_an_alias_means_a_setting_and_is_none() -> None:
    for alias, key in ALIASES.items():
        table, _, name = key.partition(".")
        assert name in TABLES[table]
        assert not any(alias in names for names in TABLES.values())
