"""How far θ has moved, from steps and from snapshots, against the θ of every version; and what the memories hold."""

from __future__ import annotations

import numpy as np
import pytest

from learner.optim.drift import SMALL_BYTES, Ring, Trail
from learner.optim.undo import Where
from protocol.codecs.registry import Array, Sparse
from protocol.updates import subtract

P = 12
EVERYWHERE = slice(None)


def steps(kind: str, count: int) -> list[tuple[Array, np.float32]]:
    """Updates that repeat coordinates, each with a factor of its own."""
    random = np.random.default_rng(5)
    made: list[tuple[Array, np.float32]] = []
    for n in range(count):
        values = random.standard_normal(P).astype(np.float32)
        if kind == "sparse" or (kind == "mixed" and n % 2):
            indices = np.sort(random.choice(P, 5, replace=False)).astype(np.int32)
            made.append((Sparse(P, indices, values[:5]), np.float32(random.random())))
        else:
            made.append((values, np.float32(random.random())))
    return made


WHERE: list[Where] = [EVERYWHERE, np.array([0, 3, 11], np.int32), np.array([], np.int32)]


@pytest.mark.parametrize("max_bytes", [1 << 20, 4 * P * 40], ids=["copies", "a log"])
@pytest.mark.parametrize("kind", ["sparse", "dense", "mixed"])
def test_a_trail_knows_the_way_from_every_version_to_the_bit(kind: str, max_bytes: int) -> None:
    theta = np.zeros(P, np.float32)
    trail = Trail(theta, max_bytes, 100)
    history: list[np.ndarray] = []
    for version, (value, factor) in enumerate(steps(kind, 30)):
        history.append(theta.copy())
        trail.note(version, value)
        subtract(theta, value, factor)
        for base, before in enumerate(history):
            for where in WHERE:
                drift = trail.since(base, where)
                assert drift is not None
                np.testing.assert_array_equal(drift, (theta - before)[where])
        assert trail.since(version + 1, EVERYWHERE) is None


def an_update(random: np.random.Generator, length: int) -> Array:
    """Mostly a few coordinates, the first of them far more often than the last; at times nothing, or all."""
    kind = random.random()
    if kind < 0.05:
        return random.standard_normal(length).astype(np.float32)
    share = np.linspace(0.5, 0.0, length) * (kind > 0.2)
    indices = np.flatnonzero(random.random(length) < share).astype(np.int32)
    return Sparse(length, indices, random.standard_normal(len(indices)).astype(np.float32))


@pytest.mark.parametrize("max_lag_updates", [7, 90])
@pytest.mark.parametrize("max_bytes", [1, 900, 9_000, 1 << 20])
def test_whatever_is_asked_is_what_adding_up_the_steps_says(max_bytes: int, max_lag_updates: int) -> None:
    """Against the plain loop over the steps since, in float64; what is held is told by the trail's own length."""
    random, length = np.random.default_rng(max_bytes + max_lag_updates), 40
    theta = np.zeros(length, np.float32)
    trail = Trail(theta, max_bytes, max_lag_updates)
    past: list[np.ndarray] = []
    for version in range(250):
        value = an_update(random, length)
        trail.note(version, value)
        subtract(theta, value, np.float32(0.1))
        past.append(0.1 * (value.dense() if isinstance(value, Sparse) else value).astype(np.float64))
        assert 1 <= len(trail) <= max_lag_updates
        if random.random() < 0.3:
            base = version + 1 - int(random.integers(1, len(trail) + 1))
            where = np.flatnonzero(random.random(length) < random.random()).astype(np.int32)
            drift = trail.since(base, where)
            assert drift is not None
            moved = np.zeros(length)
            for step in past[base:]:
                moved -= step
            np.testing.assert_allclose(drift, moved[where], atol=1e-5)


def test_a_large_network_is_copied_for_no_small_step_whatever_memory_there_is() -> None:
    length = SMALL_BYTES // 4 + 1
    theta = np.zeros(length, np.float32)
    trail = Trail(theta, 1 << 40, 10)
    trail.note(0, Sparse(length, np.array([7], np.int32), np.ones(1, np.float32)))
    assert trail.copies == 0
    trail.note(1, np.ones(length, np.float32))
    assert trail.copies == 1


def test_theta_that_came_from_elsewhere_has_no_past() -> None:
    theta = np.zeros(P, np.float32)
    trail = Trail(theta, 1 << 20, 1000)
    trail.note(3, np.ones(P, np.float32))
    trail.note(9, np.ones(P, np.float32))
    assert len(trail) == 1
    assert trail.since(10, EVERYWHERE) is None


def test_a_ring_knows_the_way_from_what_was_published() -> None:
    theta = np.zeros(P, np.float32)
    ring = Ring(theta, 1 << 20, 1000)
    ring.keep(3, theta.tobytes())
    theta += 2.0
    drift = ring.since(3, np.array([1, 5], np.int32))
    assert drift is not None
    assert drift.tolist() == [2.0, 2.0]


def trail_of(count: int, **bounds: int) -> Trail:
    """Each step moves everything by -1."""
    theta, ones = np.zeros(P, np.float32), np.ones(P, np.float32)
    trail = Trail(theta, **{"max_bytes": 1 << 20, "max_lag_updates": 1000, **bounds})
    for version in range(count):
        trail.note(version, ones)
        subtract(theta, ones, np.float32(1.0))
    return trail


def test_a_trail_is_bounded_by_bytes_and_keeps_the_newest() -> None:
    trail = trail_of(10, max_bytes=3 * 4 * P)
    assert len(trail) == 3
    drift = trail.since(0, EVERYWHERE)  # understated: the oldest steps are forgotten
    assert drift is not None
    assert drift.tolist() == [-3.0] * P
    assert len(trail_of(10, max_bytes=1)) == 1


def test_a_trail_is_bounded_by_the_age_that_is_accepted() -> None:
    assert len(trail_of(30, max_lag_updates=7)) == 7


def ring(*versions: int, max_bytes: int = 1 << 20, max_lag_updates: int = 1000) -> Ring:
    """θ now is 0, and was its version."""
    made = Ring(np.zeros(4, np.float32), max_bytes, max_lag_updates)
    for version in versions:
        made.keep(version, np.full(4, version, "<f4").tobytes())
    return made


def base_of(made: Ring, version: int) -> float | None:
    drift = made.since(version, EVERYWHERE)
    return None if drift is None else -float(drift[0])


def test_a_base_that_is_not_held_is_the_next_one_after_it() -> None:
    made = ring(3, 5, 9)
    assert [base_of(made, version) for version in (0, 3, 4, 5, 6, 9, 10)] == [3, 3, 5, 5, 9, 9, None]


def test_a_ring_is_bounded_by_bytes() -> None:
    made = ring(1, 2, 3, 4, max_bytes=2 * 16)
    assert len(made) == 2
    assert base_of(made, 1) == 3.0
    assert len(ring(1, 2, max_bytes=1)) == 1


def test_a_ring_is_bounded_by_the_age_that_is_accepted() -> None:
    made = ring(0, 5, 10, 15, max_lag_updates=10)
    assert len(made) == 3
    assert base_of(made, 0) == 5.0


def test_a_ring_is_bounded_by_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.optim.drift.RING_VERSIONS", 3)
    assert len(ring(*range(10), max_lag_updates=1_000_000)) == 3


def test_a_version_that_is_kept_twice_is_held_once() -> None:
    assert len(ring(4, 4, 5)) == 2


def test_a_ring_copies_nothing() -> None:
    """What it was shown is what it looks at: a drift follows a buffer that is written later, which ours never are."""
    buffer = bytearray(np.ones(4, "<f4").tobytes())
    made = Ring(np.zeros(4, np.float32), 1 << 20, 10)
    made.keep(1, memoryview(buffer))
    np.frombuffer(buffer, "<f4")[:] = 3.0
    drift = made.since(1, slice(None))
    assert drift is not None
    assert drift.tolist() == [-3.0] * 4
