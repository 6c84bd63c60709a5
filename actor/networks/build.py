"""Builds the network that an experiment names. Knows settings, sizes and what is installed; no simulator, no loss.

Fully connected networks need numpy alone. torch is imported for the others, when one is built.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np

from actor.config import IMAGES, ActorSettings
from actor.networks.contract import Factory, find_network
from actor.networks.flat import FlatParameters
from actor.networks.mlp import Perceptrons
from actor.networks.policy import IMAGE_NETWORKS, Policy
from actor.spaces import LEAST_SIDES, Spaces, resolved
from protocol.errors import SettingError, UserError
from protocol.frames import MAX_FRAME_BYTES


def build_policy(
    settings: ActorSettings, spaces: Spaces, seed: int, allowed_modules: frozenset[str] = frozenset()
) -> tuple[Policy, FlatParameters]:
    """The network of these settings and its flat vectors; its θ₀ follows from the seed. Raises UserError.

    allowed_modules: where a network of a user's own may come from.
    """
    settings = resolved(settings, spaces)
    _check_size(settings, spaces)
    factory = look_up(settings, allowed_modules)
    if not _needs_torch(settings):
        perceptrons = Perceptrons(settings, spaces, np.random.default_rng(seed))
        return perceptrons, FlatParameters(perceptrons)
    from actor.networks.torch_policy import TorchPolicy

    policy = TorchPolicy(settings, spaces, seed, factory)
    return policy, FlatParameters(policy)


def _needs_torch(settings: ActorSettings) -> bool:
    """auto: that depends on the environment, which is not asked here."""
    return settings.network not in ("mlp", "auto") or bool(_torch_options(settings))


def _torch_options(settings: ActorSettings) -> list[str]:
    """Which settings have an mlp made by torch, as a person writes them."""
    asked = {"memory = " + repr(settings.memory): settings.memory != "none"}
    asked |= {"layer_norm = true": settings.layer_norm, "shared_trunk = true": settings.shared_trunk}
    return [option for option, given in asked.items() if given]


def look_up(settings: ActorSettings, allowed_modules: frozenset[str]) -> Factory | None:
    """What makes a network of a user's own, as ``find_network``; None for one of ours. Raises UserError as it does, and
    where the network needs torch and this machine has none.
    """
    if _needs_torch(settings) and find_spec("torch") is None:
        seen = settings.network not in ("mlp", "auto")
        asked = f"network = {settings.network!r}" if seen else _torch_options(settings)[0]
        raise UserError(f"not installed here: torch; actor.{asked} needs it, an mlp without a memory does not")
    return find_network(settings, allowed_modules)


def _check_size(settings: ActorSettings, spaces: Spaces) -> None:
    """Refuses what a network cannot see, and one whose snapshot would not fit a message, before it takes memory."""
    actions = spaces.actions
    if not settings.traits.stochastic and actions.kind != "discrete":
        raise SettingError("actor.algorithm", settings.algorithm, f"use 'a3c': {settings.env} has no Discrete actions")
    if settings.network in IMAGES:
        for name in ("layer_norm", "shared_trunk"):
            if getattr(settings, name):
                said = (
                    f"only an mlp reads it, and images of {settings.env} are seen by {settings.network!r}; leave it out"
                )
                raise SettingError(f"actor.{name}", True, said)
        least, shapes = LEAST_SIDES[settings.network], _images(spaces)
        if not shapes or min(min(_sides(shape)) for shape in shapes) < least:
            accepted = f"use 'auto': {settings.env} shows no image that is at least {least} pixels a side"
            raise SettingError("actor.network", settings.network, accepted)
    for name, weights in _weights(settings, spaces):
        if 4 * weights > MAX_FRAME_BYTES:
            value = getattr(settings, name)
            accepted = f"at most {MAX_FRAME_BYTES // 4:,} parameters in all, these have {weights:,}"
            raise SettingError(f"actor.{name}", list(value) if isinstance(value, tuple) else value, accepted)


def _images(spaces: Spaces) -> list[tuple[int, ...]]:
    """Shapes of all images of an observation."""
    return [spaces.observation_shape] if spaces.observation_type == "uint8" else [part.shape for part in spaces.images]


def _sides(shape: tuple[int, ...]) -> list[int]:
    """In pixels; the shortest axis of three is that of the channels."""
    return sorted(shape)[-2:]


def _weights(settings: ActorSettings, spaces: Spaces) -> Iterator[tuple[str, int]]:
    """About how many parameters a setting asks for: that of the layers, then that of the memory behind them."""
    if settings.network == "mlp":
        sizes = (spaces.observation_size, *settings.hidden)
        apart = settings.memory == "none" and settings.traits.has_values and not settings.shared_trunk
        trunks = 2 if apart else 1
        yield "hidden", trunks * sum(inputs * outputs for inputs, outputs in itertools.pairwise(sizes))
        width = sizes[-1]
    elif settings.network not in IMAGES:  # a user's own is looked at when it is there
        width = 0
    else:
        convolutions, each = IMAGE_NETWORKS[settings.network]
        shapes, weights = _images(spaces), 0
        for shape in shapes:
            sides = _sides(shape)
            for _, kernel, stride in convolutions:
                sides = [(side - kernel) // stride + 1 for side in sides]
            weights += math.prod(sides) * convolutions[-1][0] * each
        yield "network", weights
        width = each * len(shapes)
        beside = spaces.observation_size - sum(map(math.prod, shapes))
        if beside:
            sizes = (width + beside, *settings.hidden)
            yield "hidden", sum(inputs * outputs for inputs, outputs in itertools.pairwise(sizes))
            width = sizes[-1]
    if settings.memory != "none":
        gates = 4 if settings.memory == "lstm" else 3
        yield "memory_size", gates * settings.memory_size * (width + settings.memory_size)
