"""The gap's two remedies against plain loops that look like their papers, and the ring they take old weights from."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from learner.config import LearnerSettings, learner_settings
from learner.events import Job
from learner.optim.delay_compensation import MEMORY, Compensation, GapAware, make_correction
from learner.optim.drift import Trail
from learner.optim.norms import NormCheck
from learner.optim.optimizers import make_optimizer
from learner.optim.parameters import Parameters
from learner.optim.staleness import Rule
from learner.optim.update import Update
from protocol.codecs.registry import CODECS, Array, Factors, Sparse, codec
from protocol.codecs.sparse import random_indices
from protocol.layout import Entry, Layout
from protocol.updates import subtract
from tests.learner.streamed import Streamed

P = 11
RATE = 0.5
LAYOUT = Layout((Entry("w", (P,)),))
GAP = Rule(scaling="gap", learning_rate=RATE)
COMPENSATE = Rule(scaling="compensate", compensation=0.5)
WRITTEN = 2e-4  # what float16 loses of a step of at most 0.4, where a changed update is written anew
LEARNERS_OWN = ["adam", "adamw", "lion", "rmsprop", "rmsprop_paper", "sgd"]


def settings(optimizer: str) -> LearnerSettings:
    return learner_settings({"optimizer": optimizer, "learning_rate": RATE})


class Held:
    """One θ, its optimizer and a remedy; every version is published, and the test remembers each."""

    def __init__(self, rule: Rule, optimizer: str = "preconditioned") -> None:
        self.theta = np.linspace(-1.0, 1.0, P).astype(np.float32)
        self.optimizer = make_optimizer(settings(optimizer), self.theta)
        self.remedy = make_correction(rule, self.optimizer, self.theta)
        self.history: list[np.ndarray] = []
        self.publish()

    def publish(self) -> None:
        self.remedy.remember(len(self.history), self.theta.astype("<f4").tobytes())
        self.history.append(self.theta.astype(np.float64))

    def step(self, value: Array, lag: int, rate: float = RATE) -> float:
        base = len(self.history) - 1 - lag
        scale, _ = self.remedy.step(plain(value), base + lag, base, rate, 1.0)
        self.publish()
        return scale


def plain(value: Array) -> Update:
    """In a codec that loses nothing where it can be: dense float32, or top-k with float16 values."""
    name = "topk_f16" if isinstance(value, Sparse) else "f32"
    encoded = codec(name).encode(value)
    return Update(value, name, encoded.count, encoded.buffer)


def values(kind: str, count: int = 30) -> Iterator[tuple[Array, int]]:
    """(value, lag) in order: dense ones, or sparse ones of three coordinates."""
    random = np.random.default_rng(3)
    for version in range(count):
        numbers = random.standard_normal(P).astype(np.float32)
        indices = np.sort(random.choice(P, 3, replace=False)).astype(np.int32)
        value = Sparse(P, indices, numbers[indices]) if kind == "sparse" else numbers
        yield value, int(random.integers(0, min(version, 6) + 1))


def dense(value: Array) -> np.ndarray:
    return (value.dense() if isinstance(value, Sparse) else value).astype(np.float64)


# gap


def gap_aware(theta: np.ndarray, base: np.ndarray, u: np.ndarray, past: list[list[float]], rate: float) -> np.ndarray:
    """Barkai et al. 2020, parameter-wise: θ_i − rate · u_i / G_i with G_i = abs(θ_i − base_i) / C_i + 1.

    past: the steps at rate 1 that have moved each coordinate, this one included from now on.
    """
    after = theta.copy()
    for i in range(P):
        if u[i] == 0.0:
            continue
        past[i].append(u[i])
        c = RATE * np.sqrt(np.mean(np.square(past[i])))
        after[i] -= rate * u[i] / (abs(theta[i] - base[i]) / c + 1.0)
    return after


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_gap_aware_is_the_paper_s(kind: str) -> None:
    held, past = Held(GAP), [[] for _ in range(P)]  # type: ignore[var-annotated]
    for n, (value, lag) in enumerate(values(kind)):
        rate = RATE / (1 + n)  # annealed: C stands for the largest
        theta, base = held.history[-1], held.history[-1 - lag]
        held.step(value, lag, rate)
        off = WRITTEN if kind == "sparse" else 1e-6
        np.testing.assert_allclose(held.theta, gap_aware(theta, base, dense(value), past, rate), rtol=1e-5, atol=off)


def test_one_update_of_the_usual_size_in_between_halves_the_next() -> None:
    held = Held(GAP)
    ones = np.ones(P, np.float32)
    assert held.step(ones, 0) == 1.0
    assert held.step(ones, 1) == pytest.approx(0.5)
    np.testing.assert_allclose(held.history[1] - held.theta, 0.5 * RATE * ones, rtol=1e-6)


def test_a_rarely_sent_coordinate_is_measured_by_its_own_steps() -> None:
    """Nineteen updates that leave it alone neither shrink its unit nor its share."""
    held = Held(GAP)
    one = Sparse(P, np.array([4], np.int32), np.ones(1, np.float32))
    other = Sparse(P, np.array([7], np.int32), np.ones(1, np.float32))
    held.step(one, 0)
    for _ in range(19):
        held.step(other, 0)
    assert held.step(one, 19) == 1.0  # it has not moved since
    assert held.step(one, 21) == pytest.approx(1 / 3)  # twice its usual step


@pytest.mark.parametrize("optimizer", ["preconditioned", *LEARNERS_OWN])
@pytest.mark.parametrize("rule", [GAP, COMPENSATE], ids=["gap", "compensate"])
def test_a_fresh_gradient_is_applied_in_full_to_the_bit(rule: Rule, optimizer: str) -> None:
    held, plain = Held(rule, optimizer), Held(Rule(), optimizer)
    for value, _ in values("sparse", 5):
        assert held.step(value, 0) == plain.step(value, 0) == 1.0
    np.testing.assert_array_equal(held.theta, plain.theta)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("optimizer", LEARNERS_OWN)
def test_with_an_optimizer_here_its_whole_step_is_divided(optimizer: str, kind: str) -> None:
    held, past = Held(GAP, optimizer), [[] for _ in range(P)]  # type: ignore[var-annotated]
    theta = held.theta.copy()  # what the optimizer alone would have done from where it was
    alone = make_optimizer(settings(optimizer), theta)
    for value, lag in values(kind):
        before, base = held.history[-1], held.history[-1 - lag]
        np.copyto(theta, held.theta)
        alone.step(value, RATE, 1.0)
        step = (before - theta) / RATE
        held.step(value, lag)
        np.testing.assert_allclose(held.theta, gap_aware(before, base, step, past, RATE), rtol=1e-4, atol=1e-5)


def test_the_average_is_plain_at_first_and_fades_later() -> None:
    held = Held(GAP)
    assert isinstance(held.remedy, GapAware)
    for size in [1.0] * MEMORY + [2.0]:
        held.remedy.step(plain(np.full(P, size, np.float32)), 0, 0, 0.0, 1.0)
    state = held.remedy.state()
    assert state["count"].tolist() == [MEMORY] * P
    np.testing.assert_allclose(state["square"], 1.0 + 3.0 / MEMORY, rtol=1e-4)


def test_a_sparse_step_costs_no_vector() -> None:
    """O(k): nothing of θ's length is allocated, whatever the rule."""
    length = 1 << 20
    update = plain(Sparse(length, np.array([5, 70, 9000], np.int32), np.ones(3, np.float32)))
    for rule in (GAP, COMPENSATE):
        theta = np.zeros(length, np.float32)
        remedy = make_correction(rule, make_optimizer(settings("preconditioned"), theta), theta)
        remedy.remember(0, theta.tobytes())
        remedy.step(update, 0, 0, RATE, 1.0)
        tracemalloc.start()
        remedy.step(update, 1, 0, RATE, 1.0)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak_bytes < 100_000


# compensation


def compensated(g: np.ndarray, theta: np.ndarray, base: np.ndarray, mean_square: np.ndarray | None) -> np.ndarray:
    """Zheng et al. 2017, equation 10, with λ_t = λ0 / √MeanSquare; each correction held to its coordinate's size."""
    out = g.copy()
    for i in range(P):
        strength = 0.5 if mean_square is None else 0.5 / (np.sqrt(mean_square[i]) + 1e-7)
        correction = strength * g[i] * g[i] * (theta[i] - base[i])
        out[i] += max(-abs(g[i]), min(abs(g[i]), correction))
    return out


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("optimizer", ["preconditioned", *LEARNERS_OWN])
def test_compensation_is_the_paper_s(optimizer: str, kind: str) -> None:
    held = Held(COMPENSATE, optimizer)
    theta = held.theta.copy()
    plain = make_optimizer(settings(optimizer), theta)
    square, decay = np.zeros(P), 0.999 if optimizer in ("adam", "adamw") else 0.99
    for t, (value, lag) in enumerate(values(kind), start=1):
        g, now, base = dense(value), held.history[-1], held.history[-1 - lag]
        mean_square = decay * square + (1 - decay) * g**2
        if optimizer in ("adam", "adamw"):
            mean_square = mean_square / (1 - decay**t)
        kept = None if optimizer in ("preconditioned", "sgd", "lion") else mean_square
        corrected = compensated(g, now, base, kept)
        square = decay * square + (1 - decay) * corrected**2
        plain.step(corrected.astype(np.float32), RATE, 1.0)
        assert held.step(value, lag) == 1.0
        off = 10 * WRITTEN if (optimizer, kind) == ("preconditioned", "sparse") else 2e-5  # it adds up over the steps
        np.testing.assert_allclose(held.theta, theta, rtol=2e-4, atol=off)


@pytest.mark.parametrize("rule", [GAP, COMPENSATE], ids=["gap", "compensate"])
def test_an_empty_gradient_asks_for_no_drift_and_the_next_one_gets_all_of_it(
    rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, alike = Held(rule), Held(rule)
    empty, ones = Sparse(P, np.empty(0, np.int32), np.empty(0, np.float32)), np.ones(P, np.float32)
    for each in (held, alike):
        each.step(ones, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Trail, "since", None)  # whoever asks raises
        assert held.step(empty, 1) == 1.0
    held.step(ones, 2)
    alike.step(ones, 1)
    np.testing.assert_array_equal(held.theta, alike.theta)


def test_without_drift_there_is_nothing_to_correct() -> None:
    held = Held(COMPENSATE)
    held.step(np.zeros(P, np.float32), 0)
    before = held.theta.copy()
    held.step(np.ones(P, np.float32), 1)
    np.testing.assert_array_equal(held.theta, before - np.float32(RATE))


def test_a_correction_never_turns_a_gradient_round_or_more_than_doubles_it() -> None:
    held = Held(Rule(scaling="compensate", compensation=1e6))
    held.step(np.linspace(-1, 1, P).astype(np.float32), 0)
    before, ones = held.theta.copy(), np.ones(P, np.float32)
    held.step(ones, 1)
    applied = (before - held.theta) / RATE
    assert (applied >= -1e-6).all()
    assert (applied <= 2.0 + 1e-6).all()


def test_values_that_may_not_be_written_to_are_left_alone() -> None:
    for rule in (GAP, COMPENSATE):
        held = Held(rule)
        value = np.frombuffer(np.ones(P, "<f4").tobytes(), "<f4")
        held.step(value, 0)
        held.step(value, 1)
        assert (value == 1.0).all()


# in the whole


def parameters(rule: Rule, optimizer: str = "preconditioned") -> Streamed:
    theta = np.zeros(P, np.float32)
    return Streamed(Parameters(theta, 0, make_optimizer(settings(optimizer), theta), rule, NormCheck(1e6), LAYOUT))


def job(base_version: int, **fields: Any) -> Job:
    return Job(1, 1, base_version, "f32", P, P, np.ones(P, "<f4").tobytes(), None, 0.0)


def test_a_snapshot_becomes_the_base_of_what_was_taken_at_it() -> None:
    p = parameters(GAP)
    record, buffers = p.key_frame(1)
    outcomes = p.apply([job(0), job(0), job(0)], RATE)
    assert [outcome.scale for outcome in outcomes] == pytest.approx([1.0, 1 / 2, 1 / 2.5])
    assert np.frombuffer(buffers[0], "<f4").tolist() == [0.0] * P
    assert record.version == 0


def test_where_updates_are_added_every_version_s_gap_is_known_without_a_snapshot() -> None:
    p = parameters(GAP)
    assert [outcome.scale for outcome in p.apply([job(0), job(0)], RATE)] == pytest.approx([1.0, 0.5])


def test_with_an_optimizer_here_weights_without_a_snapshot_have_no_gap() -> None:
    p = parameters(GAP, "sgd")
    assert [outcome.scale for outcome in p.apply([job(0), job(0)], RATE)] == [1.0, 1.0]


def sample(name: str, random: np.random.Generator) -> Array | Factors:
    """Something that this codec takes."""
    vector = random.standard_normal(P).astype(np.float32)
    selection = codec(name).selection
    if selection == "all":
        return vector
    if selection == "rank":
        return Factors(P, (vector,))
    seed = int(random.integers(1 << 60))
    indices = random_indices(seed, P, 4)
    return Sparse(P, indices, vector[:4], seed)


@pytest.mark.parametrize("rule", [GAP, COMPENSATE], ids=["gap", "compensate"])
@pytest.mark.parametrize("name", sorted(CODECS))
def test_what_is_applied_is_what_the_payload_says(rule: Rule, name: str) -> None:
    """A follower that repeats the payloads holds the learner's bits, whatever the rule made of them."""
    held, random = Held(rule), np.random.default_rng(0)
    follower = held.theta.copy()
    for n in range(8):
        encoded = codec(name).encode(sample(name, random))
        update = Update(encoded.decoded, name, encoded.count, encoded.buffer)
        _, applied = held.remedy.step(update, n, max(0, n - 3), RATE, 1.0)
        told = codec(applied.codec).decode(applied.payload, P, applied.count)
        subtract(follower, told, np.float32(RATE))
        assert held.theta.tobytes() == follower.tobytes()


def test_a_second_life_knows_what_a_step_is() -> None:
    p, q = parameters(GAP), parameters(GAP)
    p.key_frame(1)
    p.apply([job(0), job(0)], RATE)
    q.restore(p.version, p.checkpoint_arrays())
    for each in (p, q):
        each.key_frame(2)
        each.apply([job(2), job(2)], RATE)
    np.testing.assert_array_equal(p.theta, q.theta)


def test_a_second_life_may_have_another_rule() -> None:
    p, q, again = parameters(GAP), parameters(Rule()), parameters(GAP)
    p.key_frame(1)
    p.apply([job(0)], RATE)
    q.restore(p.version, p.checkpoint_arrays())
    again.restore(q.version, q.checkpoint_arrays())
    np.testing.assert_array_equal(again.theta, p.theta)


@pytest.mark.parametrize("rule", [GAP, COMPENSATE], ids=["gap", "compensate"])
def test_the_same_gradients_give_the_same_bits_twice(rule: Rule) -> None:
    first, second = Held(rule, "adam"), Held(rule, "adam")
    for held in (first, second):
        for value, lag in values("dense"):
            held.step(value, lag)
    np.testing.assert_array_equal(first.theta, second.theta)


def test_each_rule_has_its_remedy() -> None:
    assert isinstance(Held(GAP).remedy, GapAware)
    assert isinstance(Held(COMPENSATE).remedy, Compensation)
    for rule in (Rule(), Rule(scaling="scale")):
        assert not isinstance(Held(rule).remedy, GapAware | Compensation)
