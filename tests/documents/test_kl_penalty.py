"""The example of an algorithm of one's own: its gradient against autograd, its targets by hand, and a run that learns.

Knows the example as a user's module, torch as an oracle, and real daemons.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from actor.algorithms.gradients import Minibatch
from actor.algorithms.methods import PolicySample
from actor.algorithms.own import declared, make_method
from actor.config import ActorSettings, read_settings
from actor.networks.build import build_policy
from actor.networks.policy import Inputs
from actor.spaces import Spaces
from tests.actor.algorithms.test_methods import B, T, by_hand
from tests.actor.counter import box, discrete, vectors
from tests.documents.pages import ROOT
from tests.loopback.system import Launcher

EXAMPLES = ROOT / "docs/examples"
ALLOWED = frozenset({"kl_penalty"})
D, N = 2, 16
ACTIONS = {"discrete": discrete(3), "multi_discrete": discrete(2, 3), "box": box((-1.0, -1.0), (1.0, 1.0))}


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of examples is the working directory."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    yield
    sys.modules.pop("kl_penalty", None)


def settings_of(**options: float) -> ActorSettings:
    table = {"algorithm": "kl_penalty:KLPenalty", "algorithm_options": options, "hidden": [4], "entropy_weight": 0.03}
    return read_settings(msgspec.msgpack.encode({"defaults": 2, "value_weight": 0.7, **table}), declared(ALLOWED))


def made(spaces: Spaces, **options: float) -> Any:
    settings = settings_of(**options)
    return make_method(settings, spaces, build_policy(settings, spaces, 0)[0], 0, ALLOWED)


def torch_log_probs(kind: str, outputs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log π(a|s) and the entropy, [N] each."""
    if kind == "box":
        mean, log_deviation = outputs.chunk(2, 1)
        z = (actions - mean) / log_deviation.exp()
        logs = -0.5 * z.square() - log_deviation - 0.5 * math.log(2 * math.pi)
        return logs.sum(1), (log_deviation + 0.5 * math.log(2 * math.pi * math.e)).sum(1)
    log_prob, entropy = torch.zeros(N), torch.zeros(N)
    for i, logits in enumerate(torch.split(outputs, list(ACTIONS[kind].sizes), 1)):
        logs = logits.log_softmax(1)
        log_prob = log_prob + logs.gather(1, actions[:, i : i + 1])[:, 0]
        entropy = entropy - (logs.exp() * logs).sum(1)
    return log_prob, entropy


@pytest.mark.parametrize("weight", [0.25, 4.0])
@pytest.mark.parametrize("kind", ACTIONS)
def test_its_gradient_is_autograds(kind: str, weight: float) -> None:
    random, actions = np.random.default_rng(0), ACTIONS[kind]
    outputs = random.standard_normal((N, actions.outputs)).astype(np.float32)
    values, returns, advantages = random.standard_normal((3, N)).astype(np.float32)
    taken: Any = np.stack([random.integers(0, size, N) for size in actions.sizes], 1)
    if kind == "box":
        taken = random.uniform(-0.9, 0.9, (N, 2)).astype(np.float32)  # inside the bounds, where the density is normal
    method = made(vectors(D, actions), weight=weight)
    old = method.own.distribution.likelihood(outputs, taken).log_probs
    old = old + random.uniform(-0.5, 0.5, N).astype(np.float32)
    sample = Minibatch(Inputs(np.zeros((N, D), np.float32)), None, taken, returns, PolicySample(old, advantages))
    gradients, stats = method.loss(outputs, values, sample)

    by_outputs, by_values = torch.tensor(outputs, requires_grad=True), torch.tensor(values, requires_grad=True)
    log_probs, entropies = torch_log_probs(kind, by_outputs, torch.tensor(taken))
    ratios = (log_probs - torch.tensor(old)).exp()
    penalty = ratios - 1 - ratios.log()
    policy_loss = -(ratios * torch.tensor(advantages) - weight * penalty).mean()
    loss = policy_loss + 0.7 * (by_values - torch.tensor(returns)).square().mean() - 0.03 * entropies.mean()
    loss.backward()  # type: ignore[no-untyped-call]
    assert by_outputs.grad is not None
    assert by_values.grad is not None
    np.testing.assert_allclose(gradients.outputs, by_outputs.grad.numpy(), rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(gradients.values, by_values.grad.numpy(), rtol=2e-5, atol=1e-6)
    assert stats.total == pytest.approx(loss.item(), rel=1e-4)
    assert stats.approx_kl == pytest.approx(penalty.mean().item(), rel=1e-4)


def test_the_penalty_is_the_divergence() -> None:
    """Over all actions, each as often as π_old takes it, the mean of r - 1 - log r is KL(π_old, π)."""
    old, new = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])
    ratios = new / old
    assert float(old @ (ratios - 1 - np.log(ratios))) == pytest.approx(float(old @ np.log(old / new)))


@pytest.mark.parametrize(
    ("moved", "weight"), [(0.0, 0.5), (0.006, 0.5), (0.007, 1.0), (0.014, 1.0), (0.016, 2.0), (9.0, 2.0), (None, 1.0)]
)
def test_the_weight_follows_the_divergence(moved: float | None, weight: float) -> None:
    """Schulman et al. 2017, section 4: d < target / 1.5 halves β, d > 1.5 target doubles it."""
    method, rollout = made(vectors(D, ACTIONS["discrete"]), weight=1.0, target=0.01), by_hand("terminated")
    rollout.values = rollout.next_values = np.zeros((T, B), np.float32)
    method.own.moved = moved
    method.targets(rollout)
    assert (method.own.weight, method.own.moved) == (weight, None)


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_an_end_zeroes_the_bootstrap_and_a_cut_does_not(kind: str) -> None:
    """Row 1 ends: with λ = 0.95 and values of 1 everywhere its advantage is r + γ · (0 or 1) - 1."""
    method, rollout = made(vectors(D, ACTIONS["discrete"])), by_hand(kind)
    rollout.values = rollout.next_values = np.ones((T, B), np.float32)
    policy = method.targets(rollout).policy
    bootstrap = 0.0 if kind == "terminated" else 0.99
    np.testing.assert_allclose(policy.advantages[1], rollout.rewards[1] + bootstrap - 1.0, rtol=1e-5)


def test_it_learns_in_real_daemons(tmp_path: Path) -> None:
    for name in ("corridor.py", "kl_penalty.py", "kl_penalty.toml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    allowed = ("--allow-module", "corridor", "--allow-module", "kl_penalty")
    with Launcher(tmp_path) as launcher:
        run_dir = launcher.folder / "run"
        learner = launcher.start(
            "learner", "run", tmp_path / "kl_penalty.toml", *allowed, "--http", "off", "--json", "--run-dir", run_dir
        )
        assert learner.wait() == 0, learner.story()
        result = json.loads((run_dir / "result.json").read_text())
        assert result["solved"]
        assert result["env_steps"] >= 1000
        score = launcher.command("actor", "evaluate", run_dir, "--episodes", 10, "--json", *allowed)
        assert score.events or score.lines, score.story()
        refused = launcher.command("actor", "evaluate", run_dir, "--allow-module", "corridor")
        assert "--allow-module kl_penalty would" in refused.story()
