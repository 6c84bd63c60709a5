"""One worker step by step, over a link that is a list. CartPole at settings that take milliseconds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import msgspec
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from actor import worker as module
from actor.algorithms import portion as portions
from actor.algorithms import simulators
from actor.algorithms.gradients import gradient, minibatches
from actor.algorithms.methods import ActionValues
from actor.algorithms.normalization import moments_size
from actor.algorithms.portion import POWER, first, portion
from actor.algorithms.rollout import Rollout
from actor.config import ActorSettings, Stage
from actor.environments.registry import describe
from actor.events import Feedback, Settled, Weights, Work
from actor.handoff import Leaving
from actor.initial import initial
from actor.monitoring import log
from actor.networks.build import build_policy
from actor.stats import WorkerStats
from actor.worker import NAN_BUDGET, TrainingWorker
from protocol.codecs.registry import Sparse, codec
from protocol.errors import UserError
from protocol.layout import Entry, Layout
from protocol.messages import Losses, Welcome
from protocol.moments import Moments
from tests.actor import broken_envs

SMALL = ActorSettings(
    envs=2,
    rollout_steps=8,
    passes=2,
    minibatches=2,
    hidden=(4,),
    codec="f32",
    residual_decay=1.0,
    normalize_observations=False,
    normalize_returns=False,
)
GRADIENTS = SMALL.passes * SMALL.minibatches


class Stopped(Exception):
    """The link has had enough."""


class List:
    """A link without a learner: weights stay, permits are endless, what is handed in is kept."""

    def __init__(self, weights: Weights | None) -> None:
        self.stats = WorkerStats()
        self.weights = weights
        self.refused: list[Work] = []
        self.feedback: list[Feedback] = []
        self.settled: list[Settled] = []
        self.works: list[Work] = []
        self.stop_after = 1 << 30
        self.stops_with: type[Exception] = Stopped
        self.last: list[Work | None] = []
        self.permits_left = 1
        self.share = 0.0
        self.checks, self.checks_borne = 0, 1 << 30

    def first_weights(self, generation: int) -> Weights:
        assert self.weights is not None
        return self.weights

    def newest(self) -> Weights | None:
        return self.weights

    def await_permit(self, generation: int) -> None:
        if len(self.works) >= self.stop_after:
            raise self.stops_with

    def check(self, generation: int | None) -> None:
        self.checks += 1
        if self.checks > self.checks_borne:
            raise self.stops_with

    def hand_in_last(self, work: Work | None) -> None:
        self.last.append(work)

    def hand_in(self, work: Work) -> None:
        self.works.append(work)

    def collect_feedback(self) -> list[Feedback]:
        found, self.feedback = self.feedback, []
        return found

    def collect_settled(self) -> list[Settled]:
        settled, self.settled = self.settled, []
        return settled

    def collect_refused(self) -> list[Work]:
        refused, self.refused = self.refused, []
        return refused


def dense(work: Work) -> np.ndarray:
    assert isinstance(work.decoded, np.ndarray)
    return work.decoded


def layout_of(settings: ActorSettings) -> Layout:
    return build_policy(settings, describe(settings, frozenset()), seed=0)[1].layout()


def weights_of(settings: ActorSettings, version: int = 0, moments: Moments | None = None) -> Weights:
    theta = build_policy(settings, describe(settings, frozenset()), seed=3)[1].vector()
    target = None if settings.algorithm == "a3c" else (theta * np.float32(0.5), 0)
    return Weights(1, version, theta, moments, 0, *(target or (None, None)))


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
        self.worker = TrainingWorker(welcome(settings, **fields), frozenset())
        self.link = List(weights_of(settings, moments=moments))
        self.worker.adopt(self.link.first_weights(0))

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
    assert first.report.env_steps == bench.link.stats.env_steps > 0
    assert first.report.losses == Losses()  # no rollout came before
    assert [work.report for work in others] == [None] * (GRADIENTS - 1)
    second = bench.step()[0].report
    assert second is not None
    assert second.losses.gradient_norm > 0.0
    assert second.losses.entropy > 0.0


def test_reports_add_up_to_every_step_and_every_episode(bench: Bench) -> None:
    reports = [bench.step()[0].report for _ in range(12)]
    assert sum(report.env_steps for report in reports if report) == bench.link.stats.env_steps
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
    assert report.env_steps == bench.link.stats.env_steps
    assert len(report.episodes) > 2


def test_an_actor_that_sees_nothing_but_nan_gives_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned(monkeypatch, bad=set(range(NAN_BUDGET)))
    with pytest.raises(
        FloatingPointError, match=r"100 gradients were not finite in a row; the first: CartPole-v1: .* nan"
    ):
        bench.worker.run(bench.link, 0)
    assert bench.link.works == []
    (fault,) = bench.link.stats.faults
    assert (fault.kind, fault.count) == ("gradient_not_finite", NAN_BUDGET)


def test_an_actor_whose_steps_never_count_gives_up_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAN_BUDGET", 3)
    bench = Bench(msgspec.structs.replace(SMALL, env=broken_envs.UNPAID))
    with pytest.raises(FloatingPointError, match=r"3 rollouts had no step that counts in a row; .* the reward is nan"):
        bench.worker.run(bench.link, 0)
    bench.worker.close()
    (fault,) = bench.link.stats.faults
    assert fault.kind == "reward_not_finite"
    assert fault.count == 3 * SMALL.rollout_steps * SMALL.envs


def test_a_worker_that_leaves_hands_in_what_it_held_back_and_what_was_refused() -> None:
    bench = Bench(msgspec.structs.replace(SMALL, codec="topk_i8", density=0.1, residual_decay=1.0), quantity="update")
    bench.link.stop_after, bench.link.stops_with = 2, Leaving
    with pytest.raises(Leaving):
        bench.worker.run(bench.link, 0)
    bench.worker.close()
    (last,) = bench.link.last
    assert last is not None
    assert (last.codec, last.count, last.base_version) == ("i8", last.length, 0)
    again = Bench(msgspec.structs.replace(SMALL, codec="topk_i8", density=0.1, residual_decay=1.0), quantity="update")
    again.link.stop_after, again.link.stops_with = 2, Leaving
    with contextlib.suppress(Leaving):
        while True:
            again.worker.step(again.link, 0)
    residual, (first, _) = again.worker.compressor.residual.copy(), again.link.works
    assert isinstance(first.decoded, Sparse)
    np.testing.assert_allclose(dense(last), residual, atol=float(np.abs(residual).max()) / 127)
    again.link.refused.append(first)
    again.worker.hand_in_residual(again.link)
    assert again.link.last[0] is not None
    np.testing.assert_allclose(dense(again.link.last[0]), residual + first.decoded.dense(), atol=0.2)
    again.worker.close()


def test_a_worker_that_held_nothing_back_says_so(bench: Bench) -> None:
    bench.link.stop_after, bench.link.stops_with = 1, Leaving
    with pytest.raises(Leaving):
        bench.worker.run(bench.link, 0)
    assert bench.link.last == [None]


def test_a_link_decides_the_codec_where_settings_leave_it_to_it() -> None:
    bench = Bench(msgspec.structs.replace(SMALL, codec="auto", hidden=(64, 64)), quantity="update")
    thin, *_ = bench.step()
    assert bench.worker.bandwidth_fit is not None
    bench.worker.bandwidth_fit.uplink.allowed_bytes = 1e9
    thick, *_ = bench.step()
    bench.worker.close()
    assert (thin.codec, thick.codec) == ("topk_i8", "f32")


def test_this_machine_s_budget_takes_the_place_of_the_experiment_s() -> None:
    settings = msgspec.structs.replace(SMALL, codec="auto", uplink_kbps=8.0)
    worker = TrainingWorker(welcome(settings, quantity="update"), frozenset(), 16.0)
    worker.close()
    assert worker.bandwidth_fit is not None
    assert worker.bandwidth_fit.uplink.bytes_per_s == 2_000.0


def test_gradients_for_an_optimizer_at_the_learner_have_one_codec() -> None:
    with pytest.raises(UserError, match=r"learner\.optimizer = 'preconditioned'"):
        Bench(msgspec.structs.replace(SMALL, codec="auto"))


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
    normalizer = bench.worker.simulators.collector.normalizer
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
        TrainingWorker(welcome(layout=Layout((Entry("w", (3,)),))), frozenset())


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "n_step_q"},
        {"algorithm": "one_step_q"},
        {"algorithm": "one_step_sarsa"},
        {"memory": "lstm", "memory_size": 4},
        {"memory": "gru", "memory_size": 4, "hidden": ()},
        {"targets": "vtrace", "loss": "a3c"},
        {"env": "Pendulum-v1", "normalize_observations": True, "normalize_returns": True},
        {"groups": 2, "reward_clip": 1.0, "hidden_observations": (1, 3)},
    ],
    ids=lambda changes: ",".join(map(str, changes.values())),
)
def test_every_kind_of_learning_gives_its_gradients(changes: dict[str, Any]) -> None:
    settings = msgspec.structs.replace(SMALL, **changes)
    bench = Bench(settings)
    works = [*bench.step(), *bench.step()]
    bench.worker.close()
    assert len(works) == 2 * GRADIENTS
    assert all(np.abs(np.asarray(work.decoded)).max() > 0 for work in works)
    size = moments_size(settings, describe(settings, frozenset()))
    assert {work.moments is not None for work in works[::GRADIENTS]} == {size > 0}
    if size:
        assert works[0].moments is not None
        assert works[0].report is not None
        assert Moments.from_buffer(works[0].moments, works[0].report.observations, size).size == size


def test_a_value_method_without_a_target_network_is_for_a_person_to_put_right() -> None:
    settings = msgspec.structs.replace(SMALL, algorithm="n_step_q")
    worker = TrainingWorker(welcome(settings), frozenset())
    weights = weights_of(settings)
    with pytest.raises(UserError, match="target_interval_steps"):
        worker.adopt(Weights(1, 0, weights.theta, None))
    worker.close()


def test_exploration_follows_the_steps_that_come_with_the_weights() -> None:
    settings = msgspec.structs.replace(SMALL, algorithm="n_step_q", final_epsilons=(0.5,), final_epsilon_odds=(1.0,))
    bench = Bench(settings)
    given = weights_of(settings)
    bench.link.weights = Weights(1, 1, given.theta, None, settings.exploration_steps // 2, given.target, 0)
    bench.step()
    bench.worker.close()
    assert bench.worker.method.sampler.epsilon == pytest.approx(0.75)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("targets", "taken"), [("gae", 1), ("vtrace", 3)])
def test_targets_are_as_fresh_as_the_method_wants_them(targets: str, taken: int) -> None:
    bench = Bench(msgspec.structs.replace(SMALL, passes=3, targets=targets))
    method, calls = bench.worker.method, []
    plain = method.targets

    def counted(rollout: Any) -> Any:
        calls.append(len(bench.link.works))
        return plain(rollout)

    method.targets = counted  # type: ignore[method-assign]
    bench.step()
    bench.worker.close()
    assert calls == [0, 2, 4][:taken]


@pytest.mark.parametrize(
    ("epoch", "steps", "longer"),
    [(1, 1, True), (1, 0, False), (2, -2, False), (2, 1, False)],
    ids=["followed", "stood still", "went back", "another life"],
)
def test_only_weights_that_followed_tell_how_long_updates_are(epoch: int, steps: int, longer: bool) -> None:
    """A stream that stands still would look like updates that are far too short, and a restart like any."""
    bench = Bench(msgspec.structs.replace(SMALL, kl_target=10.0), quantity="update")
    bench.link.weights = weights_of(SMALL, version=100)
    renewing(bench, epoch, steps)
    bench.step()
    bench.worker.close()
    assert (bench.worker.step_size.factor > 1.0) is longer


def renewing(bench: Bench, epoch: int = 1, steps: int = 1, env_steps: int = 0) -> None:
    """Every gradient is followed by a newer version of equal weights."""
    plain = bench.link.hand_in

    def hand_in(work: Work) -> None:
        plain(work)
        held = bench.link.weights
        assert held is not None
        bench.link.weights = Weights(epoch, held.version + steps, held.theta.copy(), None, env_steps)

    bench.link.hand_in = hand_in  # type: ignore[method-assign]


STRAIGHT: dict[str, Any] = {"anneal_steps": 100, "anneal_floor": 0.0}
POINTS: dict[str, Any] = {"anneal_steps": 9, "anneal_floor": 1.0, "anneal_points": ((0, 1.0), (99, 1.0), (100, 0.0))}


@pytest.mark.parametrize("told", [STRAIGHT, POINTS], ids=["straight", "points"])
@pytest.mark.parametrize(("env_steps", "longer"), [(99, True), (100, False)])
def test_updates_are_not_lengthened_against_annealing(env_steps: int, longer: bool, told: dict[str, Any]) -> None:
    bench = Bench(msgspec.structs.replace(SMALL, kl_target=1e-9), quantity="update", **told)
    renewing(bench, env_steps=env_steps)
    bench.step()
    bench.worker.close()
    assert (bench.worker.step_size.factor > 1.0) is longer


def test_updates_of_a_settled_policy_are_not_lengthened() -> None:
    bench = Bench(msgspec.structs.replace(SMALL, kl_target=10.0), quantity="update")
    held = bench.link.weights
    assert held is not None
    bench.link.weights = Weights(1, 1, held.theta * np.float32(1e4), None)
    bench.worker.step_size.factor = 64.0
    renewing(bench)
    bench.step()
    bench.worker.close()
    assert bench.worker.step_size.factor == pytest.approx(64.0 / 1.5)


def jumping(settings: ActorSettings, **fields: Any) -> Bench:
    """Weights that jump after every gradient move the policy far more than a millionth of a nat."""
    bench = Bench(settings, **fields)

    def hand_in(work: Work) -> None:
        bench.link.works.append(work)
        held = bench.link.weights
        assert held is not None
        bench.link.weights = Weights(1, held.version + 1, held.theta * np.float32(4.0), None)

    bench.link.hand_in = hand_in  # type: ignore[method-assign]
    return bench


def test_the_step_size_shortens_preconditioned_updates() -> None:
    norms = []
    for length in (1.0, 0.25):
        bench = Bench(msgspec.structs.replace(SMALL, kl_target=0.01), quantity="update")
        bench.worker.step_size.factor = length
        norms.append(float(np.linalg.norm(np.asarray(bench.step()[0].decoded))))
        bench.worker.close()
    assert norms[1] == pytest.approx(norms[0] / 4, rel=1e-4)


def test_a_rollout_follows_the_divergence_of_its_last_gradient() -> None:
    bench = jumping(msgspec.structs.replace(SMALL, kl_target=1e-6), quantity="update")
    assert len(bench.step()) == GRADIENTS
    bench.worker.close()
    assert bench.worker.step_size.factor == pytest.approx(1 / 1.5)


@pytest.mark.parametrize(("kl_target", "sent"), [(0.0, GRADIENTS), (1e-6, 2), (1e6, GRADIENTS)])
def test_a_rollout_is_left_where_the_policy_has_moved_too_far_and_updates_cannot_be_shortened(
    kl_target: float, sent: int
) -> None:
    bench = jumping(msgspec.structs.replace(SMALL, kl_target=kl_target), quantity="gradient")
    assert len(bench.step()) == sent
    bench.worker.close()
    assert bench.worker.step_size.factor == 1.0


def test_rewards_are_divided_by_what_the_run_has_seen() -> None:
    settings = msgspec.structs.replace(SMALL, normalize_returns=True)
    bench = Bench(settings, Moments(100, np.array([7.0]), np.array([1600.0])))
    assert bench.worker.simulators.collector.return_scale == pytest.approx(0.25)
    assert bench.worker.simulators.collector.normalizer is None
    bench.worker.close()


# local steps

LOCAL = msgspec.structs.replace(SMALL, local_steps=GRADIENTS, kl_target=0.0)
UPDATES: dict[str, Any] = {"quantity": "update", "learning_rate": 0.01}


def theta_of(bench: Bench) -> np.ndarray:
    return bench.worker.flat.vector()


def test_local_steps_of_a_rollout_are_one_message_that_says_all_of_them() -> None:
    """With a codec that loses nothing the actor's θ is where the learner's will be."""
    bench = Bench(LOCAL, **UPDATES)
    (work,) = bench.step()
    assert bench.link.weights is not None
    expected = bench.link.weights.theta - np.float32(0.01) * dense(work)
    np.testing.assert_allclose(theta_of(bench), expected, atol=1e-7)
    assert work.report is not None


def test_fewer_local_steps_than_a_rollout_has_are_several_messages() -> None:
    bench = Bench(msgspec.structs.replace(LOCAL, local_steps=3), **UPDATES)
    assert len(bench.step()) == 2  # of three, and of the one that was left


@pytest.mark.parametrize("version", [None, 1])
def test_once_the_stream_shows_what_became_of_a_sum_theta_is_the_stream_s_to_the_bit(version: int | None) -> None:
    bench = Bench(LOCAL, **UPDATES)
    (work,) = bench.step()
    before = bench.link.weights
    assert before is not None
    bench.link.settled.append((work.decoded, version))
    after = np.ascontiguousarray(before.theta * np.float32(0.5))
    bench.link.weights = replace(before, version=1, theta=after)
    bench.worker.refresh(bench.link)
    np.testing.assert_array_equal(theta_of(bench), after)


def test_a_leaving_worker_hands_in_the_steps_that_were_in_no_message() -> None:
    bench = Bench(msgspec.structs.replace(LOCAL, local_steps=GRADIENTS + 1, codec="f32"), **UPDATES)
    bench.link.stop_after, bench.link.stops_with = 0, Leaving
    with pytest.raises(Leaving):
        bench.worker.run(bench.link, 0)
    (last,) = bench.link.last
    assert last is not None
    assert np.abs(dense(last)).max() > 0.0


def test_what_compression_holds_back_stays_in_the_actor_s_own_weights() -> None:
    """The sums and what stays of them are all that was computed, so θ is where a codec that loses nothing had it."""
    thin, whole = (
        Bench(msgspec.structs.replace(LOCAL, codec=codec, density=0.1), **UPDATES) for codec in ("topk_f16", "f32")
    )
    thin.step()
    whole.step()
    np.testing.assert_allclose(theta_of(thin), theta_of(whole), atol=1e-7)


def test_a_policy_collects_with_what_was_refused_as_with_all_that_waits() -> None:
    bench = Bench(LOCAL, **UPDATES)
    (work,) = bench.step()
    learnt, acted = theta_of(bench), []
    bench.link.settled.append((work.decoded, None))
    bench.link.refused.append(work)
    collect = bench.worker.simulators.collector.collect

    def watched() -> Any:
        acted.append(theta_of(bench))
        return collect()

    bench.worker.simulators.collector.collect = watched  # type: ignore[method-assign]
    bench.step()
    np.testing.assert_allclose(acted[0], learnt, atol=1e-7)
    assert np.abs(dense(work)).max() > 0.0


AUTO = msgspec.structs.replace(LOCAL, local_steps="auto")


def test_left_to_itself_a_rollout_is_a_message() -> None:
    bench = Bench(AUTO, **UPDATES)
    assert [len(bench.step()) for _ in range(3)] == [1, 1, 1]


def test_where_the_link_has_no_room_up_to_four_rollouts_are_one_message_and_nothing_of_them_is_lost() -> None:
    bench = Bench(msgspec.structs.replace(AUTO, normalize_observations=True), Moments.empty(4), **UPDATES)
    bench.link.permits_left = 0
    sent = [bench.step() for _ in range(5)]
    assert [len(works) for works in sent] == [0, 0, 0, 1, 0]
    (work,) = sent[3]
    assert work.report is not None
    assert work.moments is not None
    steps = 4 * SMALL.envs * SMALL.rollout_steps
    assert work.report.env_steps == work.report.observations
    assert steps - 10 < work.report.env_steps <= steps  # but for rows that only reset
    bench.link.permits_left = 1
    (rest,) = bench.step()
    assert rest.report is not None
    assert work.report.env_steps + rest.report.env_steps == bench.link.stats.env_steps


def test_a_worker_that_should_leave_does_so_between_two_of_its_local_steps() -> None:
    bench = Bench(AUTO, **UPDATES)
    bench.link.checks_borne = 2
    with pytest.raises(Stopped):
        bench.step()
    assert bench.worker.local is not None
    assert bench.worker.local.steps == 2


def test_nobody_is_told_of_a_choice_that_he_did_not_make(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[Any] = []
    monkeypatch.setattr(log, "write", lines.append)
    assert len(Bench(AUTO, quantity="gradient", learning_rate=0.01).step()) == GRADIENTS
    assert lines == []


@pytest.mark.parametrize("fields", [{"quantity": "gradient", "learning_rate": 0.01}, {"quantity": "update"}])
def test_each_gradient_is_a_message_where_nobody_knows_what_the_learner_makes_of_it(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an optimizer at the learner, and with a learner of an earlier version, which does not tell its rate."""
    lines: list[Any] = []
    monkeypatch.setattr(log, "write", lines.append)
    assert len(Bench(LOCAL, **fields).step()) == GRADIENTS
    assert [line["event"] for line in lines] == ["local_steps_unused"]


# its share of a fleet

FLEET = msgspec.structs.replace(SMALL, envs=8, rollout_steps=32, passes=1, kl_target=0.0)
LITTLE = 1e-6  # share of the run: as little as is ever collected


def test_a_worker_follows_its_share_from_one_rollout_to_the_next() -> None:
    bench = Bench(msgspec.structs.replace(FLEET, passes=2, minibatches=4), share=0.5, quantity="update")
    for share in (0.0, LITTLE, LITTLE, 1.0, LITTLE, 0.0):
        bench.link.share = share
        before = bench.link.stats.env_steps
        works = bench.step()
        held = bench.worker.simulators.portion
        assert len(works) == held.gradients
        taken = bench.link.stats.env_steps - before
        assert works[0].report is not None
        assert works[0].report.env_steps == taken
        rows = held.envs * held.rollout_steps
        assert 0.8 * rows < taken <= rows  # but for those that only reset
        expected = portion(bench.worker.settings, share) if before else first(bench.worker.settings)
        assert held == expected
    assert portion(FLEET, LITTLE).envs < FLEET.envs
    bench.worker.close()


def in_a_fleet(**changes: Any) -> Bench:
    """After the rollout from which on gradients are drawn from two."""
    bench = Bench(msgspec.structs.replace(FLEET, passes=6, local_steps=1, **changes), share=0.5, **UPDATES)
    for share in (0.0, LITTLE, LITTLE):
        bench.link.share = share
        bench.step()
    return bench


def drawn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows of the next rollout's pass are older, by calls."""
    found: list[int] = []

    def seen(rollout: Rollout, *given: Any) -> Any:
        found.append(rollout.older)
        return minibatches(rollout, *given)

    monkeypatch.setattr(module, "minibatches", seen)
    bench.step()
    return found


def test_a_fleets_gradients_are_drawn_from_older_rollouts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = in_a_fleet()
    held = bench.worker.simulators.portion
    assert held.most_rollouts > 1
    assert set(drawn(bench, monkeypatch)) == {held.rollout_steps * (min(3, held.most_rollouts) - 1)}
    assert set(drawn(Bench(FLEET, **UPDATES), monkeypatch)) == {0}
    bench.worker.close()


def test_nothing_is_learnt_again_from_where_a_gradient_was_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = in_a_fleet()
    with monkeypatch.context() as patched:
        poisoned(patched, bad={0})
        bench.step()
    assert set(drawn(bench, monkeypatch)) == {0}
    bench.worker.close()


def test_a_rollout_without_a_step_that_counts_teaches_nothing_old_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = in_a_fleet()
    collect = bench.worker.simulators.collect

    def empty() -> Rollout:
        rollout = collect()
        rollout.valid[...] = False
        rollout.env_steps = 0
        return rollout

    monkeypatch.setattr(bench.worker.simulators, "collect", empty)
    assert bench.step() == []
    bench.worker.close()


@pytest.mark.parametrize("share", [1 / 16, 1 / 64, LITTLE])
def test_one_pass_with_a_bound_has_a_second_gradient_to_measure_by(share: float) -> None:
    found = portion(msgspec.structs.replace(FLEET, passes=1, kl_target=0.01, minibatches=4), share)
    assert found.gradients >= 2
    assert found.parts(1) >= 2


def lengths(monkeypatch: pytest.MonkeyPatch, settings: ActorSettings, **fields: Any) -> list[float]:
    """Of the updates of a first rollout and of one with little share: how much shorter they are than they would be, by
    norms, and than the portion says.
    """
    norms: list[list[float]] = []
    said: list[list[float]] = []
    for power in (POWER, 0.0):
        monkeypatch.setattr(portions, "POWER", power)
        bench = Bench(settings, share=0.5, **fields)
        bench.worker.step_size.factor = 0.5
        bench.link.share = LITTLE
        norms.append([])
        said.append([])
        for _ in range(2):
            (work,) = bench.step()
            norms[-1].append(float(np.linalg.norm(dense(work))))
            bench.link.settled.append((work.decoded, None))  # of which nothing came: θ is as it was
            held = bench.worker.simulators.portion  # whose first rollout has none before it
            said[-1].append(held.length * held.fullness(held.envs * held.rollout_steps))
        bench.worker.close()
    assert said[0][1] < 0.9
    assert said[1] == [1.0, 1.0]
    return [ours / plain / own for ours, plain, own in zip(*norms, said[0], strict=True)]


@pytest.mark.parametrize("local_steps", [1, 4, "auto"])
def test_updates_of_fewer_samples_are_shorter(local_steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = msgspec.structs.replace(FLEET, local_steps=local_steps)
    assert lengths(monkeypatch, settings, **UPDATES) == pytest.approx([1.0, 1.0], rel=1e-4)


def test_gradients_for_an_optimizer_at_the_learner_keep_their_samples() -> None:
    bench = Bench(FLEET, share=0.5, quantity="gradient", learning_rate=0.01)
    bench.step()
    bench.link.share = LITTLE
    bench.step()
    held = bench.worker.simulators.portion
    assert held == portion(FLEET, LITTLE, adds=False)
    assert held.length == 1.0
    assert held.envs * held.rollout_steps >= FLEET.envs * FLEET.rollout_steps / FLEET.minibatches
    bench.worker.close()


def test_a_worker_whose_simulators_cannot_be_made_again_fails_and_leaves_none_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(FLEET)
    bench.step()

    def fail(*_: Any, **options: Any) -> Any:
        raise UserError("no more")

    monkeypatch.setattr(simulators, "make_vector_envs", fail)
    bench.link.share = LITTLE
    with pytest.raises(UserError, match="no more"):
        bench.step()
    bench.worker.close()


@pytest.mark.parametrize(
    ("shape", "network", "told"),
    [((7, 7, 20), "auto", ["image_flattened"]), ((7, 7, 3), "auto", []), ((7, 7, 20), "mlp", [])],
)
def test_an_image_that_goes_into_an_mlp_unasked_is_told(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], network: Any, told: list[str]
) -> None:
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(log, "write", lines.append)
    monkeypatch.setitem(gymnasium.registry, "Shown-v0", EnvSpec("Shown-v0", entry_point=lambda **_: Shown(shape)))
    settings = msgspec.structs.replace(SMALL, env="Shown-v0", network=network)
    layout = initial(settings, 0, ()).layout
    TrainingWorker(welcome(settings, layout), frozenset()).close()
    assert [line["event"] for line in lines] == told


class Shown(gymnasium.Env[Any, Any]):
    """An image that never changes."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


def at(bench: Bench, env_steps: int, version: int) -> list[Work]:
    """A rollout with weights that came at this age of the run."""
    assert bench.link.weights is not None
    bench.link.weights = replace(bench.link.weights, env_steps=env_steps, version=version)
    return bench.step()


def test_a_worker_follows_the_stages_of_the_weights_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[Any] = []
    monkeypatch.setattr(log, "write", lines.append)
    clip = {"wrapper": "gymnasium.wrappers:ClipReward", "options": {"min_reward": 0.0, "max_reward": 0.25}}
    curriculum = (Stage(100, {"discount": 0.5, "passes": 1}), Stage(200, {"wrappers": [clip]}))
    bench = Bench(msgspec.structs.replace(SMALL, curriculum=curriculum))
    scores = []
    for env_steps in (0, 99, 100, 199, 200, 300, 50):
        works = at(bench, env_steps, env_steps)
        held = bench.worker.settings
        scores.append((len(works), held.discount, len(held.wrappers)))
    assert scores == [(4, 0.99, 0)] * 2 + [(2, 0.5, 0)] * 2 + [(2, 0.5, 1)] * 2 + [(4, 0.99, 0)]
    told = [(line["stage"], line["from_env_steps"]) for line in lines if line["event"] == "stage_entered"]
    assert told == [(1, 100), (2, 200), (0, 0)]
    bench.worker.close()


def test_a_stage_pays_what_its_wrappers_let_through() -> None:
    clip = {"wrapper": "gymnasium.wrappers:ClipReward", "options": {"min_reward": 0.0, "max_reward": 0.25}}
    settings = msgspec.structs.replace(SMALL, rollout_steps=200, curriculum=(Stage(9, {"wrappers": [clip]}),))
    bench = Bench(settings)
    for env_steps, pay in ((0, 1.0), (9, 0.25)):
        report = at(bench, env_steps, env_steps)[0].report
        assert report is not None
        assert report.episodes
        assert all(episode.score == pay * episode.length for episode in report.episodes)
    bench.worker.close()


def test_a_value_method_keeps_its_target_and_its_exploration_through_a_stage() -> None:
    changes = {"algorithm": "n_step_q", "final_epsilons": (0.1, 0.5), "final_epsilon_odds": (0.5, 0.5)}
    settings = msgspec.structs.replace(SMALL, **changes, curriculum=(Stage(9, {"discount": 0.5}),))
    bench = Bench(settings)
    before = bench.worker.method
    at(bench, 9, 1)
    after = bench.worker.method
    assert isinstance(before, ActionValues)
    assert isinstance(after, ActionValues)
    assert before is not after
    assert after.final_epsilon == before.final_epsilon
    np.testing.assert_array_equal(after.target_weights.theta, before.target_weights.theta)
    bench.worker.close()


def test_a_module_of_a_later_stage_is_asked_for_at_once() -> None:
    settings = msgspec.structs.replace(SMALL, curriculum=(Stage(10**9, {"wrappers": ["elsewhere:Wrapper"]}),))
    with pytest.raises(UserError, match="'elsewhere', which this machine does not allow"):
        Bench(settings)
