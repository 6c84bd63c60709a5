"""Files of policies compute what the policy does, as other programs read them: onnxruntime, and torch without us."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space
from numpy.typing import NDArray

from actor.evaluation import portable
from actor.evaluation.policy import Policy
from protocol.errors import UserError
from protocol.moments import Moments
from tests.actor.evaluation.test_policy import IMAGE, VECTOR, policy_of, several

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of reading such a file

Arrays = dict[str, NDArray[Any]]
ROWS = 6
NARROW = Box(np.array([-0.1, 0.0, 100.0]), np.array([10.0, 1.0, 300.0]), dtype=np.float64)
FREE = Box(-np.inf, np.inf, (2, 1), np.float32)
FAR = Moments(10, np.array([50.0, 0.1, -1.0, 0.0]), np.array([400.0, 10.0, 0.09, 10.0]))
OF_PIXELS = Moments(10, np.array([100.0, 0.0]), np.array([9000.0, 10.0]))


class Case(NamedTuple):
    """A policy. exported: by ONNX too, which takes seconds."""

    observations: Space[Any]
    actions: Space[Any]
    changes: dict[str, Any]
    moments: Moments | None = None
    exported: bool = False


CASES = {
    "normalised, hidden": Case(
        *(VECTOR, Discrete(3, start=5)), {"normalize_observations": True, "hidden_observations": (1,)}, FAR, True
    ),
    "as far as needed": Case(VECTOR, MultiDiscrete([2, 3], start=[1, 0]), {"activation": "relu"}, FAR),
    "parts": Case(Dict(place=Discrete(4, start=2), vector=VECTOR), MultiDiscrete([2, 3], start=[1, 0]), {}, None, True),
    "bounds": Case(VECTOR, NARROW, {"hidden": (8, 8)}, None, True),
    "no bounds": Case(VECTOR, FREE, {"hidden": ()}),
    "values": Case(VECTOR, Discrete(4), {"algorithm": "n_step_q"}),
    "lstm": Case(VECTOR, NARROW, {"memory": "lstm"}, FAR, True),
    "gru": Case(VECTOR, Discrete(3), {"memory": "gru"}),
    "pixels last": Case(IMAGE, Discrete(3), {"network": "a3c", "precision": "fp32"}, OF_PIXELS, True),
    "pixels first": Case(
        Box(0, 255, (2, 37, 41), np.uint8), FREE, {"network": "nature", "precision": "fp32", "memory": "gru"}
    ),
    "a grid": Case(Box(0, 255, (5, 6, 3), np.uint8), Discrete(3), {"network": "grid", "precision": "fp32"}),
    "pixels flattened": Case(Box(0, 255, (3, 3, 3), np.uint8), Discrete(3), {"network": "mlp"}, OF_PIXELS),
}
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra onnx, or onnxruntime, is not installed",
)


def policy_in(case: Case) -> Policy:
    return policy_of(case.observations, case.actions, case.moments, **case.changes)


def read(path: Path) -> Any:
    return torch.jit.load(str(path))  # type: ignore[no-untyped-call]


def expected(policy: Policy, batch: Any, outputs: Mapping[str, Any]) -> Arrays:
    """What our own player says, through numpy."""
    if "logits" not in outputs:
        return {"action": policy.act(batch, batch=True)}
    told = policy.probabilities(batch, batch=True)
    joined = np.concatenate(told if isinstance(told, tuple) else [told], 1)
    return {"action": policy.act(batch, batch=True), "probabilities": joined}


def probabilities(logits: NDArray[Any], sizes: tuple[int, ...]) -> NDArray[Any]:
    parts = np.split(logits, np.cumsum(sizes)[:-1], 1)
    return np.concatenate([np.exp(part) / np.exp(part).sum(1, keepdims=True) for part in parts], 1)


def compare(policy: Policy, case: Case, run: Any) -> None:
    """Three steps, with whatever is remembered. run: (inputs) -> outputs by name."""
    state = {"state": np.zeros((ROWS, policy_state(policy)), np.float32)} if policy_state(policy) else {}
    for number in range(3):
        _, batch = several(case.observations, ROWS * (number + 1))
        batch = last(batch, ROWS)
        found: Mapping[str, NDArray[Any]] = run({"observation": policy.flatten(batch, batch=True), **state})
        ours = expected(policy, batch, found)
        actions = ours["action"]
        assert found["action"].dtype == case.actions.dtype
        assert found["action"].shape == actions.shape
        np.testing.assert_allclose(found["action"], actions, rtol=1e-5, atol=1e-5)
        if "probabilities" in ours:
            shares = probabilities(found["logits"], policy.spaces.actions.sizes)
            np.testing.assert_allclose(shares, ours["probabilities"], atol=1e-5)
        if state:
            state = {"state": found["next_state"]}


def last(batch: Any, count: int) -> Any:
    return {name: part[-count:] for name, part in batch.items()} if isinstance(batch, dict) else batch[-count:]


def policy_state(policy: Policy) -> int:
    """Numbers that the memory holds: gates of a memory of 6."""
    names = [name for name in policy.arrays if name.startswith("memory.weight_hh")]
    if not names:
        return 0
    gates = policy.arrays[names[0]].shape[0] // 6
    return {4: 12, 3: 6}[gates]


@pytest.mark.parametrize("name", CASES)
def test_torchscript_computes_what_the_policy_does(name: str, tmp_path: Path) -> None:
    policy = policy_in(CASES[name])
    path = policy.to_torchscript(tmp_path / "policy.pt")
    module = read(path)

    def run(inputs: Arrays) -> Arrays:
        outputs = module(*(torch.from_numpy(array) for array in inputs.values()))
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    compare(policy, CASES[name], run)


@needs_onnx
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.exported])
def test_onnx_computes_what_the_policy_does(name: str, tmp_path: Path) -> None:
    import onnxruntime

    policy = policy_in(CASES[name])
    session = onnxruntime.InferenceSession(policy.to_onnx(tmp_path / "policy.onnx"))
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        assert [given.name for given in session.get_inputs()] == list(inputs)
        return dict(zip(names, session.run(None, inputs), strict=True))

    compare(policy, CASES[name], run)
    told = session.get_modelmeta().custom_metadata_map
    assert {name: told[name] for name in told if name.startswith("farflung.")} == {
        "farflung.env": policy.env,
        "farflung.version": "7",
    }


def test_a_log_deviation_is_the_one_that_training_drew_with(tmp_path: Path) -> None:
    policy = policy_of(VECTOR, FREE, log_deviation=9.0)
    module = read(policy.to_torchscript(tmp_path / "policy.pt"))
    outputs = module(torch.zeros(4, 3))
    assert outputs["log_deviation"].tolist() == [[2.0, 2.0]] * 4
    assert outputs["mean"].shape == (4, 2)


class Whimsical(portable.Portable):
    """What it computes depends on what it sees in a way that no file can hold."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.examples, self.names = {"observation": torch.zeros(2, 3)}, []

    def forward(self, observation: torch.Tensor, *others: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"action": observation if observation.sum() > 0.0 else -observation}


@needs_onnx
def test_a_network_that_torch_cannot_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="torch cannot write this network as ONNX"):
        portable.write_onnx(tmp_path / "policy.onnx", Whimsical(), {})


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    policy = policy_of(VECTOR, Discrete(2))
    with pytest.raises(UserError, match=r"there is no directory .*nowhere"):
        policy.to_torchscript(tmp_path / "nowhere" / "policy.pt")
    with pytest.raises(UserError, match="cannot be written"):
        policy.to_torchscript(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnx and onnxscript not installed: pip install 'farflung\[onnx\]'"):
        policy_of(VECTOR, Discrete(2)).to_onnx(tmp_path / "policy.onnx")
    monkeypatch.setattr("actor.evaluation.policy.find_spec", lambda name: None)
    with pytest.raises(UserError, match="not installed here: torch"):
        policy_of(VECTOR, Discrete(2)).to_torchscript(tmp_path / "policy.pt")
