"""Scores the policy of a run directory: greedy episodes, counted without bias. Knows files, simulators and torch.

Reads what the learner wrote (``manifest.json``, ``checkpoints/``) by its format and without its code. Each environment
contributes a fixed number of episodes: were the first N to end counted, short ones would be counted too often.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
from numpy.typing import NDArray

from actor.envs import Simulators, Step, make_simulators
from actor.rollout import Normalizer
from actor.worker import build_policy, read_settings
from protocol import manifest as manifests
from protocol.errors import UserError
from protocol.manifest import Manifest
from protocol.moments import Moments

STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # two-sided t, 1 to 10 degrees

Act = Callable[[NDArray[np.float32]], NDArray[np.int64]]  # observations float32 [B, D] -> actions int64 [B]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a run has learnt. version: gradients applied. theta: float32 [P]. moments: None without normalisation."""

    version: int
    theta: NDArray[np.float32]
    moments: Moments | None


@dataclass(frozen=True, slots=True)
class Score:
    """Undiscounted raw returns of ``episodes`` episodes. ci95: half the width of the mean's 95 % interval."""

    env: str
    version: int
    episodes: int
    mean: float
    std: float  # of the sample, n - 1
    ci95: float
    min: float
    max: float
    length_mean: float  # steps


class Unreadable(UserError):
    """No policy can be read. path: where it was looked for. cause: why."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"{self.path}: {self.cause}"


def evaluate(run_dir: Path, episodes: int, seed: int, allow_modules: Iterable[str]) -> Score:
    """Plays ``episodes`` >= 1 greedy episodes with the newest good checkpoint. Raises UserError."""
    manifest = read_manifest(run_dir)
    policy = newest(run_dir / "checkpoints")
    settings = read_settings(manifest.actor_table)
    settings = msgspec.structs.replace(settings, envs=min(settings.envs, episodes))
    simulators = make_simulators(settings, frozenset(allow_modules))
    try:
        act = _act(settings.normalize_observations, manifest, simulators, policy)
        finished = play(simulators, act, quotas(episodes, simulators.count), seed)
    finally:
        simulators.close()
    return summary(manifest.env, policy.version, finished)


def play(simulators: Simulators, act: Act, quota: NDArray[np.int64], seed: int) -> list[tuple[float, int]]:
    """(return, length) of each environment's first episodes. quota: int64 [B], how many of each."""
    left = quota.copy()
    finished: list[tuple[float, int]] = []
    observations = simulators.reset(seed)
    while left.any():
        step = simulators.step(act(observations))
        for row, episode in _ended(step):
            if left[row]:
                left[row] -= 1
                finished.append(episode)
        observations = step.observations
    return finished


def _ended(step: Step) -> Iterable[tuple[int, tuple[float, int]]]:
    """(environment, episode) of this step's finished episodes, which are listed in the order of environments."""
    if not step.episodes:
        return ()
    return zip(np.flatnonzero(step.terminated | step.truncated).tolist(), step.episodes, strict=True)


def quotas(episodes: int, environments: int) -> NDArray[np.int64]:
    """int64 [B] that sums to ``episodes``, as even as can be."""
    each, more = divmod(episodes, environments)
    return np.array([each + (row < more) for row in range(environments)], np.int64)


def summary(env: str, version: int, finished: list[tuple[float, int]]) -> Score:
    """The statistics of at least one episode; with a single one the spread is 0 and the interval infinite."""
    returns = np.array([score for score, _ in finished], np.float64)
    n = len(returns)
    std = float(returns.std(ddof=1)) if n > 1 else 0.0
    quantile = STUDENT_95[n - 2] if 1 < n <= len(STUDENT_95) + 1 else 1.96 + 2.5 / max(n - 1, 1)
    return Score(
        env=env,
        version=version,
        episodes=n,
        mean=float(returns.mean()),
        std=std,
        ci95=quantile * std / math.sqrt(n) if n > 1 else math.inf,
        min=float(returns.min()),
        max=float(returns.max()),
        length_mean=float(np.mean([length for _, length in finished])),
    )


def read_manifest(run_dir: Path) -> Manifest:
    """``manifest.json`` of a run directory. Raises UserError."""
    try:
        return manifests.decode((run_dir / "manifest.json").read_bytes())
    except OSError as error:
        raise Unreadable(run_dir / "manifest.json", error.strerror or str(error)) from None


def newest(folder: Path) -> Policy:
    """The newest checkpoint that is whole. Raises Unreadable where there is none."""
    causes = []
    for path in sorted(folder.glob("checkpoint-*.safetensors"), reverse=True):
        try:
            return read_checkpoint(path)
        except Unreadable as error:
            causes.append(str(error))
    raise Unreadable(folder, "; ".join(causes) or "there is no checkpoint yet")


def read_checkpoint(path: Path) -> Policy:
    """One checkpoint file, its digest verified. Raises Unreadable."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        header: dict[str, Any] = msgspec.json.decode(metadata["farflung"])
        if metadata["digest"] != _digest(metadata["farflung"], arrays):
            raise Unreadable(path, "its digest does not match its contents")
        return Policy(int(header["version"]), arrays["theta"], _moments(arrays))
    except OSError as error:
        raise Unreadable(path, error.strerror or str(error)) from None
    except (safetensors.SafetensorError, msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
        raise Unreadable(path, f"not a checkpoint: {error!r}") from None


def _digest(header: str, arrays: dict[str, NDArray[Any]]) -> str:
    """As the learner computes it: BLAKE2b-256 over the header and every array's name, type, shape and bytes."""
    digest = hashlib.blake2b(header.encode(), digest_size=32)
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _moments(arrays: dict[str, NDArray[Any]]) -> Moments | None:
    if "observations.count" not in arrays:
        return None
    return Moments(int(arrays["observations.count"]), arrays["observations.mean"], arrays["observations.m2"])


def _act(normalizes: bool, manifest: Manifest, simulators: Simulators, policy: Policy) -> Act:
    """The most probable action of the policy, for the observations as its training saw them."""
    spaces = simulators.spaces
    network, flat = build_policy(read_settings(manifest.actor_table), spaces.observation_size, spaces.actions, seed=0)
    if flat.layout().digest != manifest.layout.digest:
        raise UserError("the run's network is not the one that this version builds for its environment")
    flat.load(policy.theta)
    logits, scaled = network.policy_function(), None
    if normalizes and policy.moments is not None and policy.moments.count > 1:
        scaled = Normalizer(policy.moments.mean.astype(np.float32), policy.moments.scale())

    def act(observations: NDArray[np.float32]) -> NDArray[np.int64]:
        seen = observations
        if scaled is not None:
            seen = np.empty_like(observations)
            scaled.apply(observations, seen)
        chosen: NDArray[np.int64] = np.argmax(logits(seen), 1)
        return chosen

    return act
