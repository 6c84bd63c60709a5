"""Masks of invalid actions: three conventions that give the same masks in every kind of vector, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest

from actor.config import ActorSettings
from actor.environments.child_protocol import Description
from actor.environments.contract import ContractViolation, mask_of
from actor.environments.conversion import actions_of
from actor.environments.isolated import FailureBudgetSpent, IsolatedEngine
from actor.environments.registry import describe, make_vector_envs
from actor.environments.vector import VectorEnv
from protocol.errors import SettingError
from tests.actor.counter import discrete
from tests.actor.environments import masked_envs
from tests.actor.environments.masked_envs import LENGTH, Strict

NOTHING: frozenset[str] = frozenset()
CONVENTIONS = ("info", "observation", "method")
WHERE = ("sync", "vector_entry_point", "same step", "processes")
COMMAND = (sys.executable, masked_envs.__file__)
STEPS = 2 * LENGTH + 5


def settings_of(env: str = "Strict-v0", mask: str = "auto", **options: Any) -> ActorSettings:
    return ActorSettings(env=env, envs=2, env_options=options, vectorization="auto", action_mask=mask)  # type: ignore[arg-type]


@contextmanager
def vector(where: str, env: str = "Strict-v0", mask: str = "auto", **options: Any) -> Iterator[VectorEnv]:
    """Two of these environments, stepped in this way."""
    if where == "processes":
        description = Description(env, options, (), 20.0, 60.0, mask)
        engine: Any = IsolatedEngine(description, 2, 0, lambda *_: None, command=COMMAND)
        made = VectorEnv(engine, engine.spaces, next_step_autoreset=False)
    else:
        own = {"same_step": True} if where == "same step" else {}
        (made,) = make_vector_envs(
            settings_of(env if where == "sync" else "Together-v0", mask, **options, **own), NOTHING
        )
    with closing(made):
        yield made


def legal(made: VectorEnv) -> np.ndarray:
    """The highest move that each environment allows, [2, 1]."""
    assert made.masks is not None
    found: np.ndarray = (made.masks * np.arange(1, 5)).argmax(1)[:, None]
    return found


def watched(made: VectorEnv) -> list[tuple[Any, ...]]:
    """Of each step: what was shown, allowed and paid, and what the successor of an ended episode was and allowed."""
    found: list[tuple[Any, ...]] = [(made.reset(3).tolist(), made.masks.tolist() if made.masks is not None else None)]
    for _ in range(STEPS):
        step = made.step(legal(made))
        assert made.masks is not None
        last = None
        if step.final_observations is not None:
            assert step.final_masks is not None
            last = step.final_observations.tolist(), step.final_masks.tolist()
        found.append(
            (step.observations.tolist(), made.masks.tolist(), step.rewards.tolist(), step.valid.tolist(), last)
        )
    return found


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("by", CONVENTIONS)
def test_each_convention_says_the_same_everywhere(by: str, where: str) -> None:
    """Observations show which moves are legal, so each mask is held against the observation beside it."""
    if where == "same step" and by == "method":
        return  # by then it knows of the next episode only: see below
    with vector(where, by=by) as made:
        assert made.spaces.observation_shape == (2,)
        for shown, allowed, *rest in watched(made):
            assert allowed == [mask_for(row) for row in shown]
            if rest and rest[2] is not None:
                assert rest[2][1] == [mask_for(row) for row in rest[2][0]]
        assert made.masked_by == by


def mask_for(faces: list[float]) -> list[bool]:
    return [move in (faces[0], 2 + faces[1]) for move in range(4)]


def test_a_vector_s_method_knows_the_next_episode_only_so_that_a_successor_allows_all() -> None:
    with vector("same step", by="method") as made:
        found = watched(made)
    assert found[LENGTH][4][1] == [[True] * 4] * 2
    assert found[LENGTH][1] == [mask_for(row) for row in found[LENGTH][0]]


@pytest.mark.parametrize("where", WHERE)
def test_where_an_episode_ended_a_mask_may_allow_nothing(where: str) -> None:
    with vector(where, blank=True, ends=True) as made:
        found = watched(made)
    if where in ("same step", "processes"):
        assert found[LENGTH][4][1] == [[True] * 4] * 2
    else:
        assert found[LENGTH][1] == [[True] * 4] * 2
        assert found[LENGTH + 1][3] == [False, False]


@pytest.mark.parametrize("where", ["sync", "processes"])
@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize(("parts", "width"), [("multi_discrete", 2), ("dict", 3)])
def test_masks_of_several_choices(parts: str, width: int, names: bool, where: str) -> None:
    """Each step takes the first that is allowed of each; the game raises where that is wrong."""
    with vector(where, parts=parts, names=names) as made:
        made.reset(0)
        for _ in range(STEPS):
            assert made.masks is not None
            chosen = np.zeros((2, width), np.float32 if parts == "dict" else np.int64)
            chosen[:, 0], chosen[:, 1] = made.masks[:, :4].argmax(1), made.masks[:, 4:].argmax(1)
            made.step(chosen)
        assert not sum(made.failures.values())


@pytest.mark.parametrize("asked", ["none", "auto"])
@pytest.mark.parametrize("by", CONVENTIONS)
def test_what_is_not_asked_for_is_not_read(by: str, asked: str) -> None:
    """Without masks a mask in the observation is shown to the network as anything else is."""
    spaces = describe(settings_of(mask=asked, by=by), NOTHING)
    assert spaces.observation_shape == ((6,) if (by, asked) == ("observation", "none") else (2,))
    with vector("sync", mask=asked, by=by) as made:
        made.reset(0)
        assert (made.masks is None) == (asked == "none")
        if asked == "none":
            with pytest.raises(ValueError, match="illegal"):
                [made.step(np.array([[move], [move]])) for move in (0, 1, 2, 3)]


def test_a_named_convention_goes_before_others() -> None:
    with vector("sync", "Silent-v0", mask="info") as made:
        made.reset(0)
        assert made.masked_by == "info"


@pytest.mark.parametrize(
    ("env", "asked", "options", "why"),
    [
        ("CartPole-v1", "method", {}, "CartPole-v1 has no method action_masks"),
        ("CartPole-v1", "observation", {}, "observations of CartPole-v1 have no part action_mask"),
        ("Pendulum-v1", "info", {}, "actions of Pendulum-v1 hold no choice"),
    ],
)
def test_a_convention_that_the_environment_has_not_is_refused(env: str, asked: str, options: Any, why: str) -> None:
    with pytest.raises(SettingError, match=rf"actor\.action_mask = '{asked}'.*{why}"):
        describe(settings_of(env, asked, **options), NOTHING)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("where", ["sync", "processes"])
def test_an_environment_is_not_asked_when_its_episode_is_over(where: str, ends: bool) -> None:
    with vector(where, "Tidy-v0", ends=ends) as made:
        made.reset(0)
        for _ in range(STEPS):
            made.step(legal(made))
        assert made.masked_by == "method"
        assert not sum(made.failures.values())


def test_what_only_has_the_methods_name_tells_no_masks() -> None:
    with vector("sync", "Counting-v0") as made:
        made.reset(0)
        made.step(np.zeros((2, 1), np.int64))
        assert made.masks is None
    with pytest.raises(SettingError, match="Counting-v0 has no method action_masks"):
        describe(settings_of("Counting-v0", "method"), NOTHING)


def test_info_that_was_to_tell_masks_and_does_not_is_a_breach() -> None:
    with (
        vector("sync", "Lenient-v0", mask="info") as made,
        pytest.raises(ContractViolation, match="has no action_mask"),
    ):
        made.reset(0)


def test_a_mask_that_fits_no_actions_is_refused_or_shown() -> None:
    with pytest.raises(SettingError, match=r"MultiBinary\(4\), and its actions have 2 values; .none. shows it"):
        describe(settings_of("Misfit-v0"), NOTHING)
    assert describe(settings_of("Misfit-v0", "none"), NOTHING).observation_shape == (6,)


BREACHES: list[tuple[Any, str]] = [
    ([0, 0, 0, 0], "the action mask( of row 0)? allows nothing, and its episode goes on"),
    (None, "info( of row 0)? has no action_mask"),
    ([1, 0, 1], r"the action mask is int64 \[3\], not 4 of 0 or 1"),
    ([1, 0, 2, 1], r"the action mask is int64 \[4\], not 4 of 0 or 1"),
    ([0.5, 0, 1, 1], r"the action mask is float64 \[4\], not 4 of 0 or 1"),
    (["a", "b", "c", "d"], r"the action mask is <U1 \[4\], not 4 of 0 or 1"),
]


@pytest.mark.parametrize(("mask", "said"), BREACHES)
def test_a_mask_that_says_nothing_ends_the_actor_with_the_environments_name(mask: Any, said: str) -> None:
    with vector("sync", "Faulty-v0", told=mask) as made:
        made.reset(0)
        with pytest.raises(ContractViolation, match=f"^Faulty-v0: {said}"):
            made.step(legal(made))


def test_no_mask_at_the_first_reset_and_one_later_is_a_breach() -> None:
    with vector("sync", "Faulty-v0", told=None, when=0) as made:
        shown = made.reset(1)
        assert made.masks is None
        with pytest.raises(ContractViolation, match=r"Faulty-v0: .*that of the first reset had none; .*none"):
            made.step(shown[:, :1].astype(np.int64))


def test_what_a_mask_may_look_like() -> None:
    """One array, or one for each choice; of a Dict or Tuple by its own structure, reals left out or None."""
    told: Any
    for told in ([1, 0, 1], (True, False, True), np.array([1.0, 0.0, 1.0]), np.array([1, 0, 1], np.int8)):
        assert mask_of(told, discrete(3)).tolist() == [True, False, True]
    for told in ([1, 0, 1, 1, 0], ([1, 0, 1], [1, 0]), [np.array([1, 0, 1]), (True, False)]):
        assert mask_of(told, discrete(3, 2)).tolist() == [True, False, True, True, False]
    actions = actions_of("X-v0", Strict(parts="dict").action_space)
    for told in (
        [1, 0, 0, 1, 1, 1, 0],
        {"side": ([1, 1, 0],), "move": [1, 0, 0, 1]},
        {"side": [1, 1, 0], "move": [1, 0, 0, 1], "aim": None},
        (None, [1, 0, 0, 1], ([1, 1, 0],)),
    ):
        assert mask_of(told, actions).tolist() == [True, False, False, True, True, True, False]
    for told in ({"move": [1, 0, 0, 1]}, [], {}, "1001110", [[1, 0], [1]]):
        with pytest.raises(ContractViolation, match="the action mask is"):
            mask_of(told, actions)


def test_a_fault_of_a_child_process_is_its_rows() -> None:
    with vector("processes", "Faulty-v0", told=(0, 0, 0, 0)) as made:
        made.reset(0)
        with pytest.raises(
            FailureBudgetSpent, match=r"the last, number [01], wrong_shape: the action mask allows nothing"
        ):
            made.step(legal(made))
