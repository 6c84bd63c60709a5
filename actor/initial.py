"""θ₀ and its layout, made on the actor's side and handed over as a file. Knows simulators and networks; no sockets."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from actor.algorithms.normalization import moments_size
from actor.algorithms.own import make_method
from actor.config import ActorSettings
from actor.environments.registry import describe_stages
from actor.networks.build import build_policy
from actor.traits import ALGORITHMS
from protocol.errors import UserError
from protocol.layout import Layout
from protocol.manifest import digest_of


@dataclass(frozen=True, slots=True)
class Initial:
    """What a run begins with. theta: float32 [P]. observation_size: numbers that are normalised, else 0.

    seed: of the run, which theta follows from.
    """

    theta: NDArray[np.float32]
    layout: Layout
    env: str
    observation_size: int
    seed: int


class Unwritable(UserError):
    """The file cannot be written. path: which. cause: why."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"cannot write {self.path}: {self.cause}"


def initial(settings: ActorSettings, seed: int, allow_modules: Iterable[str]) -> Initial:
    """The network that these settings describe, at the weights that follow from the run's seed, once the
    environments of all stages are known to be for it. Raises UserError.
    """
    allowed = frozenset(allow_modules)
    spaces = describe_stages(settings, allowed)
    policy, flat = build_policy(settings, spaces, seed, allowed)
    if settings.algorithm not in ALGORITHMS:  # what is wrong with its options is said before anybody trains
        make_method(settings, spaces, policy, seed, allowed)
    return Initial(flat.vector(), flat.layout(), settings.env, moments_size(settings, spaces), seed)


def write(made: Initial, path: Path, table: bytes) -> None:
    """As safetensors: array ``theta``; metadata ``layout`` (JSON), ``env``, ``observation_size``, ``seed``,
    ``actor_table`` (base64), which is ``table`` that it was made of, and ``actor_digest`` of it. The file is old or
    new, never half. Raises Unwritable.
    """
    metadata = {
        "layout": msgspec.json.encode(made.layout).decode(),
        "env": made.env,
        "observation_size": str(made.observation_size),
        "seed": str(made.seed),
        "actor_digest": digest_of(table).hex(),
        "actor_table": base64.b64encode(table).decode(),
    }
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(safetensors.numpy.save({"theta": made.theta}, metadata))
        temporary.replace(path)
    except OSError as error:
        raise Unwritable(path, error.strerror or str(error)) from None
