"""Files of policies compute what the policy does, as other programs read them: onnxruntime, and torch without us."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from numpy.typing import NDArray

from actor.algorithms.distributions import LOG_DEVIATIONS, masked
from actor.evaluation import portable
from actor.evaluation.policy import Policy
from protocol.errors import UserError
from protocol.moments import Moments
from tests.actor.evaluation import nets
from tests.actor.evaluation.test_allowed import HELD
from tests.actor.evaluation.test_policy import (
    EVERYTHING,
    FLOATS,
    GREY,
    IMAGE,
    SEEN,
    VECTOR,
    player_of,
    policy_of,
    row_of,
    several,
)

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of reading such a file

Arrays = dict[str, NDArray[Any]]
ROWS = 6
NARROW = Box(np.array([-0.1, 0.0, 100.0]), np.array([10.0, 1.0, 300.0]), dtype=np.float64)
FREE = Box(-np.inf, np.inf, (2, 1), np.float32)
FAR = Moments(10, np.array([50.0, 0.1, -1.0, 0.0]), np.array([400.0, 10.0, 0.09, 10.0]))
OF_PIXELS = Moments(10, np.array([100.0, 0.0]), np.array([9000.0, 10.0]))


class Case(NamedTuple):
    """A policy. exported: by ONNX too, which takes a second or two. masked: whether the file takes masks."""

    observations: Space[Any]
    actions: Space[Any]
    changes: dict[str, Any]
    moments: Moments | None = None
    exported: bool = False
    masked: bool = False


def own(name: str) -> dict[str, Any]:
    return {"network": f"{nets.MODULE}:{name}"}


NORMAL = {"normalize_observations": True}
FLOAT = {"precision": "fp32"}
OF_BESIDE = Moments(10, np.array([50.0, 0.1, -1.0, 0.3, 0.3, 0.4, 0.0]), np.array([400.0, 10.0, 0.09, 2, 2, 2, 10.0]))

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
    "norms": Case(VECTOR, FREE, {"layer_norm": True, "hidden": (8, 7)}, FAR, True),
    "one trunk": Case(VECTOR, NARROW, {"shared_trunk": True}, FAR),
    "an encoder of one's own": Case(VECTOR, Discrete(3), own("Normed") | {"memory": "lstm"}, FAR, True),
    "a network of one's own": Case(VECTOR, NARROW, own("Attentive"), FAR, True),
    "a network for parts": Case(SEEN, MultiDiscrete([2, 3]), own("Places") | NORMAL, OF_BESIDE, True),
    "own pixels": Case(Box(0, 255, (6, 7, 3), np.uint8), Discrete(3), own("Flat"), OF_PIXELS),
    "an image and numbers": Case(SEEN, EVERYTHING, NORMAL | FLOAT, OF_BESIDE, True),
    "numbers and an image, hidden": Case(
        Dict(a=FREE, eye=FLOATS), Discrete(2), FLOAT | {"hidden_observations": (1,), "memory": "gru"}
    ),
    "grey": Case(GREY, Discrete(3), FLOAT, None, True),
    "floats": Case(FLOATS, Discrete(3), FLOAT),
    "everything": Case(VECTOR, EVERYTHING, {}, FAR, True),
    "bits": Case(VECTOR, MultiBinary((2, 2)), {}),
    "whole numbers": Case(VECTOR, Box(-3, 4, (2, 2), np.int16), {}, None, True),
    "a Dict of one": Case(VECTOR, Dict(only=Discrete(3, start=1)), {}),
    "masked": Case(VECTOR, MultiDiscrete([2, 3], start=[1, 0]), {}, FAR, True, True),
    "masked, with a memory": Case(VECTOR, EVERYTHING, {"memory": "gru"}, None, True, True),
    "masked values": Case(VECTOR, Discrete(4), {"algorithm": "n_step_q"}, None, False, True),
    "masked within": Case(HELD, Discrete(4), {}, None, False, True),
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


def named_arrays(space: Space[Any], structure: Any, name: str = "action") -> Arrays:
    """The arrays of a batch of actions as files name them."""
    if isinstance(space, Dict | Tuple):
        parts = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        return {
            key: array
            for place, inner in parts
            for key, array in named_arrays(inner, structure[place], f"{name}.{place}").items()
        }
    return {name: structure}


def masks_for(policy: Policy, generator: np.random.Generator) -> NDArray[np.bool_]:
    """At random, one of each choice at least: bool [ROWS, L]."""
    parts = []
    for size in policy.spaces.actions.choices:
        part = generator.random((ROWS, size)) < 0.5
        part[np.arange(ROWS), generator.integers(size, size=ROWS)] = True
        parts.append(part)
    return np.concatenate(parts, 1)


def compare(policy: Policy, case: Case, run: Any) -> None:
    """Three steps, with whatever is remembered. run: (inputs) -> outputs by name."""
    generator, actions = np.random.default_rng(2), policy.spaces.actions
    player, size = player_of(case.observations, case.actions, case.moments, **case.changes), policy_state(policy)
    player.reset_memory(ROWS)
    state = {"state": np.zeros((ROWS, size), np.float32)} if size else {}
    for number in range(3):
        _, batch = several(case.observations, ROWS * (number + 1))
        batch = row_of(batch, slice(-ROWS, None))
        mask = masks_for(policy, generator) if case.masked else None
        given = {} if mask is None else {"mask": policy.flatten_mask(mask, batch=True)}
        seen = policy.flatten(batch, batch=True)
        found: Mapping[str, NDArray[Any]] = run({"observation": seen, **state, **given})
        outputs = player.outputs(seen, np.zeros(ROWS, np.bool_))
        if actions.choices:
            told = found["action_values" if "algorithm" in case.changes else "logits"]
            np.testing.assert_allclose(told, masked(outputs[:, : actions.logits], mask), rtol=1e-5, atol=1e-5)
        if actions.low:
            mean, free = np.split(outputs[:, actions.logits :], 2, 1)
            np.testing.assert_allclose(found["mean"], mean, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(found["log_deviation"], np.clip(free, *LOG_DEVIATIONS), rtol=1e-5, atol=1e-5)
        for name, array in named_arrays(case.actions, policy.act(batch, mask=mask, batch=True)).items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert array.dtype.kind == "f" or (found[name] == array).all()
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)
        if state:
            state = {"state": found["next_state"]}


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
    path = policy.to_torchscript(tmp_path / "policy.pt", mask=CASES[name].masked)
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
    session = onnxruntime.InferenceSession(policy.to_onnx(tmp_path / "policy.onnx", mask=CASES[name].masked))
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


def test_each_part_of_an_action_has_a_name(tmp_path: Path) -> None:
    module = read(policy_of(VECTOR, EVERYTHING).to_torchscript(tmp_path / "policy.pt", mask=False))
    arrays = {"action.aim", "action.bits", "action.move", "action.rest.0", "action.rest.1"}
    assert set(module(torch.zeros(4, 3))) == arrays | {"logits", "mean", "log_deviation"}


def test_a_file_takes_masks_where_the_environment_tells_them_or_where_it_is_asked(tmp_path: Path) -> None:
    held, plain = policy_of(HELD, Discrete(4)), policy_of(VECTOR, Discrete(4))
    rows, mask = torch.zeros(2, 3), torch.eye(4, dtype=torch.bool)[:2]
    assert read(held.to_torchscript(tmp_path / "held.pt"))(rows, mask)["action"].tolist() == [0, 1]
    assert read(plain.to_torchscript(tmp_path / "plain.pt"))(rows)["action"].shape == (2,)
    with pytest.raises(UserError, match="mask=True: a mask says which choices are allowed, and actions of"):
        policy_of(VECTOR, FREE).to_torchscript(tmp_path / "no.pt", mask=True)


def test_names_of_actions_that_a_file_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    inner: Space[Any] = Dict({"a.b": Discrete(2), "a": Dict(b=Discrete(2))})
    with pytest.raises(UserError, match="dots in their names make two the same"):
        policy_of(VECTOR, inner).to_torchscript(tmp_path / "policy.pt")


@needs_onnx
def test_a_network_whose_way_depends_on_what_it_sees_is_refused(tmp_path: Path) -> None:
    policy = policy_of(VECTOR, Discrete(2), **own("Fickle"))
    with pytest.raises(UserError, match=r"as TorchScript: what it computes depends on the size of the batch or on"):
        policy.to_torchscript(tmp_path / "policy.pt")
    with pytest.raises(UserError, match="as ONNX: what it computes depends on the size of the batch or on"):
        policy.to_onnx(tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


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
