"""What heartbeats, metrics and the liveness check read of an actor, handed over whole. Pure. Plain data.

Frozen structs that are replaced, not changed: who reads one from another thread sees numbers of one moment.
``msgspec.structs.replace`` makes the next one in a fraction of a microsecond, which a worker can pay for each gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from protocol.messages import Fault


class WorkerStats(msgspec.Struct, frozen=True):
    """What the workers of one process life did; written by the worker's thread.

    env_steps: taken, reset steps not counted
    collect_s: stepping simulators with the policy; learn_s: gradients; compress_s: preconditioning, choosing and
    encoding them; wait_s: for permits and weights
    residual_norm: L2 of what compression holds back; residual_age: how many gradients it has waited, on average
    beta1: of the preconditioner, as staleness allows it
    simulator_failures: by kind: simulators that were replaced, and numbers of theirs that were not finite
    faults: the present worker's, of its simulators and gradients
    """

    env_steps: int = 0
    collect_s: float = 0.0
    learn_s: float = 0.0
    compress_s: float = 0.0
    wait_s: float = 0.0
    residual_norm: float = 0.0
    residual_age: float = 0.0
    beta1: float = 0.0
    simulator_failures: Mapping[str, int] = {}
    faults: tuple[Fault, ...] = ()


class LinkStats(msgspec.Struct, frozen=True):
    """What one process life did at its link; made by ``ActorState``.

    sent: gradients handed to the link; applied, refused: of those; lost: of those, never answered before their session
    ended; unlogged: of the applied, those that the learner's journal did not hold when it said so
    unanswered: gradients that are; credit: that may be
    unreflected: applied, and not shown by the newest weights yet; weights_version: of those
    round_trip_s: of a gradient until its verdict, a running mean; connected: it has a session
    run: that it works for; empty until it was welcomed
    """

    sent: int = 0
    applied: int = 0
    refused: int = 0
    lost: int = 0
    unlogged: int = 0
    unanswered: int = 0
    credit: int = 0
    unreflected: int = 0
    weights_version: int = 0
    round_trip_s: float = 0.0
    connected: bool = False
    run: str = ""
