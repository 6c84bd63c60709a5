"""A learner's state for tests that only read it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from learner.config import Experiment, LearnerSettings, RunSettings
from learner.durability.storage import JournalStats
from learner.events import MessageArrived, NoiseEstimate
from learner.monitoring.metrics import Metrics, ServiceReadings
from learner.progress import Best, FadingMean, Pace, Progress
from learner.state import Address, LearnerState
from protocol.layout import Entry, Layout
from protocol.manifest import Manifest, digest_of
from protocol.messages import Episode, Gradient, Heartbeat, Hello, Losses, Message, Metric, Report, Role, Snapshot
from protocol.session import Ledger, Peer

TABLE = b"\x81\xa3env\xabCartPole-v1"  # {"env": "CartPole-v1"}
LAYOUT = Layout((Entry("w", (2, 3)), Entry("b", (4,))))


def manifest(**changes: object) -> Manifest:
    """Of a run with ten parameters."""
    fields: dict[str, object] = {
        "run": "test-7",
        "env": "CartPole-v1",
        "seed": 7,
        "layout": LAYOUT,
        "actor_table": TABLE,
        "actor_digest": digest_of(TABLE),
        "created": "today",
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def learner_state(
    progress: Progress | None = None,
    until_return: float | None = 475.0,
    now: float = 0.0,
    target_interval_steps: int | None = None,
) -> LearnerState:
    """A state that has heard nothing yet."""
    learner = LearnerSettings(target_interval_steps=target_interval_steps)
    experiment = Experiment(run=RunSettings(seed=7, until_return=until_return), learner=learner)
    snapshot = Snapshot(1, 0, "key", 0, LAYOUT.digest, "f32", 10, 10)
    address = Address(3, "ipc:///nowhere")
    return LearnerState(experiment, manifest(), address, (snapshot, []), progress or Progress(), Random(1), now)


def trained(scores: list[float]) -> Progress:
    """Books after one report of these episodes, three gradients applied and one refused."""
    progress = Progress(
        version=3, received_bytes=500, sent_bytes=900, gradient_received_bytes=400, snapshots=2, math_s=0.25
    )
    episodes, losses = tuple(Episode(score, 10) for score in scores), Losses(policy=0.5, entropy=0.6)
    progress.record(Report(1000, episodes, losses, 0, 0.75, (Metric("success", 0.5, 4),)))
    progress.rulings.update({"applied": 3, "stale_updates": 1})
    progress.faults["oversize"] += 2
    for lag in (0, 2, 5):
        progress.lags.observe(lag)
    return progress


def lived(
    state: LearnerState, clock: Callable[[], float] = lambda: 10.0, readings: ServiceReadings | None = None
) -> Metrics:
    """The numbers of a life in which all happened that the state's books hold."""
    books, state.progress = state.progress, Progress()
    metrics = Metrics(state, clock, readings)
    state.progress = books
    return metrics


def join(state: LearnerState, name: str, now: float, role: Role = "train") -> Peer:
    """One actor with a session, put there."""
    hello = Hello(name, len(state.peers) + 1, ("f32",))
    ledger, ordinal = Ledger(2), len(state.peers)
    peer = Peer(hello.instance, hello.instance, name, ordinal, b"r", now, ledger, progressed_at=now, role=role)
    state.sessions.add(peer)
    return peer


def fleet(count: int, keyed: bool = True) -> LearnerState:
    """A state that has welcomed so many actors, each of which has told of itself twice and waits for a verdict."""
    state = learner_state(trained([float(score) for score in range(100)]), target_interval_steps=100)
    for number in range(count):
        key, route = f"key-{number}" if keyed else "", b"%d" % number

        def hear(message: Message, now: float, key: str = key, route: bytes = route) -> None:
            state.handle(MessageArrived(route, message, (b"\1",), 100, key), now)  # type: ignore[arg-type]

        hear(Hello(f"actor-{number}", number + 1, ("f32",)), 0.0)
        session = next(reversed(state.peers))
        hear(Heartbeat(session, 0, 0), 1.0)
        hear(Heartbeat(session, 10 * number, 0, 0.001 * (number + 1), 0.1, 500, 300, 50, 100, number % 50), 2.0)
        hear(Gradient(session, 1, 0, "topk_i8", 10, 0), 3.0)
    return state


def whole(count: int = 1) -> tuple[LearnerState, ServiceReadings]:
    """A fleet of which everything is known that can be."""
    state, readings = fleet(count), ServiceReadings(journal=lambda: JournalStats(1, 2, 3.0))
    state.training_since = 1.0
    state.saving.journaled, state.saving.written_at, state.saving.version = True, 0.0, 1
    state.progress.best = Best(1.0, 1)
    scaled(state)
    return state, readings


def scaled(
    state: LearnerState, messages: float = 20.0, steps: int = 100, batch: int = 500, *, told: bool = True
) -> None:
    """Books of a fleet whose noise scale is known: of so many messages, of so many environment steps each; batch: that
    the fleet collects between two policies. The math thread works a tenth of the time.
    """
    progress = state.progress
    progress.noise = NoiseEstimate(messages, told)
    progress.message_steps, progress.batch_steps = FadingMean(steps, 1), FadingMean(batch, 1)
    progress.pace = Pace(1.0, 10.0, 1.0)
