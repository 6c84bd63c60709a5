"""A method of a user's own: what it gets, what it declares and where that is heeded, and what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from actor.algorithms.gradients import gradient, minibatches
from actor.algorithms.losses import LossStats, OutputGradients
from actor.algorithms.methods import ActionValues, ActorCritic, PolicyTargets, Targets
from actor.algorithms.own import CheckedMethod, declared, look_up, make_method
from actor.algorithms.portion import portion
from actor.algorithms.rollout import Rollout
from actor.config import ActorSettings, read_settings
from actor.networks.build import build_policy
from actor.spaces import Spaces
from actor.traits import Traits
from protocol.errors import SettingError, UserError
from tests.actor.algorithms.test_methods import B, D, T, by_hand
from tests.actor.counter import box, discrete, vectors

SPACES = vectors(D, discrete(3))
MODULE = """
from actor.algorithms.methods import ActionValues, ActorCritic
from actor.traits import VALUE_TRAITS, Traits

class Critic(ActorCritic):
    def __init__(self, settings, spaces, policy, generator, *, share=1.0):
        super().__init__(settings, spaces, policy, generator)
        self.share, self.drawn = share, generator.random()
        if share <= 0.0:
            raise ValueError("share has to be above 0")

class Careful(Critic):
    traits = Traits(learns_from_older=True, ignores=("loss", "clip"))

class Sarsa(ActionValues):
    traits = Traits(has_values=False, stochastic=False, needs_target=True, needs_next_action=True)

class Reinforce(ActorCritic):
    traits = Traits(has_values=False, whole_rollouts=True)

class LongestQ(ActionValues):
    traits = Traits(has_values=False, stochastic=False, needs_target=True, whole_rollouts=True)

class Misspelt(ActorCritic):
    traits = Traits(ignores=("klip",))

class Vague(ActorCritic):
    traits = {"has_values": True}

class Half:
    def adopt(self, *given): pass
    targets = None

class Bare:
    def adopt(self, *given): pass
    targets = loss = adopt

def function(): pass
"""
ALLOWED = frozenset({"own_methods"})


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module with the classes above, in the working directory; forgotten afterwards."""
    (tmp_path / "own_methods.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    yield
    sys.modules.pop("own_methods", None)


def read(name: str, **more: object) -> ActorSettings:
    table = {"defaults": 2, "hidden": [4], "envs": B, "rollout_steps": T, "algorithm": f"own_methods:{name}", **more}
    return read_settings(msgspec.msgpack.encode(table), declared(ALLOWED))


def made(name: str, spaces: Spaces = SPACES, seed: int = 0, **more: object) -> Any:
    settings = read(name, **more)
    return make_method(settings, spaces, build_policy(settings, spaces, 0)[0], seed, ALLOWED)


def policy_of(targets: Targets) -> PolicyTargets:
    assert targets.policy is not None
    return targets.policy


@pytest.mark.usefixtures("module")
def test_it_gets_settings_spaces_the_policy_chance_and_its_options() -> None:
    method = made("Critic", discount=0.5, algorithm_options={"share": 0.25})
    assert isinstance(method, CheckedMethod)
    own: Any = method.own
    assert (own.share, own.settings.discount, method.sampler) == (0.25, 0.5, own.sampler)
    assert made("Critic", seed=1).own.drawn == made("Critic", seed=1).own.drawn != made("Critic", seed=2).own.drawn


@pytest.mark.usefixtures("module")
def test_without_a_word_of_its_own_a_subclass_is_what_it_is_made_of() -> None:
    settings = read("Critic")
    policy, flat = build_policy(settings, SPACES, 0)
    ours = ActorCritic(settings, SPACES, policy, np.random.default_rng(0))
    method, rollout = made("Critic"), by_hand("terminated")
    rollout.values = rollout.next_values = np.ones((T, B), np.float32)
    aims = ours.targets(rollout)
    for mine, theirs in zip(policy_of(method.targets(rollout)), policy_of(aims), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    found = [
        gradient(flat, policy, each, part, 1.0)[0].copy()
        for each in (method, ours)
        for part in minibatches(rollout, aims, settings, np.random.default_rng(0))
    ]
    assert len(found) % 2 == 0
    for mine, theirs in zip(found[: len(found) // 2], found[len(found) // 2 :], strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(("name", "heads"), [("Critic", 2), ("Reinforce", 1), ("Sarsa", 1)])
@pytest.mark.parametrize("more", [{}, {"memory": "gru", "memory_size": 3, "minibatches": 2}], ids=["mlp", "gru"])
def test_the_network_has_a_value_function_where_it_says_so(name: str, heads: int, more: dict[str, object]) -> None:
    if name == "Sarsa" and more:
        with pytest.raises(SettingError, match=r"actor\.memory"):
            read(name, **more)
        return
    policy, flat = build_policy(read(name, **more), SPACES, 0)
    assert policy.has_values == (heads == 2)
    assert any(entry.name.startswith("value") for entry in flat.layout().entries) == (heads == 2)


@pytest.mark.usefixtures("module")
def test_action_values_of_ones_own_follow_what_they_declare() -> None:
    """They are asked for discrete actions, for the target network, for the action that comes next."""
    method = made("Sarsa", exploration_steps=100)
    with pytest.raises(
        UserError, match=r"own_methods:Sarsa' needs a target network: set learner.target_interval_steps"
    ):
        method.adopt(0, None, None)
    ours = ActorSettings(hidden=(4,), algorithm="one_step_sarsa", exploration_steps=100)
    policy, flat = build_policy(ours, SPACES, 0)
    theirs = ActionValues(ours, SPACES, policy, np.random.default_rng(0))
    theirs.final_epsilon = method.own.final_epsilon
    for each in (method, theirs):
        each.adopt(50, flat.vector(), 1)
    rollout = by_hand("truncated")
    np.testing.assert_array_equal(method.targets(rollout).returns, theirs.targets(rollout).returns)
    with pytest.raises(SettingError, match="has no Discrete actions"):
        made("Sarsa", vectors(D, box((-1.0,), (1.0,))))


@pytest.mark.usefixtures("module")
def test_rollouts_of_older_policies_are_joined_where_it_says_that_it_corrects_for_them() -> None:
    sizes = {"envs": 16, "rollout_steps": 64}
    joined, alone = (portion(read(name, **sizes), 1 / 16, adds=True) for name in ("Careful", "Critic"))
    assert joined.most_rollouts > 1 == alone.most_rollouts
    assert joined == portion(ActorSettings(hidden=(4,), **sizes), 1 / 16, adds=True)  # type: ignore[arg-type]
    whole = portion(read("Reinforce", **sizes), 1 / 16, adds=True)
    assert whole.rollout_steps == 64


WRONG: list[tuple[str, dict[str, Any], str]] = [
    (
        "Critic",
        {"algorithm_options": {"sahre": 1}},
        r"actor.algorithm_options = {'sahre': 1}: own_methods:Critic is ca",
    ),
    ("Critic", {"algorithm_options": {"share": 0}}, r"algorithm_options = {'share': 0}: own_methods:Critic: share has"),
    ("Critic", {"exploration_steps": 5}, "actor.exploration_steps = 5: only actor.algorithm = 'n_step_q' or"),
    ("Sarsa", {"gae_lambda": 0.5}, "actor.gae_lambda = 0.5: only actor.algorithm = 'a3c' reads it"),
    ("Sarsa", {"final_epsilons": [0.1]}, "set actor.final_epsilon_odds, too"),
    ("Critic", {"entropy_floor": 0.5}, "needs actor.entropy_steps"),
    (
        "Careful",
        {"clip": 0.3},
        "actor.clip = 0.3: actor.algorithm = 'own_methods:Careful' does not read it; leave it out",
    ),
    ("Misspelt", {}, "actor.algorithm = 'own_methods:Misspelt': it ignores 'klip', which is no setting"),
    ("Vague", {}, "its attribute traits has to be an actor.traits.Traits, and is a dict"),
    ("Half", {}, "the class has no targets and no loss to call"),
    ("Bare", {}, "actor.algorithm_options = {}: own_methods:Bare is called with settings, spaces, policy, generator"),
    ("function", {}, "actor.algorithm = 'own_methods:function': a class is needed, and this is a function"),
    ("Nobody", {}, "module own_methods has no 'Nobody'"),
]


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(("name", "more", "said"), WRONG)
def test_what_does_not_fit_is_said_in_one_sentence(name: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError) as refused:
        made(name, **more)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("module")
def test_a_module_that_is_not_allowed_is_not_imported() -> None:
    table = msgspec.msgpack.encode({"algorithm": "own_methods:Critic"})
    with pytest.raises(UserError, match="--allow-module own_methods would"):
        read_settings(table, declared(frozenset()))
    assert read_settings(table).traits == Traits()  # who does not ask takes it for an actor-critic method
    assert "own_methods" not in sys.modules


@pytest.mark.usefixtures("module")
def test_an_installed_package_may_give_a_name_that_is_like_one_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own-1.dist-info").mkdir()
    (tmp_path / "own-1.dist-info/METADATA").write_text("Name: own\nVersion: 1\n")
    points = "[farflung.algorithms]\na3c_careful = own_methods:Careful\n"
    (tmp_path / "own-1.dist-info/entry_points.txt").write_text(points)
    table = msgspec.msgpack.encode({"algorithm": "a3c_careful"})
    assert read_settings(table, declared(frozenset())).traits.ignores == ("loss", "clip")
    with pytest.raises(SettingError, match=r"one_step_sarsa, a3c_careful; one of your own is MODULE:CLASS"):
        read_settings(msgspec.msgpack.encode({"algorithm": "a3c_carful"}), declared(frozenset()))


NETWORK = """
from torch import nn

def network(spec, width=5):
    return nn.Sequential(nn.Linear(*spec.observation_shape, width), nn.Tanh())
"""


@pytest.mark.parametrize("algorithm", ["n_step_q", "LongestQ"])
@pytest.mark.usefixtures("module")
def test_a_target_network_is_of_the_kind_that_acts_though_that_is_a_users_own(tmp_path: Path, algorithm: str) -> None:
    (tmp_path / "own_methods.py").write_text(MODULE + NETWORK)
    table: dict[str, object] = {"algorithm": algorithm if algorithm == "n_step_q" else f"own_methods:{algorithm}"}
    table |= {"network": "own_methods:network", "network_options": {"width": 7}}
    settings = read_settings(msgspec.msgpack.encode(table), declared(ALLOWED))
    policy, flat = build_policy(settings, SPACES, 0, ALLOWED)
    method = make_method(settings, SPACES, policy, 0, ALLOWED)
    values: Any = method.own if isinstance(method, CheckedMethod) else method
    before = flat.vector()
    method.adopt(0, before + 1.0, 1)
    np.testing.assert_array_equal(values.target_weights.vector(), before + 1.0)
    np.testing.assert_array_equal(flat.vector(), before)
    assert values.target_weights.layout() == flat.layout()


@pytest.mark.usefixtures("module")
def test_options_are_looked_at_before_a_class_is_made() -> None:
    look_up(read("Critic", algorithm_options={"share": 0.5}), ALLOWED)
    look_up(ActorSettings(), ALLOWED)
    with pytest.raises(SettingError, match=r"algorithm_options = \{'shar': 1\}: .*unexpected keyword argument 'shar'"):
        look_up(read("Critic", algorithm_options={"shar": 1}), ALLOWED)


class Answering(ActorCritic):
    """Says what it is told to say."""

    def __init__(self, answer: object) -> None:
        self.answer: Any = answer
        self.fresh_targets = False
        self.sampler = ActorCritic(ActorSettings(), SPACES, build_policy(ActorSettings(), SPACES, 0)[0]).sampler

    def targets(self, rollout: Rollout) -> Targets:
        """Method.targets."""
        return self.answer  # type: ignore[no-any-return]

    def loss(self, *_: object) -> tuple[OutputGradients, LossStats]:
        """Method.loss."""
        return self.answer  # type: ignore[no-any-return]


def checked(answer: object) -> CheckedMethod:
    return CheckedMethod("own:M", Answering(answer), Traits())


ROWS, FLAT = np.zeros((T, B), np.float32), np.zeros(T * B, np.float32)
NO_POLICY = PolicyTargets(ROWS, ROWS[:1])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ROWS, "targets gave a ndarray; expected an actor.algorithms.methods.Targets"),
        (Targets(FLAT), r"targets gave returns of shape (8,); expected (4, 2)"),
        (Targets(ROWS, NO_POLICY), r"targets gave policy.advantages of shape (1, 2); expected (4, 2)"),
        (Targets(ROWS, PolicyTargets(FLAT, ROWS)), r"targets gave policy.log_probs of shape (8,); expected (4, 2)"),
        (Targets(ROWS, None, {"old": FLAT}), r"targets gave extra['old'] of shape (8,); expected (4, 2) and more"),
    ],
)
def test_targets_of_another_shape_are_refused_by_name(answer: object, said: str) -> None:
    with pytest.raises(UserError) as refused:
        checked(answer).targets(by_hand("terminated"))
    assert str(refused.value) == f"actor.algorithm = 'own:M': {said}"


STATS = LossStats(None, FLAT)
OUTPUTS = np.zeros((8, 3), np.float32)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (0.5, "loss gave <class 'float'>; expected OutputGradients and LossStats of actor.algorithms.losses"),
        ((OUTPUTS, STATS), "loss gave ndarray and LossStats; expected OutputGradients and LossStats"),
        ((OutputGradients(FLAT, FLAT), STATS), "loss gave gradients by outputs of shape (8,); expected (8, 3)"),
        ((OutputGradients(OUTPUTS, OUTPUTS), STATS), "loss gave gradients by values of shape (8, 3); expected (8,)"),
        ((OutputGradients(OUTPUTS, None), STATS), "loss gave no gradients by values; expected (8,)"),
    ],
)
def test_gradients_of_another_shape_are_refused_by_name(answer: object, said: str) -> None:
    sample: Any = None
    with pytest.raises(UserError) as refused:
        checked(answer).loss(OUTPUTS, FLAT, sample)
    assert said in str(refused.value)


def test_what_has_the_shape_is_taken_as_float32() -> None:
    doubled = np.full((T, B), 0.1)
    found = checked(Targets(doubled, None, {"seen": doubled[..., None]})).targets(by_hand("terminated"))
    assert found.returns.dtype == np.float32
    assert found.policy is None
    assert found.extra["seen"].shape == (T, B, 1)
    gradients, stats = checked((OutputGradients(OUTPUTS.astype(float), None), STATS)).loss(OUTPUTS, None, None)  # type: ignore[arg-type]
    assert gradients.outputs.dtype == np.float32
    assert gradients.values is None
    assert stats is STATS


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_rows_of_its_own_go_with_their_samples(memory: Any) -> None:
    rollout = by_hand("terminated")
    names = np.arange(T * B, dtype=np.float32).reshape(T, B)
    targets = Targets(names, None, {"name": names, "pair": np.stack([names, -names], 2)})
    settings = ActorSettings(envs=B, rollout_steps=T, minibatches=2, memory=memory)
    parts = list(minibatches(rollout, targets, settings, np.random.default_rng(0)))
    assert len(parts) == 2
    for part in parts:
        np.testing.assert_array_equal(part.extra["name"], part.returns)
        np.testing.assert_array_equal(part.extra["pair"], np.stack([part.returns, -part.returns], 1))
    seen = sorted(float(name) for part in parts for name in part.extra["name"])
    assert seen == [float(name) for name in names[rollout.valid]]
