"""One worker step by step, over a link that is a list. CartPole at settings that take milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from actor import worker as module
from actor.config import ActorSettings
from actor.events import Weights, Work
from actor.gradients import gradient
from actor.worker import HOPELESS, Worker, build_policy, read_settings
from protocol.codecs import codec
from protocol.errors import SettingError, UserError
from protocol.layout import Entry, Layout
from protocol.messages import Losses, Welcome
from protocol.moments import Moments

SMALL = ActorSettings(envs=2, rollout_steps=8, passes=2, minibatches=2, hidden=(4,), codec="f32", residual_decay=1.0)
GRADIENTS = SMALL.passes * SMALL.minibatches


class Stopped(Exception):
    """The link has had enough."""


class List:
    """A link without a learner: weights stay, permits are endless, what is handed in is kept."""

    def __init__(self, weights: Weights | None) -> None:
        self.env_steps = 0
        self.collect_s = self.learn_s = 0.0
        self.weights = weights
        self.refused: list[Work] = []
        self.works: list[Work] = []
        self.stop_after = 1 << 30

    def first_weights(self, generation: int) -> Weights:
        assert self.weights is not None
        return self.weights

    def newest(self) -> Weights | None:
        return self.weights

    def await_permit(self, generation: int) -> None:
        if len(self.works) >= self.stop_after:
            raise Stopped

    def hand_in(self, work: Work) -> None:
        self.works.append(work)

    def collect_refused(self) -> list[Work]:
        refused, self.refused = self.refused, []
        return refused


def layout_of(settings: ActorSettings) -> Layout:
    return build_policy(settings, 4, 2, seed=0)[1].layout()


def weights_of(settings: ActorSettings, version: int = 0, moments: Moments | None = None) -> Weights:
    return Weights(1, version, build_policy(settings, 4, 2, seed=3)[1].vector(), moments)


def welcome(settings: ActorSettings = SMALL, layout: Layout | None = None, **fields: Any) -> Welcome:
    usual: dict[str, Any] = {
        "instance": 1,
        "run": "run",
        "epoch": 1,
        "session": 9,
        "ordinal": 0,
        "seed": 5,
        "credit": 2,
        "heartbeat_s": 1.0,
        "silence_s": 5.0,
        "quantity": "gradient",
        "weights": "*",
        "layout": layout or layout_of(settings),
        "table": msgspec.msgpack.encode(settings),
        "table_digest": bytes(8),
    }
    return Welcome(**(usual | fields))


class Bench:
    """A worker with its first weights, and its link."""

    def __init__(self, settings: ActorSettings = SMALL, moments: Moments | None = None, **fields: Any) -> None:
        self.worker = Worker(welcome(settings, **fields), frozenset())
        self.link = List(weights_of(settings, moments=moments))
        self.worker._adopt(self.link.first_weights(0))

    def step(self) -> list[Work]:
        """One rollout; the gradients that it handed in."""
        before = len(self.link.works)
        self.worker.step(self.link, 0)
        return self.link.works[before:]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.worker.close()


def test_one_rollout_gives_a_gradient_for_each_minibatch_of_each_pass(bench: Bench) -> None:
    works = bench.step()
    assert len(works) == GRADIENTS
    assert {(work.epoch, work.base_version, work.codec) for work in works} == {(1, 0, "f32")}
    length = layout_of(SMALL).length
    assert all((work.length, work.count, len(work.payload)) == (length, length, 4 * length) for work in works)


def test_what_is_decoded_is_what_is_sent(bench: Bench) -> None:
    for work in bench.step():
        decoded = codec(work.codec).decode(work.payload, work.length, work.count)
        assert isinstance(decoded, np.ndarray)
        assert isinstance(work.decoded, np.ndarray)
        np.testing.assert_array_equal(decoded, work.decoded)


def test_the_report_rides_on_the_first_gradient(bench: Bench) -> None:
    first, *others = bench.step()
    assert first.report is not None
    assert first.report.env_steps == bench.link.env_steps > 0
    assert first.report.losses == Losses()  # no rollout came before
    assert [work.report for work in others] == [None] * (GRADIENTS - 1)
    second = bench.step()[0].report
    assert second is not None
    assert second.losses.gradient_norm > 0.0
    assert second.losses.entropy > 0.0


def test_reports_add_up_to_every_step_and_every_episode(bench: Bench) -> None:
    reports = [bench.step()[0].report for _ in range(12)]
    assert sum(report.env_steps for report in reports if report) == bench.link.env_steps
    episodes = [episode for report in reports if report for episode in report.episodes]
    assert episodes
    assert all(episode.score == episode.length for episode in episodes)  # CartPole pays 1 a step


def test_each_gradient_is_taken_at_the_newest_weights(bench: Bench) -> None:
    def hand_in(work: Work) -> None:
        bench.link.works.append(work)
        bench.link.weights = weights_of(SMALL, version=work.base_version + 1)

    bench.link.hand_in = hand_in  # type: ignore[method-assign]
    assert [work.base_version for work in bench.step()] == list(range(GRADIENTS))


def test_the_same_seed_and_ordinal_give_the_same_bits() -> None:
    payloads = []
    for ordinal in (0, 0, 1):
        bench = Bench(ordinal=ordinal)
        payloads.append([work.payload for work in bench.step()])
        bench.worker.close()
    assert payloads[0] == payloads[1] != payloads[2]


def test_what_was_refused_is_sent_again_with_the_next(bench: Bench) -> None:
    works = bench.step()
    bench.link.refused = [works[0]]
    plain = Bench()
    plain.step()
    with_refused, without = bench.step()[0].decoded, plain.step()[0].decoded
    plain.worker.close()
    np.testing.assert_allclose(
        np.asarray(with_refused) - np.asarray(without), np.asarray(works[0].decoded), rtol=1e-5, atol=1e-7
    )


def test_run_ends_when_the_link_interrupts(bench: Bench) -> None:
    bench.link.stop_after = 2 * GRADIENTS + 1
    with pytest.raises(Stopped):
        bench.worker.run(bench.link, 0)
    assert len(bench.link.works) == 2 * GRADIENTS + 1


def poisoned(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
    """The gradients of these numbers, counted from 0, hold NaN."""
    count = iter(range(1 << 30))

    def taken(*given: Any) -> Any:
        vector, stats, norm = gradient(*given)
        if next(count) not in bad:
            return vector, stats, norm
        return np.full_like(vector, np.nan), stats, float("nan")

    monkeypatch.setattr(module, "gradient", taken)


def test_a_gradient_with_nan_is_left_out_and_its_report_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned(monkeypatch, bad={0})
    works = bench.step()
    assert len(works) == GRADIENTS - 1
    assert works[0].report is not None
    assert all(np.isfinite(np.asarray(work.decoded)).all() for work in works)


def test_reports_accumulate_while_nothing_is_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned(monkeypatch, bad=set(range(10 * GRADIENTS)))
    for _ in range(10):
        assert bench.step() == []
    report = bench.step()[0].report
    assert report is not None
    assert report.env_steps == bench.link.env_steps
    assert len(report.episodes) > 2


def test_an_actor_that_sees_nothing_but_nan_gives_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned(monkeypatch, bad=set(range(HOPELESS)))
    with pytest.raises(FloatingPointError):
        bench.worker.run(bench.link, 0)
    assert bench.link.works == []


def test_moments_travel_with_the_report_and_normalise_what_follows() -> None:
    settings = msgspec.structs.replace(SMALL, normalize_observations=True)
    bench = Bench(settings, Moments(100, np.full(4, 0.5), np.full(4, 400.0)))
    first, *others = bench.step()
    bench.worker.close()
    assert first.report is not None
    assert first.moments is not None
    assert first.report.observations == first.report.env_steps
    assert Moments.from_buffer(first.moments, first.report.observations, 4).size == 4
    assert [work.moments for work in others] == [None] * (GRADIENTS - 1)
    normalizer = bench.worker._collector.normalizer
    assert normalizer is not None
    np.testing.assert_allclose(normalizer.mean, 0.5)
    np.testing.assert_allclose(normalizer.scale, 0.5, rtol=1e-6)


def test_updates_are_preconditioned_and_gradients_are_not() -> None:
    norms = {}
    for quantity in ("gradient", "update"):
        bench = Bench(quantity=quantity)
        norms[quantity] = float(np.linalg.norm(np.asarray(bench.step()[0].decoded)))
        bench.worker.close()
    assert norms["gradient"] <= SMALL.max_gradient_norm * 1.001
    assert norms["update"] > 2.0  # about 1 for each parameter that has a gradient


def test_another_network_than_the_learners_is_for_a_person_to_put_right() -> None:
    with pytest.raises(UserError, match=r"learner.s layout 3 in 1"):
        Worker(welcome(layout=Layout((Entry("w", (3,)),))), frozenset())


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"passes": 0}, "passes"),
        ({"hiden": [4]}, "hiden"),
        ({"loss": "ppo"}, "loss"),
    ],
)
def test_a_table_that_does_not_fit_names_the_key(table: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        read_settings(msgspec.msgpack.encode(table))


def test_an_unknown_codec_names_those_there_are() -> None:
    with pytest.raises(SettingError, match=r"actor\.codec = 'zip': one of f32, .*topk_i8"):
        read_settings(msgspec.msgpack.encode({"codec": "zip"}))
