"""Networks of a user's own: the two forms against the modules themselves, and what is refused, by name."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from actor.config import ActorSettings
from actor.networks.build import build_policy
from actor.networks.flat import FlatParameters
from actor.networks.policy import Inputs
from actor.networks.torch_policy import TorchPolicy
from actor.spaces import Part, Spaces
from protocol.errors import SettingError
from tests.actor.counter import box, discrete, vectors

ALLOWED = frozenset({"nets_of_a_test"})
THREE = discrete(3)
FIVE = vectors(5, THREE)
NO_STATE = np.zeros((4, 0), np.float32)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[TorchPolicy, FlatParameters]]:
    """Builds the policy of a factory, as if a module had it."""

    def build(factory: Any, spaces: Spaces = FIVE, seed: int = 0, **options: Any) -> tuple[TorchPolicy, FlatParameters]:
        module = types.ModuleType("nets_of_a_test")
        module.net = factory  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "nets_of_a_test", module)
        settings = ActorSettings(**{"network": "nets_of_a_test:net", **options})
        policy, flat = build_policy(settings, spaces, seed, ALLOWED)
        assert isinstance(policy, TorchPolicy)
        return policy, flat

    return build


Build = Callable[..., tuple[TorchPolicy, FlatParameters]]


def encoder(spec: Any, width: int = 7) -> nn.Module:
    return nn.Sequential(nn.Linear(spec.observation_shape[0], width), nn.SiLU())


class Whole(nn.Module):
    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.outputs = nn.Linear(spec.observation_shape[0], spec.outputs)
        self.values = nn.Linear(spec.observation_shape[0], 1) if spec.values else None

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.outputs(seen), None if self.values is None else self.values(seen).squeeze(1)


def reals(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_an_encoder_gets_heads_and_its_parameters_have_names(built: Build) -> None:
    policy, flat = built(encoder, network_options={"width": 9})
    assert [(entry.name, entry.shape) for entry in flat.layout().entries] == [
        ("encoder.network.0.weight", (9, 5)),
        ("encoder.network.0.bias", (9,)),
        ("policy.weight", (3, 9)),
        ("policy.bias", (3,)),
        ("value.weight", (1, 9)),
        ("value.bias", (1,)),
    ]
    seen = reals(4, 5)
    outputs, values = policy.act(seen, NO_STATE)
    features = nn.functional.silu(nn.functional.linear(torch.from_numpy(seen), *list(policy.parameters())[:2]))
    expected, expected_values = policy.heads(features)
    assert expected_values is not None
    np.testing.assert_array_equal(outputs, expected.detach())
    np.testing.assert_array_equal(values, expected_values.detach())


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_an_encoder_has_a_memory_behind_it(built: Build, memory: str) -> None:
    policy, flat = built(encoder, memory=memory, memory_size=4)
    state = np.zeros((4, policy.state_size), np.float32)
    policy.act(reals(4, 5), state)
    assert state.any()
    starts = np.zeros((2, 2), np.bool_)
    *_, tape = policy.forward_pass(Inputs(reals(2, 2, 5), np.zeros((2, policy.state_size), np.float32), starts))
    policy.backward_pass(tape, reals(4, 3), reals(4))
    assert flat.gradient[:35].any()


@pytest.mark.parametrize("algorithm", ["a3c", "n_step_q"])
def test_a_whole_network_gives_what_it_gives(built: Build, algorithm: str) -> None:
    policy, flat = built(Whole, algorithm=algorithm)
    seen = reals(4, 5)
    outputs, values, tape = policy.forward_pass(Inputs(seen))
    weights = [torch.tensor(p.detach().numpy(), requires_grad=True) for p in policy.parameters()]
    ends = [nn.functional.linear(torch.from_numpy(seen), *weights[:2])]
    slopes = [reals(4, 3)]
    if algorithm == "a3c":
        ends.append(nn.functional.linear(torch.from_numpy(seen), *weights[2:]).squeeze(1))
        slopes.append(reals(4))
        assert values is not None
        np.testing.assert_allclose(values, ends[1].detach(), rtol=1e-6)
    else:
        assert values is None
    np.testing.assert_allclose(outputs, ends[0].detach(), rtol=1e-6)
    torch.autograd.backward(ends, [torch.from_numpy(slope) for slope in slopes])
    policy.backward_pass(tape, slopes[0], slopes[1] if len(slopes) > 1 else None)
    expected = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])
    np.testing.assert_allclose(flat.gradient, expected, rtol=1e-5, atol=1e-6)


def test_a_whole_network_says_its_own_deviations(built: Build) -> None:
    _, flat = built(Whole, vectors(5, box((-1.0, -1.0), (1.0, 1.0))))
    assert flat.layout().entries[0].shape == (4, 5)
    assert not [entry for entry in flat.layout().entries if "log_deviations" in entry.name]
    _, beside = built(encoder, vectors(5, box((-1.0, -1.0), (1.0, 1.0))))
    assert "log_deviations" in [entry.name for entry in beside.layout().entries]


def test_first_weights_follow_from_the_seed_and_nobody_elses_numbers_from_them(built: Build) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, third = (built(encoder, seed=seed)[1].vector() for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[:35], third[:35])
    assert torch.equal(torch.get_rng_state(), before)


def test_lazy_layers_have_weights_from_the_seed_too(built: Build) -> None:
    def lazy(spec: Any) -> nn.Module:
        return nn.Sequential(nn.LazyLinear(6), nn.Tanh())

    first, second = (built(lazy, seed=3)[1] for _ in range(2))
    assert first.layout().entries[0].shape == (6, 5)
    np.testing.assert_array_equal(first.vector(), second.vector())


def test_loaded_weights_are_what_it_computes_with(built: Build) -> None:
    policy, flat = built(Whole)
    flat.load(np.zeros(flat.layout().length, np.float32))
    outputs, values = policy.act(reals(4, 5), NO_STATE)
    assert not outputs.any()
    assert values is not None
    assert not values.any()


class Shown(nn.Module):
    """Keeps what it was shown last."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        shapes = spec.observation_shape
        size = sum(map(np.prod, shapes.values())) if isinstance(shapes, dict) else int(np.prod(shapes))
        self.layer, self.shown = nn.Linear(int(size), 3), None

    def forward(self, seen: Any) -> Tensor:
        self.shown = seen
        parts = list(seen.values()) if isinstance(seen, dict) else [seen]
        features: Tensor = self.layer(torch.cat([part.flatten(1) for part in parts], 1))
        return features


def shown(policy: TorchPolicy, rows: np.ndarray) -> Any:
    policy.act(policy.prepare(rows), np.zeros((len(rows), 0), np.float32))
    return policy.encoder.network.shown  # type: ignore[union-attr]


def test_bytes_are_seen_as_the_pixels_statistics_have_them(built: Build) -> None:
    policy, _ = built(Shown, Spaces((2, 3, 4), "uint8", THREE))
    images = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 4), np.uint8)
    np.testing.assert_allclose(shown(policy, images), images / 255, rtol=1e-6)
    policy.set_pixel_normalization(100.0, 0.02)
    np.testing.assert_allclose(shown(policy, images), (images - 100.0) * 0.02, rtol=1e-5, atol=1e-6)
    assert shown(policy, images).dtype == torch.float32


def test_a_matrix_has_its_shape_and_a_dict_its_names(built: Build) -> None:
    rows = reals(4, 6)
    matrix, _ = built(Shown, Spaces((6,), "float32", THREE, parts=(Part("", 0, (2, 3)),)))
    np.testing.assert_array_equal(shown(matrix, rows), rows.reshape(4, 2, 3))
    parts = (Part("image", 0, (2, 2), "uint8", 1 / 255), Part("vector", 4, (2,)))
    both, _ = built(Shown, Spaces((6,), "float32", THREE, parts=parts))
    seen = shown(both, rows)
    np.testing.assert_allclose(seen["image"], rows[:, :4].reshape(4, 2, 2) / 255, rtol=1e-6)
    np.testing.assert_array_equal(seen["vector"], rows[:, 4:])


def gives(answer: Callable[[Tensor, Tensor], Any], **extra: Any) -> Callable[[Any], nn.Module]:
    """A factory of networks with one layer of three numbers and this answer to (observations, the layer's output)."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)
            for name, part in extra.items():
                setattr(self, name, part)

        def forward(self, seen: Tensor) -> Any:
            return answer(seen, self.layer(seen))

    return lambda spec: Net()


class Batched(nn.Module):
    tide: Tensor

    def __init__(self, persistent: bool, grows: bool = False) -> None:
        super().__init__()
        self.layer, self.grows = nn.Linear(5, 3), grows
        self.register_buffer("tide", torch.ones(3), persistent=persistent)

    def forward(self, seen: Tensor) -> Tensor:
        if self.grows:
            self.tide += 0.0 * seen.sum() + 1.0
        features: Tensor = self.layer(seen) + (self.tide * 0.0 if self.grows else self.tide)
        return features


REFUSED: dict[str, tuple[Any, str]] = {
    "no module": (lambda spec: 7, r"must make a torch.nn.Module, and made int"),
    "raises": (lambda spec: 1 / 0, r"making it raised ZeroDivisionError: division by zero \(test_own.py, line \d+\)"),
    "forward raises": (
        lambda spec: nn.Linear(4, 3),
        r"forward of float32 \[1, 5\] raised RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "nothing": (gives(lambda seen, out: None), r"must give features float32 \[1, W\], or a pair.*, and gives None"),
    "flat features": (gives(lambda seen, out: out.sum(1)), r"features float32 \[1, W\], and gives float32 \[1\]"),
    "a triple": (gives(lambda seen, out: (out, out, out)), r"gives tuple of float32 \[1, 3\], float32 \[1, 3\]"),
    "other outputs": (
        gives(lambda seen, out: (out[:, :2], out[:, 0])),
        r"must give a pair: outputs float32 \[1, 3\] and values float32 \[1\], and gives tuple of float32 \[1, 2\]",
    ),
    "wide values": (gives(lambda seen, out: (out, out[:, :1])), r"values float32 \[1\], and gives .*float32 \[1, 1\]"),
    "no values": (gives(lambda seen, out: (out, None)), r"values float32 \[1\], and gives .* None"),
    "rows that are lost": (gives(lambda seen, out: out[:1]), r"features float32 \[3, W\], and gives float32 \[1, 3\]"),
    "width by rows": (
        gives(lambda seen, out: out.repeat(1, len(seen))),
        r"gives features of another width for another number of observations: \[3, 9\]",
    ),
    "doubles": (gives(lambda seen, out: out.double()), r"features in float32 on the CPU, and gives float64 \[1, 3\]"),
    "NaN": (gives(lambda seen, out: out / 0.0 * 0.0), r"gives features that are not finite"),
    "NaN behind": (
        gives(lambda seen, out: torch.sqrt(out * 0.0)),
        r"has a gradient by layer.weight that is not finite",
    ),
    "detached": (gives(lambda seen, out: out.detach()), r"gives features without a gradient"),
    "unused": (
        gives(lambda seen, out: out, spare=nn.Linear(2, 2)),
        r"has parameters that no gradient reaches.*: spare.weight, spare.bias$",
    ),
    "held still": (
        gives(lambda seen, out: out, spare=nn.Parameter(torch.ones(2), requires_grad=False)),
        r"holds still spare \(requires_grad is false\)",
    ),
    "double parameters": (
        gives(lambda seen, out: out, spare=nn.Parameter(torch.ones(2, dtype=torch.float64))),
        r"has the parameter spare of float64 \[2\]; all must be float32",
    ),
    "nothing to learn": (lambda spec: nn.Flatten(), r"has no parameters"),
    "running statistics": (
        lambda spec: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)),
        r"has the buffer 1.running_mean, which no actor would send",
    ),
    "a buffer": (lambda spec: Batched(persistent=True), r"has the buffer tide"),
    "a buffer that grows": (lambda spec: Batched(persistent=False, grows=True), r"changes a buffer in forward"),
    "dropout": (gives(lambda seen, out: nn.functional.dropout(out)), r"gives other numbers for the same observations"),
    "rows that see each other": (
        gives(lambda seen, out: out - out.mean(0)),
        r"gives an observation other numbers beside others than alone: .*batch_first=True",
    ),
    "in place": (gives(lambda seen, out: (seen.mul_(0.5), out)[1]), r"changes its observations in place"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_told_by_name(built: Build, case: str) -> None:
    factory, words = REFUSED[case]
    with pytest.raises(SettingError, match=words) as caught:
        built(factory)
    assert str(caught.value).startswith("actor.network = 'nets_of_a_test:net': ")


def test_a_value_method_wants_no_values(built: Build) -> None:
    with pytest.raises(SettingError, match=r"outputs float32 \[1, 3\] and None, and gives tuple of"):
        built(gives(lambda seen, out: (out, out[:, 0])), algorithm="n_step_q")


def test_a_whole_network_has_no_memory(built: Build) -> None:
    with pytest.raises(SettingError, match=r"actor\.memory = 'gru': must be 'none': nets_of_a_test:net gives outputs"):
        built(Whole, memory="gru")


def test_a_constant_that_is_not_state_is_borne(built: Build) -> None:
    _, flat = built(lambda spec: Batched(persistent=False))
    assert "tide" not in str(flat.layout())


def test_weights_that_are_tied_are_one(built: Build) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.there = nn.Linear(5, 5)
            self.back = nn.Linear(5, 5)
            self.back.weight = self.there.weight

        def forward(self, seen: Tensor) -> Tensor:
            features: Tensor = self.back(self.there(seen))
            return features

    _, flat = built(lambda spec: Tied())
    assert [entry.name for entry in flat.layout().entries][:3] == [
        "encoder.network.there.weight",
        "encoder.network.there.bias",
        "encoder.network.back.bias",
    ]
