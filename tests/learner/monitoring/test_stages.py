"""Each stage is told once, by the life in which it begins."""

from __future__ import annotations

from learner.config import Experiment
from learner.monitoring.stages import StageTeller

TOLD = [{"env_steps": 100, "set": {"discount": 0.9}}, {"env_steps": 200, "set": {"env_options": {"n": 1}}}]
EXPERIMENT = Experiment(actor={"curriculum": TOLD})
FIRST = {"stage": 1, "from_env_steps": 100, "set": {"discount": 0.9}}
SECOND = {"stage": 2, "from_env_steps": 200, "set": {"env_options": {"n": 1}}}


def test_each_stage_is_told_once() -> None:
    teller = StageTeller(EXPERIMENT, 0)
    asked = [teller.passed(env_steps) for env_steps in (0, 99, 100, 101, 250, 300)]
    assert asked == [[], [], [FIRST], [], [SECOND], []]


def test_stages_may_be_passed_at_once() -> None:
    assert StageTeller(EXPERIMENT, 0).passed(1000) == [FIRST, SECOND]


def test_what_earlier_lives_have_told_is_not_told_again() -> None:
    assert StageTeller(EXPERIMENT, 100).passed(1000) == [SECOND]
    assert StageTeller(Experiment(), 0).passed(1000) == []
