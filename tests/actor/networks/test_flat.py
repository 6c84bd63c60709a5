"""One vector for all parameters, one for all gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from actor.networks.flat import FlatModule


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))


def test_the_layout_names_every_parameter_in_order() -> None:
    entries = FlatModule(small()).layout().entries
    named = [(entry.name, entry.shape) for entry in entries]
    assert named == [("0.weight", (2, 3)), ("0.bias", (2,)), ("2.weight", (1, 2)), ("2.bias", (1,))]


def test_adopting_keeps_the_weights() -> None:
    module = small()
    expected = torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).numpy()
    np.testing.assert_array_equal(FlatModule(module).vector(), expected)


def test_loaded_weights_are_what_the_module_computes_with() -> None:
    flat = FlatModule(small())
    flat.load(np.zeros(11, np.float32))
    flat.theta[-1] = 4.0
    assert flat.module(torch.ones(1, 3)).item() == 4.0


def test_loading_copies_and_takes_a_read_only_vector() -> None:
    flat, vector = FlatModule(small()), np.arange(11, dtype=np.float32)
    vector.setflags(write=False)
    flat.load(vector)
    flat.theta.zero_()
    assert vector[-1] == 10.0


def test_a_vector_of_another_length_is_refused_and_not_broadcast() -> None:
    with pytest.raises(ValueError, match="shape"):
        FlatModule(small()).load(np.zeros(1, np.float32))


def test_the_vector_is_a_copy_and_the_gradient_a_view() -> None:
    flat = FlatModule(small())
    flat.vector()[:] = 7.0
    flat.gradient.fill_(3.0)
    assert not (flat.vector() == 7.0).any()
    assert (flat.gradient_vector() == 3.0).all()


def test_a_plain_backward_pass_writes_into_the_flat_gradient() -> None:
    flat, twin = FlatModule(small()), small()
    twin.load_state_dict(flat.module.state_dict())
    for module in (flat.module, twin):
        module(torch.ones(4, 3)).square().sum().backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in twin.parameters() if parameter.grad is not None])
    np.testing.assert_array_equal(flat.gradient_vector(), expected.numpy())
