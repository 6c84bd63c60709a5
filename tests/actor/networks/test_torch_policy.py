"""Convolutions and memories: held to plain modules written as the papers draw them, and to finite differences."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from actor.config import ActorSettings
from actor.networks.build import build_policy
from actor.networks.encoders import precision_of
from actor.networks.flat import FlatParameters
from actor.networks.policy import Inputs
from actor.networks.torch_policy import TorchPolicy
from actor.spaces import Actions, Spaces
from tests.actor.counter import box, discrete, vectors

T, B, D = 6, 3, 5
THREE = discrete(3)
PONG = Spaces((4, 84, 84), "uint8", discrete(6))
SMALL_IMAGE = (4, 41, 38)  # neither side fits the strides
Memory = Literal["lstm", "gru"]
Network = Literal["a3c", "nature"]


def network(spaces: Spaces, seed: int = 0, **options: Any) -> tuple[TorchPolicy, FlatParameters]:
    policy, flat = build_policy(ActorSettings(**{"precision": "fp32", **options}), spaces, seed)
    assert isinstance(policy, TorchPolicy)
    return policy, flat


def reals(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def no_state(rows: int) -> np.ndarray:
    return np.zeros((rows, 0), np.float32)


def by(policy: TorchPolicy, rows: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Seeded output_gradients of so many rows."""
    return reals(rows, policy.outputs, seed=7), reals(rows, seed=8) if policy.has_values else None


def gradient_of(policy: TorchPolicy, flat: FlatParameters, inputs: Inputs, output_gradients: Any) -> np.ndarray:
    flat.gradient[:] = 9.0  # it is overwritten
    *_, tape = policy.forward_pass(inputs)
    policy.backward_pass(tape, *output_gradients)
    return flat.gradient.copy()


class PlainImage(nn.Module):
    """The network as the papers draw it, channels first and strides in the convolutions, with given weights."""

    def __init__(self, policy: TorchPolicy, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        self.weights = nn.ParameterList([p.detach().clone() for p in policy.parameters()])

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor | None]:
        weights = list(self.weights)
        features = seen.float() / 255.0
        for stride in self.strides:
            features = functional.relu(functional.conv2d(features, weights.pop(0), weights.pop(0), stride))
        features = features.permute(0, 2, 3, 1).flatten(1)  # in this order the policy keeps the columns
        features = functional.relu(functional.linear(features, weights.pop(0), weights.pop(0)))
        outputs = functional.linear(features, weights.pop(0), weights.pop(0))
        return outputs, functional.linear(features, weights.pop(0), weights.pop(0)).squeeze(1) if weights else None

    def gradient(self, seen: Tensor, output_gradients: Any) -> np.ndarray:
        ends, pulls = self(seen), [None if slope is None else torch.from_numpy(slope) for slope in output_gradients]
        torch.autograd.backward([e for e in ends if e is not None], [p for p in pulls if p is not None])
        return torch.cat([p.grad.flatten() for p in self.weights if p.grad is not None]).numpy()


STRIDES: dict[Network, tuple[int, ...]] = {"a3c": (4, 2), "nature": (4, 2, 1)}


@pytest.mark.parametrize("name", ["a3c", "nature"])
@pytest.mark.parametrize("algorithm", ["a3c", "n_step_q"])
def test_image_passes_are_the_papers_network_and_its_autograd(
    name: Network, algorithm: Literal["a3c", "n_step_q"]
) -> None:
    policy, flat = network(Spaces(SMALL_IMAGE, "uint8", THREE), network=name, algorithm=algorithm)
    plain, seen = PlainImage(policy, STRIDES[name]), images(5, *SMALL_IMAGE)
    inputs, output_gradients = Inputs(policy.prepare(seen)), by(policy, 5)
    outputs, values, _ = policy.forward_pass(inputs)
    expected, expected_values = plain(torch.from_numpy(seen))
    np.testing.assert_allclose(outputs, expected.detach(), rtol=1e-4, atol=1e-5)
    if values is not None:
        np.testing.assert_allclose(values, expected_values.detach(), rtol=1e-4, atol=1e-5)
    expected_gradient = plain.gradient(torch.from_numpy(seen), output_gradients)
    scale = np.abs(expected_gradient).max()
    np.testing.assert_allclose(
        gradient_of(policy, flat, inputs, output_gradients), expected_gradient, atol=1e-5 * scale
    )


@pytest.mark.parametrize("name", ["a3c", "nature"])
def test_channels_last_and_channels_first_are_the_same_network(name: Network) -> None:
    first, flat = network(Spaces(SMALL_IMAGE, "uint8", THREE), network=name)
    height_width_channels = (*SMALL_IMAGE[1:], SMALL_IMAGE[0])
    last, flat_last = network(Spaces(height_width_channels, "uint8", THREE), network=name)
    assert flat.layout() == flat_last.layout()
    np.testing.assert_array_equal(flat.vector(), flat_last.vector())
    seen = images(4, *SMALL_IMAGE)
    inputs = Inputs(first.prepare(seen)), Inputs(last.prepare(np.ascontiguousarray(seen.transpose(0, 2, 3, 1))))
    np.testing.assert_allclose(first.forward_pass(inputs[0])[0], last.forward_pass(inputs[1])[0], atol=1e-5)
    gradients = gradient_of(first, flat, inputs[0], by(first, 4)), gradient_of(last, flat_last, inputs[1], by(last, 4))
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-4 * np.abs(gradients[0]).max())


@pytest.mark.parametrize(("name", "hidden"), [("a3c", 676_144), ("nature", 1_684_128)])
def test_parameters_of_the_papers_networks_for_pong(name: Network, hidden: int) -> None:
    """Layers as published; on top of them six logits and a value, with a bias each."""
    sizes = {"a3c": (16, 8, 32, 4, 9 * 9, 256), "nature": (32, 8, 64, 4, 7 * 7, 512)}[name]
    one, k1, two, k2, places, width = sizes
    counted = (4 * k1 * k1 + 1) * one + (one * k2 * k2 + 1) * two + (two * places + 1) * width
    counted += (two * 3 * 3 + 1) * two if name == "nature" else 0
    assert counted == hidden
    _, flat = network(PONG, network=name)
    assert flat.layout().length == hidden + (width + 1) * (6 + 1)


@pytest.mark.parametrize("options", [{"network": "a3c"}, {"network": "nature"}, {"memory": "gru"}, {}])
def test_exposed_bytes_are_the_network_at_normalised_pixels(options: dict[str, Any]) -> None:
    """Against the same weights that see parts of 255: of bytes that are 255 · scale · (byte − mean)."""
    spaces, settings = Spaces(SMALL_IMAGE, "uint8", THREE), ActorSettings(**{"precision": "fp32", **options})
    policy, flat = build_policy(settings, spaces, 0)
    plain, flat_plain = build_policy(settings, spaces, 0)
    dark = np.random.default_rng(0).integers(0, 100, (6, *SMALL_IMAGE), np.uint8)
    assert policy.sees_bytes
    policy.set_pixel_normalization(-20.0, 2.0 / 255.0)
    shown = policy.prepare(dark), plain.prepare(2 * (dark + 20))
    state = np.zeros((6, policy.state_size), np.float32)
    outputs, values = policy.act(shown[0], state.copy())
    expected, expected_values = plain.act(shown[1], state.copy())
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-5)
    if values is not None and expected_values is not None:
        np.testing.assert_allclose(values, expected_values, rtol=1e-3, atol=1e-4)
    memory = (state, np.zeros((1, 6), np.bool_)) if policy.state_size else (None, None)
    output_gradients = reals(6, policy.outputs, seed=7), reals(6, seed=8)
    for made, seen in zip((policy, plain), shown, strict=True):
        *_, tape = made.forward_pass(Inputs(seen[None] if policy.state_size else seen, *memory))
        made.backward_pass(tape, *output_gradients)
    pulls = flat.gradient, flat_plain.gradient
    np.testing.assert_allclose(*pulls, atol=1e-3 * np.abs(pulls[1]).max())


def test_a_new_exposure_reaches_the_weights_that_acting_keeps() -> None:
    policy, _ = network(Spaces(SMALL_IMAGE, "uint8", THREE), network="a3c")
    seen = policy.prepare(images(2, *SMALL_IMAGE))
    policy.weights_changed()
    _, before = policy.act(seen, no_state(2))
    policy.set_pixel_normalization(100.0, 0.02)
    _, values = policy.act(seen, no_state(2))
    _, expected, _ = policy.forward_pass(Inputs(seen))
    assert before is not None
    assert values is not None
    assert expected is not None
    assert not np.allclose(before, values)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_close_to_float32() -> None:
    """Eight bits of mantissa, through four layers: within a few percent, and in nearly the same direction."""
    seen = images(16, *SMALL_IMAGE)
    answers, gradients = [], []
    for precision in ("fp32", "bf16"):
        policy, flat = network(Spaces(SMALL_IMAGE, "uint8", THREE), network="nature", precision=precision)
        inputs = Inputs(policy.prepare(seen))
        answers.append(np.asarray(policy.forward_pass(inputs)[1]))
        gradients.append(gradient_of(policy, flat, inputs, by(policy, 16)))
    assert not np.array_equal(answers[0], answers[1])
    np.testing.assert_allclose(answers[1], answers[0], atol=0.03 * np.abs(answers[0]).max())
    one, other = (vector.astype(np.float64) / np.linalg.norm(vector) for vector in gradients)
    assert one @ other > 0.99
    assert (precision_of("fp32"), precision_of("bf16")) == (torch.float32, torch.bfloat16)


def test_converted_weights_are_made_anew_when_acting_begins() -> None:
    policy, flat = network(Spaces(SMALL_IMAGE, "uint8", THREE), network="a3c")
    seen = policy.prepare(images(2, *SMALL_IMAGE))
    policy.weights_changed()
    policy.act(seen, no_state(2))
    flat.load(reals(flat.layout().length) * np.float32(0.1))
    policy.weights_changed()
    outputs, values = policy.act(seen, no_state(2))
    expected, expected_values, _ = policy.forward_pass(Inputs(seen))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    assert values is not None
    assert expected_values is not None
    np.testing.assert_allclose(values, expected_values, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(policy.values(seen, no_state(2)), values)


def test_names_of_the_parameters() -> None:
    reals_out: Actions = box((-1.0,), (1.0,))
    _, flat = network(Spaces(SMALL_IMAGE, "uint8", reals_out), network="a3c", memory="lstm", memory_size=8)
    assert {entry.name: entry.shape for entry in flat.layout().entries} == {
        "log_deviations": (1,),
        "encoder.layers.0.weight": (16, 4, 8, 8),
        "encoder.layers.0.bias": (16,),
        "encoder.layers.1.weight": (32, 16, 4, 4),
        "encoder.layers.1.bias": (32,),
        "encoder.layers.2.weight": (256, 32 * 3 * 3),
        "encoder.layers.2.bias": (256,),
        "memory.weight_ih": (32, 256),
        "memory.weight_hh": (32, 8),
        "memory.bias_ih": (32,),
        "memory.bias_hh": (32,),
        "policy.weight": (1, 8),
        "policy.bias": (1,),
        "value.weight": (1, 8),
        "value.bias": (1,),
    }


@pytest.mark.parametrize("options", [{"network": "a3c"}, {"memory": "lstm"}, {"memory": "gru"}])
def test_first_weights_follow_from_the_seed_alone(options: dict[str, Any]) -> None:
    spaces = Spaces(SMALL_IMAGE, "uint8", THREE) if "network" in options else vectors(D, THREE)
    before = torch.get_rng_state()
    first, again, other = (network(spaces, seed, **options)[1].vector() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_recurrent_weights_are_orthogonal_gate_by_gate() -> None:
    policy, _ = network(vectors(D, THREE), memory="lstm", memory_size=4)
    assert policy.memory is not None
    for gate in torch.split(policy.memory.weight_hh.detach(), 4):
        np.testing.assert_allclose(gate @ gate.T, np.eye(4), atol=1e-5)


STARTS = np.zeros((T, B), np.bool_)
STARTS[0, 0] = STARTS[2, 1] = STARTS[3, 1] = STARTS[5, 2] = True


def recurrent(memory: Memory, seed: int = 0, **options: Any) -> tuple[TorchPolicy, FlatParameters]:
    policy, flat = network(vectors(D, THREE), seed, memory=memory, memory_size=4, hidden=(6,), **options)
    flat.load(reals(flat.layout().length, seed=3) * np.float32(0.5))
    return policy, flat


def sequence(memory: Memory) -> Inputs:
    size = 8 if memory == "lstm" else 4
    return Inputs(reals(T, B, D), reals(B, size, seed=1) * np.float32(0.5), STARTS)


def torch_cell(memory: Memory, policy: TorchPolicy, inputs: Inputs) -> Tensor:
    """What torch's own whole-sequence modules read, each episode by itself: features [T, B, memory_size]."""
    assert policy.memory is not None
    assert inputs.state is not None
    assert inputs.starts is not None
    whole: Any = (nn.LSTM if memory == "lstm" else nn.GRU)(6, 4)
    for name, parameter in policy.memory.named_parameters():
        getattr(whole, f"{name}_l0").data.copy_(parameter.data)
    features = policy.encoder(torch.from_numpy(inputs.observations).flatten(0, 1)).detach().unflatten(0, (T, B))
    read = torch.zeros(T, B, 4)
    for b in range(B):
        held = torch.from_numpy(inputs.state[b])
        marks = [0, *(t for t in range(1, T) if inputs.starts[t, b]), T]
        for begin, end in itertools.pairwise(marks):
            if inputs.starts[begin, b]:
                held = torch.zeros_like(held)
            parts = tuple(part.reshape(1, 1, 4).contiguous() for part in torch.split(held, 4))
            out, _ = whole(features[begin:end, b : b + 1], parts if memory == "lstm" else parts[0])
            read[begin:end, b] = out[:, 0].detach()
    return read


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_a_sequence_is_what_torch_makes_of_its_episodes(memory: Memory) -> None:
    policy, _ = recurrent(memory)
    inputs = sequence(memory)
    expected, expected_values = policy.heads(torch_cell(memory, policy, inputs).flatten(0, 1))
    outputs, values, _ = policy.forward_pass(inputs)
    np.testing.assert_allclose(outputs, expected.detach(), atol=1e-5)
    assert expected_values is not None
    assert values is not None
    np.testing.assert_allclose(values, expected_values.detach(), atol=1e-5)


def acted(policy: TorchPolicy, inputs: Inputs, steps: slice, state: np.ndarray) -> np.ndarray:
    """Outputs of acting row by row, as the collector does; state is left as it is afterwards."""
    assert inputs.starts is not None
    outputs = []
    for seen, starts in zip(inputs.observations[steps], inputs.starts[steps], strict=True):
        state[starts] = 0.0
        outputs.append(policy.act(seen, state)[0])
    return np.stack(outputs)


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_a_sequence_is_what_acting_was_step_by_step_and_over_a_border(memory: Memory) -> None:
    policy, _ = recurrent(memory)
    inputs = sequence(memory)
    assert inputs.state is not None
    assert inputs.starts is not None
    state = inputs.state.copy()
    first = acted(policy, inputs, slice(0, 4), state)
    between = state.copy()
    second = acted(policy, inputs, slice(4, T), state)
    whole, _, _ = policy.forward_pass(inputs)
    rest, _, _ = policy.forward_pass(Inputs(inputs.observations[4:], between, inputs.starts[4:]))
    np.testing.assert_allclose(np.concatenate([first, second]).reshape(T * B, 3), whole, atol=1e-6)
    np.testing.assert_allclose(rest, second.reshape(-1, 3), atol=1e-6)
    assert not np.allclose(between, 0)


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_values_leave_the_memory_as_it_is(memory: Memory) -> None:
    policy, _ = recurrent(memory)
    inputs = sequence(memory)
    assert inputs.state is not None
    kept = inputs.state.copy()
    values = policy.values(inputs.observations[0], inputs.state)
    np.testing.assert_array_equal(inputs.state, kept)
    np.testing.assert_array_equal(policy.act(inputs.observations[0], kept)[1], values)


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_the_gradient_through_time_is_finite_differences(memory: Memory) -> None:
    """In float64, of a random combination of every output and value; a few parameters of each array."""
    policy, flat = recurrent(memory)
    inputs, output_gradients = sequence(memory), by(policy, T * B)
    ours = gradient_of(policy, flat, inputs, output_gradients)
    policy.double()
    assert inputs.state is not None
    wide = Inputs(inputs.observations.astype(np.float64), inputs.state.astype(np.float64), inputs.starts)

    def total() -> float:
        outputs, values, _ = policy.forward_pass(wide)
        assert values is not None
        return float((outputs * output_gradients[0]).sum() + (values * output_gradients[1]).sum())

    offset, step = 0, 1e-6
    for parameter in policy.parameters():
        flat_view = parameter.data.view(-1)
        for index in {0, len(flat_view) // 2, len(flat_view) - 1}:
            middle = flat_view[index].item()
            flat_view[index] = middle + step
            above = total()
            flat_view[index] = middle - step
            slope = (above - total()) / (2 * step)
            flat_view[index] = middle
            assert ours[offset + index] == pytest.approx(slope, rel=1e-3, abs=1e-4)
        offset += len(flat_view)


@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_nothing_crosses_an_episodes_start(memory: Memory) -> None:
    """Environment 1 starts anew at row 3: what came before moves neither its outputs nor their gradient."""
    policy, flat = recurrent(memory)
    inputs = sequence(memory)
    assert inputs.state is not None
    later = np.zeros((T, B, 3), np.float32)
    later[3:, 1] = 1.0
    output_gradients = later.reshape(-1, 3), np.zeros(T * B, np.float32)
    outputs, gradient = policy.forward_pass(inputs)[0], gradient_of(policy, flat, inputs, output_gradients)
    seen, state = inputs.observations.copy(), inputs.state.copy()
    seen[:3, 1], state[1] = 5.0, 5.0
    changed = Inputs(seen, state, STARTS)
    after = policy.forward_pass(changed)[0].reshape(T, B, 3)
    np.testing.assert_array_equal(after[3:, 1], outputs.reshape(T, B, 3)[3:, 1])
    assert not np.allclose(after[:3, 1], outputs.reshape(T, B, 3)[:3, 1])
    np.testing.assert_allclose(gradient_of(policy, flat, changed, output_gradients), gradient, atol=1e-6)


def test_a_memory_behind_convolutions_sees_whole_sequences_of_images() -> None:
    policy, flat = network(Spaces(SMALL_IMAGE, "uint8", THREE), network="a3c", memory="gru", memory_size=4)
    seen = policy.prepare(images(4, *SMALL_IMAGE)).reshape(2, 2, *policy.input_shape)
    starts = np.array([[True, True], [False, True]])
    inputs = Inputs(seen, np.zeros((2, 4), np.float32), starts)
    outputs, _, _ = policy.forward_pass(inputs)
    state = np.zeros((2, 4), np.float32)
    np.testing.assert_allclose(acted(policy, inputs, slice(0, 2), state).reshape(4, 3), outputs, atol=1e-5)
    assert np.abs(gradient_of(policy, flat, inputs, by(policy, 4))).max() > 0


def test_without_hidden_layers_a_memory_sees_the_observations_themselves() -> None:
    _, flat = network(vectors(D, THREE), memory="gru", memory_size=4, hidden=())
    assert [entry.name for entry in flat.layout().entries if entry.name.startswith("encoder")] == []
    assert {e.name: e.shape for e in flat.layout().entries}["memory.weight_ih"] == (12, D)


class PlainLayers(nn.Module):
    """One hidden layer for outputs and values, with given weights by their names."""

    def __init__(self, flat: FlatParameters, *, norms: bool, shared: bool) -> None:
        super().__init__()
        runs, entries = flat.layout().slices(), flat.layout().entries
        self.norms, self.shared = norms, shared
        self.weights = {
            entry.name: torch.tensor(flat.theta[runs[entry.name]].reshape(entry.shape), requires_grad=True)
            for entry in entries
        }

    def features(self, seen: Tensor, which: str) -> Tensor:
        weights = self.weights
        inner = seen @ weights[f"{which}.trunk.weight0"].T + weights[f"{which}.trunk.bias0"]
        if self.norms:
            centred = inner - inner.mean(1, keepdim=True)
            inner = centred / torch.sqrt(centred.square().mean(1, keepdim=True) + 1e-5)
            inner = inner * weights[f"{which}.trunk.norm_weight0"] + weights[f"{which}.trunk.norm_bias0"]
        return torch.tanh(inner)

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        weights, beside = self.weights, "encoder" if self.shared else "value_encoder"
        outputs = self.features(seen, "encoder") @ weights["policy.weight"].T + weights["policy.bias"]
        values = self.features(seen, beside) @ weights["value.weight"].T + weights["value.bias"]
        return outputs, values.squeeze(1)

    def gradient(self) -> np.ndarray:
        return torch.cat([weight.grad.flatten() for weight in self.weights.values() if weight.grad is not None]).numpy()


@pytest.mark.parametrize(("norms", "shared"), [(True, False), (True, True), (False, True)])
def test_layers_have_norms_and_are_shared_where_settings_say_so(norms: bool, shared: bool) -> None:
    policy, flat = network(vectors(D, THREE), hidden=(7,), network="mlp", layer_norm=norms, shared_trunk=shared)
    flat.theta += 0.1 * reals(flat.layout().length, seed=2)  # no norm's weight is 1 by accident
    assert policy.values_while_acting is shared
    plain, seen, (slopes, value_slopes) = PlainLayers(flat, norms=norms, shared=shared), reals(4, D), by(policy, 4)
    expected, expected_values = plain(torch.from_numpy(seen))
    outputs, values, tape = policy.forward_pass(Inputs(seen))
    assert values is not None
    assert value_slopes is not None
    np.testing.assert_allclose(outputs, expected.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values, expected_values.detach(), rtol=1e-5, atol=1e-6)
    acted, acted_values = policy.act(seen, no_state(4))
    np.testing.assert_array_equal(acted, outputs)
    assert (acted_values is not None) is shared
    np.testing.assert_array_equal(policy.values(seen, no_state(4)), values)
    torch.autograd.backward([expected, expected_values], [torch.from_numpy(slopes), torch.from_numpy(value_slopes)])
    policy.backward_pass(tape, slopes, value_slopes)
    np.testing.assert_allclose(flat.gradient, plain.gradient(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"memory": "gru"}, {"algorithm": "n_step_q"}])
def test_norms_go_with_a_memory_and_with_action_values(options: dict[str, Any]) -> None:
    policy, flat = network(vectors(D, THREE), hidden=(7,), network="mlp", layer_norm=True, **options)
    names = [entry.name for entry in flat.layout().entries]
    assert "encoder.trunk.norm_weight0" in names
    assert not any(name.startswith("value_encoder") for name in names)
    assert policy.value_encoder is None


def test_bytes_of_an_mlp_are_normalised_for_both_of_its_trunks() -> None:
    policy, _ = network(Spaces((2, 3, 1), "uint8", THREE), hidden=(7,), network="mlp", layer_norm=True)
    seen = images(4, 2, 3, 1)
    before = policy.values(seen, no_state(4))
    policy.set_pixel_normalization(100.0, 0.02)
    assert not np.array_equal(policy.values(seen, no_state(4)), before)
    np.testing.assert_array_equal(policy.values(seen, no_state(4)), policy.forward_pass(Inputs(seen))[1])
