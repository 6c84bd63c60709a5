"""What fits into a link, and how a link is felt: a model of one with a rate and a delay, under virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from actor.compression.bandwidth import FIRST_BYTES, BandwidthFit, UplinkBudget
from actor.compression.compressor import Compressor
from actor.compression.selection import Density, Largest
from protocol.codecs.budget import LEAST_COORDINATES, THIN, Fit, fit
from protocol.codecs.registry import Sparse, codec

P = 680_000


def test_what_fits_is_said_by_as_many_coordinates_as_fit() -> None:
    assert fit(4 * P, P) == Fit("f32")
    assert fit(4 * P - 1, P) == Fit("i8")
    assert fit(1.03 * P, P) == Fit("i8")
    assert fit(0.9 * P, P).codec == THIN
    assert fit(1, P) == Fit(THIN, LEAST_COORDINATES / P)
    assert fit(1, 40) == Fit(THIN, 5 / 40)
    assert fit(41, 40) == Fit("i8")


@pytest.mark.parametrize("allowed", [2_000, 20_000, 200_000, 400_000, 690_000])
def test_a_payload_is_about_as_large_as_allowed(allowed: int) -> None:
    wanted = fit(allowed, P)
    selection = Largest(P, Density(P, wanted.density, 0))
    vector = np.random.default_rng(0).standard_normal(P).astype(np.float32)
    size = len(codec(wanted.codec).encode(selection.select(vector)).buffer)
    assert 0.8 * allowed < size < 1.15 * allowed


def test_a_budget_is_spread_over_the_gradients_of_a_second() -> None:
    uplink = UplinkBudget(P, 800.0)  # 100 kB a second
    for n in range(200):
        uplink.record_gradient(0.05 * n)
        uplink.record_round_trip(9.0, 0.05 * n)  # is not asked
    assert uplink.allowed_bytes == pytest.approx(5_000)
    slower = UplinkBudget(P, 800.0)
    for n in range(200):
        slower.record_gradient(0.5 * n)
    assert slower.allowed_bytes == pytest.approx(50_000)
    wide = UplinkBudget(P, 1e9)
    for n in range(3):
        wide.record_gradient(float(n))
    assert wide.allowed_bytes == 4 * P


@dataclass
class Link:
    """Bytes leave one behind the other at a rate, travel for a time, and are answered as fast."""

    bytes_per_s: float
    delay_s: float
    interval_s: float = 0.04
    now: float = 0.0
    free_at: float = 0.0
    credit: int = 4
    answers: list[tuple[float, float]] = field(default_factory=list)  # when, round trip
    sizes: list[float] = field(default_factory=list)

    def run(self, uplink: UplinkBudget, gradients: int) -> float:
        """The share of the link that was used over the last half."""
        middle, waited_s = self.now, 0.0
        for n in range(gradients):
            middle = self.now if n == gradients // 2 else middle
            self.now += self.interval_s
            if len(self.answers) == self.credit:
                waited_s += max(0.0, self.answers[0][0] - self.now)
                self.now = max(self.now, self.answers[0][0])
            for when, round_trip_s in [each for each in self.answers if each[0] <= self.now]:
                uplink.record_round_trip(round_trip_s, when)
            self.answers = [each for each in self.answers if each[0] > self.now]
            uplink.record_gradient(self.now, waited_s)
            self.free_at = max(self.free_at, self.now) + uplink.allowed_bytes / self.bytes_per_s
            answered_at = self.free_at + 2 * self.delay_s
            self.answers.append((answered_at, answered_at - self.now))
            self.sizes.append(uplink.allowed_bytes)
        return sum(self.sizes[-gradients // 2 :]) / (self.bytes_per_s * (self.now - middle))


def test_on_a_loopback_everything_is_sent() -> None:
    uplink = UplinkBudget(P, "auto")
    Link(2e9, 0.0001).run(uplink, 600)
    assert uplink.allowed_bytes == 4 * P


@pytest.mark.parametrize("delay_s", [0.005, 0.1])
@pytest.mark.parametrize("kbps", [500, 5_000, 50_000])
@pytest.mark.parametrize("credit", [1, 2, 4, 8, 16])
def test_a_thin_link_is_used_and_not_choked(kbps: int, delay_s: float, credit: int) -> None:
    """Some of what the link could carry is used, and the bytes never wait for long, for many minutes."""
    link, uplink = Link(kbps * 125.0, delay_s, credit=credit), UplinkBudget(P, "auto")
    used = link.run(uplink, 12_000)
    assert 0.05 < used < 1.0
    assert link.free_at - link.now < 0.2


def test_a_pause_is_no_reason_for_a_burst() -> None:
    uplink = UplinkBudget(P, 100.0)
    for n in range(100):
        uplink.record_gradient(0.1 * n)
    uplink.record_gradient(610.0)
    assert uplink.allowed_bytes < 1.5 * 1_250


def test_bytes_do_not_flap() -> None:
    """Once the link is known, steps are rare: each that failed makes the next attempt wait twice as long."""
    link, uplink = Link(125_000.0, 0.02), UplinkBudget(P, "auto")
    link.run(uplink, 4_000)
    late = link.sizes[2_000:]
    assert sum(one != other for one, other in pairwise(late)) <= 8


def test_a_link_that_grows_thin_is_felt_within_a_second_or_two() -> None:
    link, uplink = Link(2e9, 0.001), UplinkBudget(P, "auto")
    link.run(uplink, 800)
    link.bytes_per_s = 1_000_000.0
    link.run(uplink, 300)
    assert uplink.allowed_bytes < 40_000


def test_nothing_is_known_at_first() -> None:
    uplink = UplinkBudget(P, "auto")
    uplink.record_round_trip(1.0, 0.0)
    assert uplink.allowed_bytes == FIRST_BYTES


def test_a_compressor_changes_its_codec_and_loses_nothing() -> None:
    """What was held back under a thin codec goes with the dense one."""
    bandwidth_fit = BandwidthFit(UplinkBudget(P, "auto"), P)
    density = Density(P, 0.001, 0)
    compressor = Compressor(P, THIN, Largest(P, density), 1.0)
    vector = np.random.default_rng(0).standard_normal(P).astype(np.float32)
    bandwidth_fit.update(compressor, [], 0.0)
    first = compressor.compress(vector).decoded
    assert isinstance(first, Sparse)
    assert 0 < len(first.indices) < FIRST_BYTES / 2
    bandwidth_fit.uplink.allowed_bytes = 4.0 * P
    bandwidth_fit.update(compressor, [], 1.0)
    assert compressor.codec.name == "f32"
    second = compressor.compress(vector).decoded
    assert isinstance(second, np.ndarray)
    np.testing.assert_allclose(first.dense() + second, 2 * vector, atol=1e-6)


@pytest.mark.parametrize(
    ("kbps", "codec_name", "most_bytes"), [(800.0, THIN, 115_000), (3e3, THIN, 400_000), (8e3, "i8", 800_000)]
)
def test_the_last_gradient_is_what_the_link_bears_in_a_second(kbps: float, codec_name: str, most_bytes: int) -> None:
    name, selection = BandwidthFit(UplinkBudget(P, kbps), P).for_residual()
    assert name == codec_name
    vector = np.random.default_rng(0).standard_normal(P).astype(np.float32)
    assert 0.5 * most_bytes < len(codec(name).encode(selection.select(vector)).buffer) < most_bytes


def test_a_felt_link_bears_what_was_sent_without_being_late() -> None:
    uplink = UplinkBudget(P, "auto")
    assert uplink.bytes_per_s == np.inf
    uplink.record_gradient(0.0)
    uplink.record_gradient(0.5)
    assert uplink.bytes_per_s == 2 * FIRST_BYTES
    assert BandwidthFit(uplink, P).for_residual()[0] == THIN
