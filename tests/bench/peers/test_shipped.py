"""That a loop's recipe is the shipped one, and survives its command line."""

from __future__ import annotations

import pytest

from tests.bench.peers.recipe import read, written
from tests.bench.peers.shipped import shipped
from tests.bench.training import TASKS, Task


def test_one_loop_has_all_environments_and_minibatches_of_the_same_size() -> None:
    recipe = shipped("cartpole")
    assert (recipe.env, recipe.target, recipe.envs, recipe.rollout_steps) == ("CartPole-v1", 475.0, 16, 64)
    assert (recipe.minibatch, recipe.minibatches, recipe.passes) == (256, 4, 6)


def test_settings_that_the_file_leaves_out_are_the_defaults() -> None:
    recipe = shipped("lunarlander")
    assert (recipe.value_weight, recipe.epsilon, recipe.beta2) == (0.5, 1e-5, 0.999)


@pytest.mark.parametrize("task", TASKS, ids=[task.part for task in TASKS])
def test_every_task_has_a_recipe_with_its_target(task: Task) -> None:
    recipe = shipped(task.part)
    assert (recipe.env, recipe.target) == (task.env, task.target)
    assert recipe.envs * recipe.rollout_steps == recipe.minibatch * recipe.minibatches


def test_an_experiment_that_a_loop_would_change_is_refused() -> None:
    with pytest.raises(ValueError, match="pong"):
        shipped("pong")


def test_the_rate_falls_to_its_floor() -> None:
    recipe = shipped("cartpole")
    assert recipe.rate(0) == pytest.approx(4e-3)
    assert recipe.rate(150_000) == pytest.approx(4e-3 * 0.525)
    assert recipe.rate(10**9) == pytest.approx(4e-3 * 0.05)


def test_a_recipe_is_read_as_it_was_written() -> None:
    recipe = shipped("cartpole")
    assert read(written(recipe)) == recipe
