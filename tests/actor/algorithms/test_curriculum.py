"""Stages follow from the run's age alone."""

from __future__ import annotations

from actor.algorithms.curriculum import Curriculum, last
from actor.config import ActorSettings, Stage

STAGES = (Stage(100, {"discount": 0.9}), Stage(200, {"env_options": {"n": 3}}))
SETTINGS = ActorSettings(curriculum=STAGES, env_options={"n": 1})


def test_a_stage_holds_from_its_first_step_on() -> None:
    curriculum = Curriculum(SETTINGS)
    assert curriculum.follow(0) is None
    assert curriculum.follow(99) is None
    assert curriculum.settings == SETTINGS
    assert curriculum.follow(100) == {"stage": 1, "from_env_steps": 100, "set": {"discount": 0.9}}
    assert (curriculum.settings.discount, curriculum.settings.env_options) == (0.9, {"n": 1})
    assert curriculum.follow(199) is None
    assert curriculum.follow(10**9) == {"stage": 2, "from_env_steps": 200, "set": {"env_options": {"n": 3}}}
    assert (curriculum.settings.discount, curriculum.settings.env_options) == (0.9, {"n": 3})


def test_who_comes_late_or_goes_back_is_where_all_are() -> None:
    curriculum = Curriculum(SETTINGS)
    told = curriculum.follow(250)
    assert told is not None
    assert told["stage"] == 2
    assert curriculum.follow(50) == {"stage": 0, "from_env_steps": 0, "set": {}}
    assert curriculum.settings == SETTINGS


def test_a_policy_is_judged_by_the_last_stage() -> None:
    assert last(SETTINGS).env_options == {"n": 3}
    assert last(ActorSettings()) == ActorSettings()
