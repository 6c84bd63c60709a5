"""Masks that programs give: honoured by choices, draws and probabilities, and named where they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space

import farflung
from protocol.errors import UserError
from tests.actor.environments import masked_envs
from tests.actor.evaluation.rundirs import checkpoint, run_directory
from tests.actor.evaluation.test_policy import EVERYTHING, VECTOR, policy_of

MOVES = MultiDiscrete([4, 3])


def test_what_a_mask_forbids_has_no_probability_and_is_never_taken() -> None:
    policy, seen = policy_of(VECTOR, MOVES), np.array([0.5, -1.0, 0.3], np.float32)
    free = policy.probabilities(seen)
    allowed = np.ones(7, np.int8)
    allowed[[int(free[0].argmax()), 4 + int(free[1].argmax())]] = 0
    told = policy.probabilities(seen, mask=allowed)
    for before, now, mask in zip(free, told, np.split(allowed, [4]), strict=True):
        np.testing.assert_allclose(now, before * mask / (before * mask).sum(), rtol=1e-5)
    best = policy.act(seen, mask=allowed)
    assert best.tolist() == [int(part.argmax()) for part in told]
    for same in (allowed.tolist(), (allowed[:4], allowed[4:].astype(bool)), allowed.astype(np.float32)):
        assert policy.act(seen, mask=same).tolist() == best.tolist()
    rows = np.repeat(seen[None], 5_000, 0)
    drawn = policy.act(rows, mask=np.repeat(allowed[None], 5_000, 0), batch=True, stochastic=True)
    for place, shares in enumerate(told):
        np.testing.assert_allclose(np.bincount(drawn[:, place], minlength=len(shares)) / 5_000, shares, atol=0.03)


def test_in_a_batch_each_has_its_own_mask() -> None:
    policy, seen = policy_of(VECTOR, Discrete(4)), np.zeros((3, 3), np.float32)
    masks = np.eye(4, dtype=bool)[[2, 0, 3]]
    assert policy.act(seen, mask=masks, batch=True).tolist() == [2, 0, 3]
    assert policy.act(seen, mask=list(masks), batch=True, stochastic=True).tolist() == [2, 0, 3]
    assert policy.probabilities(seen, mask=masks, batch=True).tolist() == masks.astype(float).tolist()
    assert policy.flatten_mask(masks, batch=True).tolist() == masks.tolist()
    assert policy.flatten_mask([0, 0, 1, 1]).tolist() == [[False, False, True, True]]
    nothing: list[Any] = [[], {}, 5, "masks"]
    for none in nothing:
        with pytest.raises(UserError, match="takes one mask or more, and these are none"):
            policy.flatten_mask(none, batch=True)
    pairs = [([1, 0, 1, 1], [0, 0, 1]), ([0, 1, 0, 0], np.ones(3, np.bool_))]
    assert policy_of(VECTOR, MOVES).flatten_mask(pairs, batch=True).sum(1).tolist() == [4, 4]
    values = policy_of(VECTOR, Discrete(4), algorithm="n_step_q")
    assert values.act(seen, mask=masks, batch=True).tolist() == [2, 0, 3]


def test_a_mask_of_a_dict_has_its_structure_or_stands_side_by_side() -> None:
    policy, seen = policy_of(VECTOR, EVERYTHING), np.zeros(3, np.float32)
    mask = {"bits": [0, 1, 1, 0], "move": [0, 0, 1], "rest": (np.tile([0, 0, 0, 0, 0, 1], 4), None)}
    action = policy.act(seen, mask=mask, stochastic=True)
    assert (action["bits"].tolist(), int(action["move"]), action["rest"][0].tolist()) == ([1, 0], 4, [[3, 3], [3, 3]])
    assert EVERYTHING.contains(action)
    flat = policy.flatten_mask(mask)
    assert flat.shape == (1, policy.spaces.actions.logits)
    assert str(policy.act(seen, mask=flat[0])) == str(policy.act(seen, mask=mask))


@pytest.mark.parametrize(
    ("mask", "batch", "said"),
    [
        ([1, 1, 1], False, r"the action mask is list of 3, not 4 of 0 or 1: it holds 3"),
        ([1, 1, 2, 0], False, "not 4 of 0 or 1"),
        ([0, 0, 0, 0], False, "the action mask does not allow any of the 4 actions$"),
        (np.eye(4)[[0, 1, 0]] * [[1], [0], [1]], True, "mask of row 1 does not allow any of the 4 actions; after the"),
        (np.ones((2, 4)), True, "these are 2 action masks for 3 observations"),
        (True, True, "these are 0 action masks for 3 observations"),
        ({"move": [1, 1, 1, 1]}, False, "the action mask is a dict of names"),
        ({"move": 1}, True, "mask must hold 3 masks in each of its arrays, and one holds less"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(mask: Any, batch: bool, said: str) -> None:
    seen = np.zeros((3, 3)) if batch else np.zeros(3)
    with pytest.raises(UserError, match=said):
        policy_of(VECTOR, Discrete(4)).act(seen, mask=mask, batch=batch)
    with pytest.raises(UserError, match=r"does not allow any of the 3 values of choice 1"):
        policy_of(VECTOR, MOVES).act(np.zeros(3), mask=[1, 1, 1, 1, 0, 0, 0])
    with pytest.raises(UserError, match="hold none"):
        policy_of(VECTOR, Box(-1.0, 1.0, (2,))).act(np.zeros(3), mask=[1, 1])


HELD: Space[Any] = Dict(action_mask=MultiBinary(4), board=VECTOR)


def test_a_mask_within_the_observation_is_used_by_itself() -> None:
    policy, board = policy_of(HELD, Discrete(4)), np.array([0.1, 0.2, 0.3], np.float32)
    assert (policy.masks, policy.observation_space) == ("observation", HELD)
    for only in range(4):
        mask = np.eye(4, dtype=np.int8)[only]
        assert policy.act({"action_mask": mask, "board": board}, stochastic=True) == only
        assert policy.act({"board": board}, mask=mask) == only
    masks = np.eye(4, dtype=np.int8)[[3, 1]]
    seen = {"action_mask": masks, "board": np.stack([board, -board])}
    assert policy.act(seen, batch=True).tolist() == [3, 1]
    assert policy.probabilities(seen, batch=True).tolist() == masks.tolist()
    assert policy.flatten(seen, batch=True).tolist() == [board.tolist(), (-board).tolist()]
    with pytest.raises(UserError, match="observation must be a dict with 'action_mask', 'board', and it has no 'act"):
        policy.act({"board": board})
    with pytest.raises(UserError, match="it has no 'board'"):
        policy.act(3.0, mask=masks[0])
    with pytest.raises(UserError, match=r"observation\['action_mask'\] must hold 2 masks in each of its arrays"):
        policy.act({**seen, "action_mask": masks[:1]}, batch=True)
    shown = policy_of(HELD, Discrete(4), action_mask="none")
    assert (shown.masks, shown.spaces.observation_size) == ("none", 7)


@pytest.mark.parametrize("parts", ["", "multi_discrete", "dict"])
@pytest.mark.parametrize("by", ["info", "observation", "method"])
def test_a_loaded_policy_plays_by_the_rules_that_its_environment_tells(by: str, parts: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"by": by, "parts": parts, "names": by != "observation"}
    theta = run_directory(tmp_path, env="Strict-v0", env_options=options, defaults=3)
    checkpoint(tmp_path / "checkpoints", 4, {"theta": theta})
    policy = farflung.load_policy(tmp_path, seed=0)
    assert policy.masks == by
    env = masked_envs.Strict(**options)
    assert policy.observation_space == env.observation_space
    observation, info = env.reset(seed=1)
    for _ in range(masked_envs.LENGTH):  # what is illegal raises
        mask = {"info": info.get("action_mask"), "method": env.action_masks() if by == "method" else None}.get(by)
        observation, _, _, _, info = env.step(policy.act(observation, mask=mask, stochastic=True))
    if by != "observation":
        told = r'mask=info\["action_mask"\]' if by == "info" else r"mask=env.action_masks\(\)"
        for ask in (policy.act, policy.probabilities):
            with pytest.raises(UserError, match=f"Strict-v0 tells which actions it allows.*{told}"):
                ask(observation)


def test_without_the_environment_masks_are_taken_where_they_are_given(tmp_path: Path) -> None:
    theta = run_directory(tmp_path, env="Strict-v0", defaults=3)
    checkpoint(tmp_path / "checkpoints", 4, {"theta": theta})
    spaces = (masked_envs.FACES, Discrete(4))
    policy = farflung.load_policy(tmp_path, spaces=spaces)
    assert policy.masks == "none"
    assert policy.act(np.zeros(2)) in range(4)
    assert policy.act(np.zeros(2), mask=[0, 0, 0, 1]) == 3


@pytest.mark.parametrize("by", ["info", "observation", "method"])
def test_a_batch_is_played_as_a_vector_tells_its_masks(by: str, tmp_path: Path) -> None:
    theta = run_directory(tmp_path, env="Together-v0", env_options={"by": by, "parts": "multi_discrete"}, defaults=3)
    checkpoint(tmp_path / "checkpoints", 4, {"theta": theta})
    policy = farflung.load_policy(tmp_path)
    assert policy.masks == by
    vector: Any = masked_envs.Together(2, by, parts="multi_discrete")
    observations, info = vector.reset(seed=1)
    for _ in range(2 * masked_envs.LENGTH):  # two games; what is illegal raises
        mask = {"info": info.get("action_mask"), "method": vector.action_masks() if by == "method" else None}.get(by)
        actions = policy.act(observations, mask=mask, batch=True)
        observations, _, _, _, info = vector.step(actions)
    vector.close()
