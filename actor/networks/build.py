"""Builds the network that an experiment names. Knows settings, sizes and what is installed; no simulator, no loss.

Fully connected networks need numpy alone. torch is imported for the others, when one is built.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np

from actor.config import ActorSettings
from actor.networks.flat import FlatParameters
from actor.networks.mlp import Perceptrons
from actor.networks.policy import IMAGE_NETWORKS, Policy
from actor.spaces import LEAST_SIDES, Spaces, resolved
from protocol.errors import SettingError, UserError
from protocol.frames import MAX_FRAME_BYTES


def build_policy(settings: ActorSettings, spaces: Spaces, seed: int) -> tuple[Policy, FlatParameters]:
    """The network of these settings and its flat vectors; its θ₀ follows from the seed. Raises UserError."""
    settings = resolved(settings, spaces)
    _check_size(settings, spaces)
    require_torch(settings)
    if not _needs_torch(settings):
        perceptrons = Perceptrons(settings, spaces, np.random.default_rng(seed))
        return perceptrons, FlatParameters(perceptrons)
    from actor.networks.torch_policy import TorchPolicy

    policy = TorchPolicy(settings, spaces, seed)
    return policy, FlatParameters(policy)


def _needs_torch(settings: ActorSettings) -> bool:
    """auto: that depends on the environment, which is not asked here."""
    return settings.network not in ("mlp", "auto") or settings.memory != "none"


def require_torch(settings: ActorSettings) -> None:
    """Raises UserError where this network needs torch and this machine has none."""
    if _needs_torch(settings) and find_spec("torch") is None:
        seen = settings.network not in ("mlp", "auto")
        asked = f"network = {settings.network!r}" if seen else f"memory = {settings.memory!r}"
        raise UserError(f"not installed here: torch; actor.{asked} needs it, an mlp without a memory does not")


def _check_size(settings: ActorSettings, spaces: Spaces) -> None:
    """Refuses what a network cannot see, and one whose snapshot would not fit a message, before it takes memory."""
    seen, actions = spaces.observation_shape, spaces.actions
    if not settings.traits.stochastic and actions.kind != "discrete":
        raise SettingError("actor.algorithm", settings.algorithm, f"use 'a3c': {settings.env} has no Discrete actions")
    if settings.network != "mlp":
        sides, least = sorted(seen)[1:], LEAST_SIDES[settings.network]
        if spaces.observation_type != "uint8" or min(sides) < least:
            accepted = f"use 'auto': {settings.env} shows no image of bytes that is at least {least} pixels a side"
            raise SettingError("actor.network", settings.network, accepted)
    for name, weights in _weights(settings, spaces):
        if 4 * weights > MAX_FRAME_BYTES:
            value = getattr(settings, name)
            accepted = f"at most {MAX_FRAME_BYTES // 4:,} parameters in all, these have {weights:,}"
            raise SettingError(f"actor.{name}", list(value) if isinstance(value, tuple) else value, accepted)


def _weights(settings: ActorSettings, spaces: Spaces) -> Iterator[tuple[str, int]]:
    """About how many parameters a setting asks for: that of the layers, then that of the memory behind them."""
    if settings.network == "mlp":
        sizes = (spaces.observation_size, *settings.hidden)
        trunks = 2 if settings.memory == "none" and settings.traits.has_values else 1
        yield "hidden", trunks * sum(inputs * outputs for inputs, outputs in itertools.pairwise(sizes))
        width = sizes[-1]
    else:
        convolutions, width = IMAGE_NETWORKS[settings.network]
        sides = sorted(spaces.observation_shape)[1:]
        for _, kernel, stride in convolutions:
            sides = [(side - kernel) // stride + 1 for side in sides]
        yield "network", math.prod(sides) * convolutions[-1][0] * width
    if settings.memory != "none":
        gates = 4 if settings.memory == "lstm" else 3
        yield "memory_size", gates * settings.memory_size * (width + settings.memory_size)
