"""Which network settings name, and which are refused before they take memory."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from actor.config import ActorSettings
from actor.networks.build import build_policy
from actor.spaces import Part, Spaces, resolved
from protocol.errors import SettingError, UserError
from tests.actor.counter import box, discrete, vectors

THREE, TWO_REALS, PARTS = discrete(3), box((-1.0, -np.inf), (1.0, np.inf)), discrete(2, 3)
HUGE = 1_000_000


@pytest.mark.parametrize(
    ("settings", "spaces", "words"),
    [
        (ActorSettings(algorithm="n_step_q"), vectors(5, TWO_REALS), r"'n_step_q': use 'a3c': .* no Discrete actions"),
        (ActorSettings(algorithm="one_step_sarsa"), vectors(5, PARTS), r"actor\.algorithm = 'one_step_sarsa'"),
        (ActorSettings(network="a3c"), vectors(5, THREE), r"actor\.network = 'a3c': use 'auto': .*no image"),
        (ActorSettings(network="nature"), Spaces((4, 84, 35), "uint8", THREE), r"actor\.network = 'nature'.*36 pixels"),
        (
            ActorSettings(layer_norm=True),
            Spaces((4, 84, 84), "uint8", THREE),
            r"actor\.layer_norm = true: only an mlp reads it, and images of CartPole-v1 are seen by 'a3c'",
        ),
        (
            ActorSettings(hidden=(HUGE, HUGE)),
            vectors(5, THREE),
            r"actor\.hidden = \[1000000, 1000000\]: at most 67,108,864",
        ),
        (ActorSettings(memory="lstm", memory_size=HUGE), vectors(5, THREE), r"actor\.memory_size = 1000000: at most"),
        (
            ActorSettings(network="nature"),
            Spaces((3, 2000, 2000), "uint8", THREE),
            r"actor\.network = 'nature': at most",
        ),
    ],
)
def test_what_a_network_cannot_be_is_refused_before_it_takes_memory(
    settings: ActorSettings, spaces: Spaces, words: str
) -> None:
    with pytest.raises(SettingError, match=words):
        build_policy(settings, spaces, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"network": "nature"}, r"torch; actor\.network = 'nature' needs it"),
        ({"memory": "gru", "network": "mlp"}, r"actor\.memory = 'gru'"),
        ({"layer_norm": True, "network": "mlp"}, r"actor\.layer_norm = true needs it"),
        ({"shared_trunk": True, "network": "mlp"}, r"actor\.shared_trunk = true needs it"),
        ({"network": "my_nets:Net"}, r"actor\.network = 'my_nets:Net' needs it"),
    ],
)
def test_without_torch_a_network_that_needs_it_says_so(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of None fails
    with pytest.raises(UserError, match=words):
        build_policy(ActorSettings(**options), Spaces((4, 84, 84), "uint8", THREE), 0)


def test_an_image_just_large_enough_passes() -> None:
    for name in ("a3c", "nature"):
        policy, _ = build_policy(ActorSettings(network=name), Spaces((1, 36, 36), "uint8", THREE), 0)
        seen = policy.prepare(np.zeros((2, 1, 36, 36), np.uint8))
        assert policy.act(seen, np.zeros((2, 0), np.float32))[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("spaces", "network"),
    [
        (vectors(5, THREE), "mlp"),
        (Spaces((7, 7, 3), "uint8", THREE), "grid"),
        (Spaces((3, 16, 12), "uint8", THREE), "grid"),
        (Spaces((17, 12, 3), "uint8", THREE), "small"),
        (Spaces((3, 35, 84), "uint8", THREE), "small"),
        (Spaces((3, 8, 84), "uint8", THREE), "mlp"),
        (Spaces((7, 7, 20), "uint8", THREE), "mlp"),  # which axis is of channels nobody knows
        (Spaces((64, 64, 64), "uint8", THREE), "mlp"),
        (Spaces((3, 36, 84), "uint8", THREE), "a3c"),
        (Spaces((3, 3, 84), "uint8", THREE), "mlp"),
    ],
)
def test_what_is_seen_decides_the_network_where_nobody_names_one(spaces: Spaces, network: str) -> None:
    asked: list[dict[str, Any]] = [{"network": "auto"}, {"network": network}]
    chosen, named = (build_policy(ActorSettings(**each), spaces, 0)[1] for each in asked)
    assert chosen.layout() == named.layout()
    np.testing.assert_array_equal(chosen.vector(), named.vector())


GREY, FLOATS = Part("", 0, (84, 84), "uint8", 1 / 255), Part("", 0, (3, 7, 7), "float32", 1.0)
BESIDE = (Part("image", 0, (36, 40, 3), "uint8", 1 / 255), Part("vector", 4320, (4,)))


def of_parts(*parts: Part) -> Spaces:
    return Spaces((sum(part.size for part in parts),), "float32", THREE, parts=parts)


@pytest.mark.parametrize(
    ("parts", "network"),
    [
        ((GREY,), "a3c"),
        ((FLOATS,), "grid"),
        (BESIDE, "a3c"),
        ((Part("", 0, (84, 84)),), "mlp"),
        ((Part("near", 0, (7, 7), "uint8", 1.0), Part("far", 49, (84, 84), "uint8", 1.0)), "mlp"),  # no one fits both
    ],
)
def test_images_within_vectors_are_seen_as_images_from_the_second_edition_on(
    parts: tuple[Part, ...], network: str
) -> None:
    spaces = of_parts(*parts)
    assert resolved(ActorSettings(), spaces).network == network
    chosen, named = (build_policy(ActorSettings(network=name), spaces, 0)[1] for name in ("auto", network))
    assert chosen.layout() == named.layout()
    assert resolved(ActorSettings(defaults=1), spaces).network == "mlp"
    assert resolved(ActorSettings(defaults=2), spaces).network == "mlp"
    assert resolved(ActorSettings(defaults=1, network="small"), spaces).network == "small"


def test_an_image_within_a_vector_that_is_too_small_is_refused() -> None:
    with pytest.raises(SettingError, match=r"actor\.network = 'nature'.*no image that is at least 36 pixels a side"):
        build_policy(ActorSettings(network="nature"), of_parts(FLOATS), 0)
    huge = of_parts(Part("", 0, (2000, 2000), "uint8", 1.0))
    with pytest.raises(SettingError, match=r"actor\.network = 'nature': at most"):
        build_policy(ActorSettings(network="nature"), huge, 0)
    with pytest.raises(SettingError, match=r"actor\.hidden = \[1000000\]: at most"):
        build_policy(ActorSettings(hidden=(HUGE,)), of_parts(*BESIDE), 0)


def test_a_grid_is_seen_square_by_square() -> None:
    """Another square, another value: the network sees where a thing lies, at every place of a small image."""
    policy, _ = build_policy(ActorSettings(precision="fp32"), Spaces((7, 7, 3), "uint8", THREE), 0)
    grids = np.zeros((49, 7, 7, 3), np.uint8)
    grids[np.arange(49), np.arange(49) // 7, np.arange(49) % 7, 0] = 200
    values = policy.values(policy.prepare(grids), np.zeros((49, 0), np.float32))
    assert len(np.unique(values.round(6))) == 49
