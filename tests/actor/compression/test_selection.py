"""What is sent: the largest for certain, random ones without favour, and factors that follow the matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from actor.compression.selection import Density, make_selection
from protocol.codecs.budget import largest
from protocol.codecs.registry import CODECS, Factors, Floats, Sparse, codec
from protocol.codecs.sparse import random_indices

FLOATS = st.floats(-1e6, 1e6, width=32)


def gradients(count: int, length: int) -> list[Floats]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(length).astype(np.float32) for _ in range(count)]


def plain_largest(vector: Floats, k: int) -> list[int]:
    """Sort all by magnitude, first of equals first, and keep what is not zero."""
    order = sorted(range(len(vector)), key=lambda i: (-abs(float(vector[i])), i))
    return sorted(i for i in order[:k] if vector[i] != 0.0)


def chosen(vector: Floats, k: int) -> list[int]:
    return [int(i) for i in largest(vector, k, np.empty_like(vector))]


@given(vector=hnp.arrays(np.float32, st.integers(1, 60), elements=FLOATS), k=st.integers(1, 70))
def test_the_largest_are_chosen(vector: Floats, k: int) -> None:
    assert chosen(vector, k) == plain_largest(vector, k)


@pytest.mark.parametrize("k", [1, 5, 100, 2000, 4999, 5000])
@pytest.mark.parametrize("kind", ["normal", "heavy", "rows", "tied", "mostly_zero"])
def test_the_largest_of_a_long_vector_are_chosen(kind: str, k: int) -> None:
    rng = np.random.default_rng(5)
    vector = rng.standard_normal(5000).astype(np.float32)
    if kind == "heavy":
        vector **= 5
    if kind == "rows":
        vector[::3] *= 100
    if kind == "tied":
        vector = np.sign(vector) * np.float32(0.5)
    if kind == "mostly_zero":
        vector[rng.random(5000) < 0.99] = 0.0
    assert chosen(vector, k) == plain_largest(vector, k)


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_gets_what_it_takes_and_the_residual_stays(name: str) -> None:
    residual = gradients(1, 5000)[0]
    before = residual.copy()
    value = make_selection(codec(name), [(50, 80), (1000,)], 0.01, 0, 2, seed=1).select(residual)
    codec(name).encode(value)
    assert np.array_equal(residual, before)
    if isinstance(value, Sparse):
        assert len(value.indices) == 50
        assert np.array_equal(value.values, residual[value.indices])


def test_random_choices_differ_and_say_their_seed() -> None:
    selection = make_selection(codec("randk_i8"), [(1000,)], 0.1, 0, 1, seed=1)
    first, second = (selection.select(gradients(1, 1000)[0]) for _ in range(2))
    assert isinstance(first, Sparse)
    assert isinstance(second, Sparse)
    assert first.seed is not None
    assert first.indices.tolist() == random_indices(first.seed, 1000, 100).tolist()
    assert first.indices.tolist() != second.indices.tolist()


def test_the_share_falls_geometrically_to_the_density() -> None:
    def shares(warmup: int) -> list[int]:
        density = Density(10_000, 0.01, warmup)
        return [density.next() for _ in range(5)]

    assert shares(0) == [100] * 5
    assert shares(1) == [1000, 100, 100, 100, 100]
    assert shares(3) == [3162, 1000, 316, 100, 100]
    assert Density(10, 0.001, warmup=0).next() == 1


def product(factors: Factors) -> Floats:
    run = factors.runs[0]
    assert isinstance(run, tuple)
    return run[0] @ run[1].T


def test_a_matrix_of_low_rank_is_found_and_others_are_approached() -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.standard_normal((40, 2)) @ rng.standard_normal((2, 60))).astype(np.float32)
    selection = make_selection(codec("lowrank"), [(40, 6, 10)], 1.0, 0, 2, seed=1)
    found = selection.select(matrix.reshape(-1))
    assert isinstance(found, Factors)
    np.testing.assert_allclose(product(found), matrix, atol=1e-4)

    noise = rng.standard_normal((40, 60)).astype(np.float32)
    best = np.sqrt(np.square(np.linalg.svd(noise, compute_uv=False)[2:]).sum())
    errors = []
    for _ in range(60):  # the power method goes on from vector to vector
        found = selection.select(noise.reshape(-1))
        assert isinstance(found, Factors)
        errors.append(float(np.linalg.norm(noise - product(found))))
    assert errors[-1] < errors[0]
    assert errors[-1] < 1.01 * best


def test_what_would_be_larger_as_factors_is_sent_as_it_is() -> None:
    value = make_selection(codec("lowrank"), [(3, 3), (4,), ()], 1.0, 0, 2, seed=1).select(np.ones(14, np.float32))
    assert isinstance(value, Factors)
    assert [len(run) for run in value.runs if not isinstance(run, tuple)] == [9, 4, 1]


@pytest.mark.parametrize("size", [1e-30, 1e15])
def test_the_search_goes_on_whatever_the_size(size: float) -> None:
    matrix = np.outer(np.arange(1, 41), np.arange(1, 61)).astype(np.float32) * np.float32(size)
    selection = make_selection(codec("lowrank"), [(40, 60)], 1.0, 0, 1, seed=1)
    for _ in range(5):
        found = selection.select(matrix.reshape(-1))
        assert isinstance(found, Factors)
        np.testing.assert_allclose(product(found), matrix, rtol=1e-3)


def test_a_matrix_of_zeros_does_not_end_the_search() -> None:
    selection = make_selection(codec("lowrank"), [(20, 20)], 1.0, 0, 1, seed=1)
    selection.select(np.zeros(400, np.float32))
    matrix = np.outer(np.arange(20), np.ones(20)).astype(np.float32)
    found = selection.select(matrix.reshape(-1))
    assert isinstance(found, Factors)
    np.testing.assert_allclose(product(found), matrix, atol=1e-3)
