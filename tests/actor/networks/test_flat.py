"""One vector for all parameters, one for all gradients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from actor.networks.flat import FlatParameters


class Line:
    """Two parameters, and what it was told to adopt."""

    def __init__(self) -> None:
        self.parameters: Mapping[str, np.ndarray] = {
            "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
            "bias": np.array([7.0, 8.0], np.float32),
        }
        self.gradients: Mapping[str, np.ndarray] = {}

    def arrays(self) -> Mapping[str, np.ndarray]:
        return self.parameters

    def adopt(self, parameters: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray]) -> None:
        self.parameters, self.gradients = parameters, gradients


def test_the_layout_names_every_parameter_in_order() -> None:
    entries = FlatParameters(Line()).layout().entries
    assert [(entry.name, entry.shape) for entry in entries] == [("weight", (2, 3)), ("bias", (2,))]


def test_adopting_keeps_the_weights() -> None:
    np.testing.assert_array_equal(FlatParameters(Line()).vector(), np.array([0, 1, 2, 3, 4, 5, 7, 8], np.float32))


def test_loaded_weights_are_what_the_network_computes_with() -> None:
    line = Line()
    FlatParameters(line).load(np.arange(8, dtype=np.float32) * 2)
    assert line.parameters["weight"].tolist() == [[0, 2, 4], [6, 8, 10]]
    assert line.parameters["bias"].tolist() == [12, 14]


def test_loading_copies_and_takes_a_read_only_vector() -> None:
    flat, vector = FlatParameters(Line()), np.arange(8, dtype=np.float32)
    vector.setflags(write=False)
    flat.load(vector)
    flat.theta[:] = 0.0
    assert vector[-1] == 7.0


def test_a_vector_of_another_length_is_refused_and_not_broadcast() -> None:
    with pytest.raises(ValueError, match="shape"):
        FlatParameters(Line()).load(np.zeros(1, np.float32))


def test_the_vector_is_a_copy() -> None:
    flat = FlatParameters(Line())
    flat.vector()[:] = 9.0
    assert not (flat.vector() == 9.0).any()


def test_what_a_backward_pass_writes_is_in_the_flat_gradient() -> None:
    line = Line()
    flat = FlatParameters(line)
    line.gradients["weight"][...] = 2.0
    line.gradients["bias"][...] = 3.0
    assert flat.gradient.tolist() == [2.0] * 6 + [3.0] * 2
