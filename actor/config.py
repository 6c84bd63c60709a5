"""The actor's table of an experiment: every setting, its unit, its range and its default. No torch, no gymnasium.

The learner hands this table over unparsed (WIRE.md, section 6), so this file alone says what it may hold.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Unit = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
NonNegative = Annotated[float, Meta(ge=0.0, le=1e15)]
Positive = Annotated[float, Meta(gt=0.0, le=1e15)]  # infinity would train on NaN


class ActorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[actor]`` of an experiment file."""

    # simulators
    env: Annotated[str, Meta(min_length=1, max_length=200)] = "CartPole-v1"  # Gymnasium id, or module:id
    env_options: dict[str, object] = {}  # keyword arguments of gymnasium.make_vec, passed on to the environment
    envs: Count = 16  # B, environments stepped together by one actor
    vectorization: Literal["auto", "vector_entry_point", "sync", "async"] = "auto"
    normalize_observations: bool = False  # by running statistics of all actors, merged at the learner

    # rollout and targets
    rollout_steps: Count = 64  # T, steps of each environment in one rollout
    discount: Unit = 0.99  # γ
    targets: Literal["gae", "n_step"] = "gae"
    gae_lambda: Unit = 0.95  # λ of generalised advantage estimation
    reward_scale: Positive = 1.0  # multiplies rewards before targets; reported returns stay raw

    # loss
    loss: Literal["clipped", "a3c"] = "clipped"
    passes: Count = 6  # times each rollout is used; a3c is only sound with 1
    minibatches: Count = 4  # gradients sent in one pass
    clip: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.2  # ε of the clipped ratio
    normalize_advantages: bool = True
    value_weight: NonNegative = 0.5
    entropy_weight: NonNegative = 0.0
    max_gradient_norm: Positive = 0.5  # global L2 clip before preconditioning or sending

    # network
    hidden: Annotated[tuple[Count, ...], Meta(max_length=8)] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"

    # what is sent
    codec: str = "topk_i8"  # protocol/codecs.py names them all
    density: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.05  # share of coordinates that a sparse codec sends
    residual_decay: Unit = 0.95  # multiplies what was not sent, once per gradient; below 1 forgets old residual
    beta1: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.5  # of the preconditioner; a residual is momentum too
    beta2: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.999  # second moment of the preconditioner
    epsilon: Positive = 1e-5  # of the preconditioner, outside the root as in Adam
