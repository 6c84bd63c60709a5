"""The example of a loss by autograd: its derivatives against the built-in loss, and a run that learns.

Knows the example as a user's module, and real daemons.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from actor.algorithms.gradients import Minibatch
from actor.algorithms.methods import ActorCritic, PolicySample
from actor.algorithms.own import declared, make_method
from actor.config import ActorSettings, read_settings
from actor.networks.build import build_policy
from actor.networks.policy import Inputs
from actor.spaces import Spaces
from protocol.errors import SettingError
from tests.actor.algorithms.test_methods import A, B, T, by_hand
from tests.actor.counter import box, discrete, vectors
from tests.documents.markdown import fences
from tests.documents.pages import ROOT, text_of
from tests.loopback.system import Launcher

EXAMPLES = ROOT / "docs/examples"
ALLOWED = frozenset({"autograd_loss"})
D, N = 2, 16


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of examples is the working directory."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    yield
    sys.modules.pop("autograd_loss", None)


def settings_of(**table: object) -> ActorSettings:
    table = {"defaults": 2, "hidden": [4], "entropy_weight": 0.03, "value_weight": 0.7, "clip": 0.15, **table}
    return read_settings(msgspec.msgpack.encode(table), declared(ALLOWED))


def made(spaces: Spaces, **table: object) -> Any:
    settings = settings_of(**table)
    return make_method(settings, spaces, build_policy(settings, spaces, 0)[0], 0, ALLOWED)


@pytest.mark.parametrize("masked", [False, True])
def test_its_gradient_and_statistics_are_those_of_the_loss_that_is_there(masked: bool) -> None:
    rng, spaces = np.random.default_rng(3), vectors(D, discrete(4))
    outputs, values, old, advantages, returns = (
        rng.normal(0, 0.5, shape).astype(np.float32) for shape in ((N, 4), N, N, N, N)
    )
    taken = rng.integers(0, 4, (N, 1))
    masks = rng.random((N, 4)) < 0.5
    np.put_along_axis(masks, taken, True, 1)
    policy = PolicySample(old - 1.4, advantages)
    sample = Minibatch(Inputs(np.zeros((N, D), np.float32)), None, taken, returns, policy, masks if masked else None)
    gradients, stats = made(spaces, algorithm="autograd_loss:AutogradLoss").loss(outputs, values, sample)
    wanted, plain = made(spaces, algorithm="a3c").loss(outputs, values, sample)
    np.testing.assert_allclose(gradients.outputs, wanted.outputs, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradients.values, wanted.values, rtol=1e-5, atol=1e-7)
    for name in ("total", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "information"):
        assert getattr(stats, name) == pytest.approx(getattr(plain, name), rel=1e-5), name
    assert 0.0 < stats.clip_fraction < 1.0
    assert not masked or not gradients.outputs[~masks].any()


def test_it_says_which_actions_it_takes() -> None:
    with pytest.raises(SettingError, match="actions have to be Discrete"):
        made(vectors(D, box((-1.0,), (1.0,))), algorithm="autograd_loss:AutogradLoss")


def test_what_the_page_keeps_beside_targets_comes_with_samples() -> None:
    """The block of docs/algorithms.md that fills Targets.extra."""
    block = next(fence.text for fence in fences(text_of("docs/algorithms.md")) if "_replace(extra=" in fence.text)
    names: dict[str, Any] = {"ActorCritic": ActorCritic}
    exec(block, names)
    settings, spaces = settings_of(algorithm="a3c"), vectors(D, discrete(A))
    method = names["Keeping"](settings, spaces, build_policy(settings, spaces, 0)[0], None)
    rollout = by_hand("terminated")
    rollout.values = rollout.next_values = np.zeros((T, B), np.float32)
    targets = method.targets(rollout)
    assert targets.policy is not None
    np.testing.assert_array_equal(targets.extra["acted"], rollout.outputs[:-1])
    np.testing.assert_array_equal(targets.extra["expected"], rollout.values)


def test_it_learns_in_real_daemons(tmp_path: Path) -> None:
    for name in ("corridor.py", "corridor.toml", "autograd_loss.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    allowed = ("--allow-module", "corridor", "--allow-module", "autograd_loss")
    chosen = ("--set", "actor.algorithm=autograd_loss:AutogradLoss")
    with Launcher(tmp_path) as launcher:
        run_dir = launcher.folder / "run"
        learner = launcher.start(
            "learner", "run", tmp_path / "corridor.toml", *allowed, *chosen, "--http", "off", "--run-dir", run_dir
        )
        assert learner.wait() == 0, learner.story()
        result = json.loads((run_dir / "result.json").read_text())
        assert result["solved"]
        assert result["env_steps"] >= 1000
