"""A policy in other programs: observations and actions as the environment has them, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from numpy.typing import NDArray

import farflung
from actor.config import ActorSettings
from actor.environments.masks import told_by
from actor.environments.registry import described
from actor.evaluation.checkpoints import SavedWeights
from actor.evaluation.play import Player
from actor.evaluation.policy import Policy, load
from actor.networks.build import build_policy
from actor.spaces import Spaces
from protocol.errors import UserError
from protocol.layout import Layout
from protocol.manifest import digest_of
from protocol.moments import Moments
from tests.actor.evaluation import nets
from tests.actor.evaluation.rundirs import checkpoint, moments_of, run_directory

VECTOR = Box(-1.0, 1.0, (3,), np.float32)
STACK = {"options": {"stack_size": 2}}
PARTS: Space[Any] = Dict(place=Discrete(4, start=2), seen=Tuple((VECTOR, MultiBinary(2), MultiDiscrete([2, 3]))))
IMAGE = Box(0, 255, (36, 36, 3), np.uint8)
GREY = Box(0, 255, (12, 10), np.uint8)
FLOATS = Box(0.0, 1.0, (3, 10, 12), np.float32)
SEEN: Space[Any] = Dict(image=Box(0, 255, (9, 11, 3), np.uint8), more=Tuple((VECTOR,)), place=Discrete(3))
EVERYTHING: Space[Any] = Dict(
    aim=Box(-1.0, 4.0, (2,), np.float32),
    bits=MultiBinary(2),
    move=Discrete(3, start=2),
    rest=Tuple((Box(-2, 3, (2, 2), np.int8), Box(-np.inf, np.inf, (1,), np.float64))),
)


ALLOWED = frozenset({nets.MODULE})


def learnt(
    observations: Space[Any], actions: Space[Any], **changes: object
) -> tuple[ActorSettings, Spaces, Layout, NDArray[np.float32]]:
    """Settings, what a network sees and chooses, its layout, and weights that have an opinion."""
    settings = msgspec.structs.replace(ActorSettings(), **{"hidden": (8,), "memory_size": 6, **changes})
    visible, _ = told_by(settings.env, observations, actions, settings.action_mask, has_method=True)
    spaces = described(settings, visible, actions)
    _, flat = build_policy(settings, spaces, 3, ALLOWED)
    length = flat.layout().length
    opinion = min(0.5, 50.0 / length)  # with more, the choices of a large network are all certain
    theta = flat.vector() + np.linspace(-opinion, opinion, length, dtype=np.float32)
    return settings, spaces, flat.layout(), theta


def policy_of(
    observations: Space[Any], actions: Space[Any], moments: Moments | None = None, seed: int = 0, **changes: object
) -> Policy:
    """With weights that have an opinion."""
    settings, _, layout, theta = learnt(observations, actions, **changes)
    return Policy(settings, (observations, actions), layout, SavedWeights(7, theta, moments), seed, None, ALLOWED)


def player_of(
    observations: Space[Any], actions: Space[Any], moments: Moments | None = None, **changes: object
) -> Player:
    """The same weights as actors play with them."""
    settings, spaces, layout, theta = learnt(observations, actions, **changes)
    player = Player(settings, spaces, layout, ALLOWED)
    player.load(theta, moments)
    return player


def row_of(batch: Any, index: int | slice) -> Any:
    if isinstance(batch, dict):
        return {name: row_of(part, index) for name, part in batch.items()}
    return tuple(row_of(part, index) for part in batch) if isinstance(batch, tuple) else batch[index]


def arrays_in(structure: Any) -> list[NDArray[Any]]:
    if isinstance(structure, dict):
        structure = tuple(structure.values())
    if not isinstance(structure, tuple):
        return [np.asarray(structure)]
    return [array for part in structure for array in arrays_in(part)]


def several(space: Space[Any], count: int) -> tuple[list[Any], Any]:
    """Observations one by one, and as a vector environment gives them."""
    space.seed(5)
    each = [space.sample() for _ in range(count)]
    return each, together(space, each)


def together(space: Space[Any], each: list[Any]) -> Any:
    if isinstance(space, Dict):
        return {name: together(inner, [one[name] for one in each]) for name, inner in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(together(inner, [one[i] for one in each]) for i, inner in enumerate(space.spaces))
    return np.stack([np.asarray(one) for one in each])


@pytest.mark.parametrize(
    "actions",
    [
        Discrete(3, start=5),
        MultiDiscrete([2, 3], start=[1, 0]),
        Box(np.array([-0.1, 0.0, 100.0]), np.array([10.0, 1.0, 300.0]), dtype=np.float64),
        Box(-np.inf, np.inf, (2, 1), np.float32),
        Box(-3, 4, (2, 2), np.int16),
        MultiBinary((2, 2)),
        EVERYTHING,
    ],
    ids=lambda space: type(space).__name__,
)
@pytest.mark.parametrize(
    "observations", [VECTOR, PARTS, Discrete(5), IMAGE, GREY, FLOATS, SEEN], ids=lambda space: type(space).__name__
)
def test_one_observation_and_a_batch_lead_to_the_same_actions_which_the_environment_takes(
    observations: Space[Any], actions: Space[Any]
) -> None:
    policy = policy_of(observations, actions, precision="fp32")
    each, batch = several(observations, 5)
    chosen, drawn = policy.act(batch, batch=True), policy.act(batch, batch=True, stochastic=True)
    for index, one in enumerate(each):
        alone = policy.act(one)
        assert actions.contains(alone)
        assert actions.contains(row_of(drawn, index))
        for one_array, of_batch in zip(arrays_in(alone), arrays_in(row_of(chosen, index)), strict=True):
            np.testing.assert_allclose(one_array, of_batch, rtol=1e-5, atol=1e-6)


def test_a_greedy_action_is_the_players() -> None:
    moments = Moments(10, np.array([5.0, 0.0, 1.0, 0.0]), np.array([40.0, 10.0, 90.0, 10.0]))
    policy = policy_of(VECTOR, Discrete(3), moments, normalize_observations=True, hidden_observations=(1,))
    player = player_of(VECTOR, Discrete(3), moments, normalize_observations=True, hidden_observations=(1,))
    rows = np.random.default_rng(1).normal(5.0, 2.0, (200, 3)).astype(np.float32)
    played = player.act(rows, np.zeros(200, np.bool_))[:, 0].tolist()
    assert policy.act(rows, batch=True).tolist() == played
    assert len(set(played)) > 1
    changed = rows.copy()
    changed[:, 1] += 9.0  # hidden
    assert policy.act(changed, batch=True).tolist() == played


def test_draws_have_the_probabilities_that_are_told() -> None:
    policy = policy_of(VECTOR, MultiDiscrete([2, 3]))
    seen = np.array([0.5, -1.0, 0.3], np.float32)
    told = policy.probabilities(seen)
    assert [part.shape for part in told] == [(2,), (3,)]
    drawn = policy.act(np.repeat(seen[None], 20_000, 0), batch=True, stochastic=True)
    for place, probabilities in enumerate(told):
        np.testing.assert_allclose(
            np.bincount(drawn[:, place], minlength=len(probabilities)) / 20_000, probabilities, atol=0.015
        )
        assert probabilities.sum() == pytest.approx(1.0)
    one = policy_of(VECTOR, Discrete(4)).probabilities(np.stack([seen, -seen]), batch=True)
    assert one.shape == (2, 4)


def test_probabilities_have_the_structure_of_the_action() -> None:
    policy, seen = policy_of(VECTOR, EVERYTHING), np.zeros(3, np.float32)
    told = policy.probabilities(seen)
    assert told["aim"] is None
    assert [part.shape for part in told["bits"]] == [(2,), (2,)]
    assert told["move"].shape == (3,)
    assert [part.shape for part in told["rest"][0]] == [(6,)] * 4
    assert told["rest"][1] is None
    batch = policy.probabilities(np.stack([seen] * 4), batch=True)
    np.testing.assert_allclose(batch["move"], [told["move"]] * 4, rtol=1e-5)


def test_draws_follow_the_seed() -> None:
    batch = np.zeros((50, 3), np.float32)
    first, same, other = (policy_of(VECTOR, Discrete(3), seed=seed) for seed in (1, 1, 2))
    drawn = first.act(batch, batch=True, stochastic=True).tolist()
    assert same.act(batch, batch=True, stochastic=True).tolist() == drawn
    assert other.act(batch, batch=True, stochastic=True).tolist() != drawn


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_a_memory_lasts_until_it_is_reset_and_looking_does_not_move_it(memory: str) -> None:
    policy = policy_of(VECTOR, Box(-np.inf, np.inf, (2,), np.float32), memory=memory)
    each, _ = several(VECTOR, 3)
    first = [policy.act(one).tolist() for one in each]
    assert policy.act(each[0]).tolist() != first[0]
    policy.reset()
    assert [policy.act(one).tolist() for one in each] == first
    chooser = policy_of(VECTOR, Discrete(3), memory=memory)
    told = chooser.probabilities(each[0])
    assert chooser.probabilities(each[0]).tolist() == told.tolist()
    chooser.act(each[0])
    assert chooser.probabilities(each[0]).tolist() != told.tolist()


def test_in_a_batch_each_episode_begins_by_itself() -> None:
    policy = policy_of(VECTOR, Box(-np.inf, np.inf, (2,), np.float32), memory="gru")
    each, batch = several(VECTOR, 2)
    fresh = policy.act(batch, batch=True)
    later = policy.act(batch, batch=True, starts=np.array([True, False]))
    np.testing.assert_array_equal(later[0], fresh[0])
    assert later[1].tolist() != fresh[1].tolist()
    with pytest.raises(UserError, match="the memory holds 2 environments, and these are observations of 1"):
        policy.act(each[0])
    policy.reset()
    np.testing.assert_allclose(policy.act(each[0]), fresh[0], rtol=1e-5)
    with pytest.raises(UserError, match=r"starts must have the shape \[1\], and it has \[2\]"):
        policy.act(each[0], starts=np.array([True, False]))


@pytest.mark.parametrize(
    ("observed", "said"),
    [
        (3.0, r"observation must be a dict with 'place', 'seen', not 3\.0"),
        ({"place": 2}, "must be a dict"),
        ({"place": 2, "seen": 1}, r"observation\['seen'\] must be a tuple of 3, not 1"),
        ({"place": 9, "seen": (np.zeros(3), [0, 1], [0, 0])}, r"observation\['place'\] must be one of the numbers of"),
        ({"place": 2, "seen": (np.zeros((1, 3)), [0, 1], [0, 0])}, r"\[0\] must have the shape \[3\], .* \[1, 3\]"),
        ({"place": 2, "seen": (np.zeros(3), "ab", [0, 0])}, r"\[1\] must have the shape"),
        ({"place": 2, "seen": (["a"] * 3, [0, 1], [0, 0])}, r"\[0\] must hold numbers of the type float32, .* <U1"),
        ({"place": 2, "seen": ([[1], 2, 3], [0, 1], [0, 0])}, r"\[0\] must be one array, not"),
        ({"place": 2.5, "seen": (np.zeros(3), [0, 1], [0, 0])}, "must be one of the numbers"),
        ({"place": 2, "seen": (np.zeros(3), [0, 1], [0, 3])}, r"\[2\] must be one of the numbers"),
    ],
)
def test_an_observation_that_does_not_fit_is_named(observed: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        policy_of(PARTS, Discrete(2)).act(observed)


def test_images_are_bytes_and_a_batch_has_a_row_at_least() -> None:
    policy = policy_of(IMAGE, Discrete(2), network="a3c")
    with pytest.raises(UserError, match="numbers of the type uint8, and it holds float64"):
        policy.act(np.zeros((36, 36, 3)))
    for none in (np.zeros((0, 36, 36, 3), np.uint8), np.uint8(3)):
        with pytest.raises(UserError, match="and these are none"):
            policy.act(none, batch=True)


def test_bytes_are_no_shares_of_255_and_numbers_are_finite() -> None:
    with pytest.raises(UserError, match="numbers of the type uint8, and it holds float64"):
        policy_of(GREY, Discrete(2)).act(np.zeros((12, 10)))
    assert policy_of(GREY, Discrete(2)).act(np.zeros((12, 10), np.uint8)) in (0, 1)
    for number in (np.nan, np.inf):
        with pytest.raises(UserError, match=f"observation must hold finite numbers, and it holds {number}"):
            policy_of(VECTOR, Discrete(2)).act(np.array([0.0, number, 0.0]))


def test_what_has_no_probabilities_says_so() -> None:
    with pytest.raises(UserError, match=r"are not chosen from a list"):
        policy_of(VECTOR, Box(-1.0, 1.0, (2,), np.float32)).probabilities(np.zeros(3))
    values = policy_of(VECTOR, Discrete(2), algorithm="n_step_q")
    assert values.act(np.zeros(3)) in (0, 1)
    with pytest.raises(UserError, match="learnt values of actions"):
        values.act(np.zeros(3), stochastic=True)
    with pytest.raises(UserError, match="learnt values of actions"):
        values.probabilities(np.zeros(3))


def test_arrays_have_names_and_are_copies() -> None:
    policy = policy_of(VECTOR, Discrete(2))
    arrays = policy.arrays
    assert {name: array.shape for name, array in arrays.items()} == {
        "policy.weight0": (8, 3),
        "policy.bias0": (8,),
        "policy.weight1": (2, 8),
        "policy.bias1": (2,),
        "value.weight0": (8, 3),
        "value.bias0": (8,),
        "value.weight1": (1, 8),
        "value.bias1": (1,),
    }
    seen = np.array([0.3, 0.2, -0.9], np.float32)
    hidden = np.tanh(arrays["policy.weight0"] @ seen + arrays["policy.bias0"])
    logits = arrays["policy.weight1"] @ hidden + arrays["policy.bias1"]
    np.testing.assert_allclose(policy.probabilities(seen), np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)
    for array in arrays.values():
        array[...] = 0.0
    assert policy.arrays["policy.weight0"].any()


def test_a_run_directory_is_loaded_by_its_environment_or_by_given_spaces(tmp_path: Path) -> None:
    theta = run_directory(tmp_path)
    arrays = moments_of(5) | {"theta": theta}
    checkpoint(tmp_path / "checkpoints", 4, arrays)
    checkpoint(tmp_path / "checkpoints", 2, arrays, "best.safetensors")
    newest, best = farflung.load_policy(tmp_path), farflung.load_policy(tmp_path, best=True)
    assert (newest.version, best.version, newest.env) == (4, 2, "CartPole-v1")
    assert isinstance(newest, farflung.Policy)
    assert newest.observation_space.shape == (4,)
    given = farflung.load_policy(tmp_path, spaces=(newest.observation_space, newest.action_space))
    rows = np.random.default_rng(0).standard_normal((9, 4), np.float32)
    assert given.act(rows, batch=True).tolist() == newest.act(rows, batch=True).tolist()
    with pytest.raises(UserError, match="not the one that this version builds"):
        farflung.load_policy(tmp_path, spaces=(VECTOR, newest.action_space))


def test_without_the_environment_only_given_spaces_do(tmp_path: Path) -> None:
    theta = run_directory(tmp_path)
    checkpoint(tmp_path / "checkpoints", 4, {"theta": theta})
    text = (tmp_path / "manifest.json").read_text()
    table = msgspec.json.decode(text)
    settings = msgspec.msgpack.decode(msgspec.json.decode(f'"{table["actor_table"]}"', type=bytes))
    packed = msgspec.msgpack.encode({**settings, "env": "gone:Gone-v0"})
    table |= {"actor_table": packed, "actor_digest": digest_of(packed)}
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(table))
    with pytest.raises(UserError, match="does not allow"):
        load(tmp_path, best=False, allow_modules=(), spaces=None, seed=None)
    spaces = (Box(-np.inf, np.inf, (4,), np.float32), Discrete(2))
    assert load(tmp_path, best=False, allow_modules=(), spaces=spaces, seed=None).act(np.zeros(4)) in (0, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": f"{nets.MODULE}:Normed", "network_options": {"width": 5}, "memory": "gru"},
        {"network": f"{nets.MODULE}:Attentive", "algorithm": f"{nets.MODULE}:Plain"},
        {"layer_norm": True, "wrappers": [{"wrapper": "gymnasium.wrappers:FrameStackObservation", **STACK}]},
    ],
    ids=["encoder", "whole, and a method", "wrapper"],
)
def test_what_is_a_users_own_is_loaded_where_it_is_allowed(changes: dict[str, Any], tmp_path: Path) -> None:
    theta = run_directory(tmp_path, (nets.MODULE,), **changes)
    checkpoint(tmp_path / "checkpoints", 4, {"theta": theta})
    policy = farflung.load_policy(tmp_path, allow_modules=nets.MODULE)
    seen = np.zeros(policy.observation_space.shape, np.float32)
    assert policy.act(seen) in (0, 1)
    assert policy.probabilities(seen).shape == (2,)
    if "network" in changes:
        for spaces in (None, (policy.observation_space, policy.action_space)):
            with pytest.raises(UserError, match=r"asks to import module 'tests.actor.*does not allow"):
                farflung.load_policy(tmp_path, spaces=spaces)


def test_of_a_curriculum_the_last_environment_is_the_policys(tmp_path: Path) -> None:
    module = "tests.actor.environments.masked_envs"
    last = {"env_steps": 100, "set": {"env_options": {"by": "none"}}}
    theta = run_directory(tmp_path, (module,), env=f"{module}:Strict-v0", defaults=3, curriculum=[last])
    checkpoint(tmp_path / "checkpoints", 4, {"theta": theta})
    assert farflung.load_policy(tmp_path, allow_modules=module).masks == "none"  # at first it tells them in info


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this is no run's directory"):
        farflung.load_policy(tmp_path / "nowhere")
    run_directory(tmp_path)
    with pytest.raises(UserError, match="there is no checkpoint yet"):
        farflung.load_policy(tmp_path)
