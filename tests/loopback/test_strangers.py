"""What a socket that anybody can reach does with what anybody sends: refused by name, counted, and θ stays as it is."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from learner.admission.telemetry import MOST_AGE, PARTS
from learner.config import LearnerSettings
from protocol.buffers import PREAMBLE
from protocol.errors import Reason
from protocol.messages import Goodbye, Heartbeat, Refusal, SnapshotRequest, Verdict
from tests.loopback.conftest import Waiting
from tests.loopback.stranger import Stranger


@pytest.fixture
def stranger(waiting: Waiting) -> Iterator[Stranger]:
    with Stranger(waiting.address) as opened:
        yield opened


def page(waiting: Waiting, path: str) -> str:
    with urllib.request.urlopen(waiting.url + path) as response:
        assert response.status == 200
        return str(response.read().decode())


def status(waiting: Waiting) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page(waiting, "/status"))
    return found


def counted(waiting: Waiting, family: str, **labels: str) -> float:
    """One series of /metrics."""
    for found in text_string_to_metric_families(page(waiting, "/metrics")):
        for sample in found.samples:
            if sample.name == f"farflung_learner_{family}" and sample.labels == labels:
                return sample.value
    raise AssertionError(f"no series {family} {labels}")


def header(*fields: object) -> bytes:
    return PREAMBLE + msgspec.msgpack.encode(fields)


GARBAGE = {
    "random_bytes": ([b"\x00\xff garbage \x80\x81"], Reason.MALFORMED_FRAME),
    "nothing": ([b""], Reason.MALFORMED_FRAME),
    "nine_frames": ([header("hello", "a", 1, [])] * 9, Reason.MALFORMED_FRAME),
    "another_version": ([b"FRF\x02" + header("hello", "a", 1, [])[4:]], Reason.WRONG_PROTOCOL),
    "unknown_kind": ([header("teapot", 1)], Reason.UNKNOWN_KIND),
    "no_array": ([PREAMBLE + b"\xc1"], Reason.MALFORMED_MESSAGE),
    "wrong_types": ([header("hello", 7, "a", None)], Reason.MALFORMED_MESSAGE),
    "a_frame_too_many": ([header("hello", "a", 1, []), b"more"], Reason.MALFORMED_MESSAGE),
    "long_header": ([PREAMBLE + bytes(1 << 20)], Reason.OVERSIZE),
    "unknown_session": ([header("heartbeat", 4711, 0, 0)], Reason.UNKNOWN_SESSION),
    "no_session": ([header("snapshot_request", 0)], Reason.UNKNOWN_SESSION),
    "a_learners_word": ([header("verdict", 1, 2, [[1, "applied", 0]])], Reason.UNEXPECTED_MESSAGE),
}


@pytest.mark.parametrize(("frames", "reason"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_by_name_and_counted(
    waiting: Waiting, stranger: Stranger, frames: list[bytes], reason: Reason
) -> None:
    before, version = counted(waiting, "faults_total", reason=reason), status(waiting)["version"]
    stranger.throw(*frames)
    assert stranger.hear(Refusal).reason == reason
    assert counted(waiting, "faults_total", reason=reason) == before + 1
    assert status(waiting)["faults"][reason] == before + 1
    assert status(waiting)["version"] == version


BAD_GRADIENTS: dict[str, tuple[float, dict[str, object], Reason]] = {
    "nan": (float("nan"), {}, Reason.NOT_FINITE),
    "infinity": (float("inf"), {}, Reason.NOT_FINITE),
    "huge": (1e30, {}, Reason.NORM_EXCEEDED),
    "too_long": (0.0, {"length": 7, "count": 7}, Reason.WRONG_LENGTH),
    "too_many": (0.0, {"count": 1 << 20}, Reason.MALFORMED_PAYLOAD),
    "another_codec_than_said": (0.0, {"codec": "topk_i8", "count": 5}, Reason.MALFORMED_PAYLOAD),
    "unheard_codec": (0.0, {"codec": "zip"}, Reason.UNKNOWN_CODEC),
    "from_the_future": (0.0, {"base_version": 1 << 40}, Reason.FUTURE_VERSION),
}


@pytest.mark.parametrize(("value", "changed", "reason"), BAD_GRADIENTS.values(), ids=BAD_GRADIENTS)
def test_a_bad_gradient_is_dropped_with_its_reason_and_changes_nothing(
    waiting: Waiting, stranger: Stranger, value: float, changed: dict[str, object], reason: Reason
) -> None:
    before, version = counted(waiting, "gradients_total", outcome=reason), status(waiting)["version"]
    stranger.greet()
    ruling = stranger.judged(*stranger.gradient(1, value, **changed))
    assert (ruling.outcome, ruling.scale) == (reason, 0.0)
    assert counted(waiting, "gradients_total", outcome=reason) == before + 1
    assert counted(waiting, "version") == status(waiting)["version"] == version


def test_a_short_payload_is_dropped(waiting: Waiting, stranger: Stranger) -> None:
    stranger.greet()
    gradient, payload = stranger.gradient()
    assert stranger.judged(gradient, payload[:-1]).outcome == Reason.MALFORMED_PAYLOAD


def test_a_sequence_number_is_judged_once_and_its_answer_repeated(waiting: Waiting, stranger: Stranger) -> None:
    stranger.greet()
    bad = stranger.gradient(1, float("nan"))
    first = stranger.judged(*bad)
    judged = counted(waiting, "gradients_total", outcome=Reason.NOT_FINITE)
    assert stranger.judged(*bad) == first
    assert counted(waiting, "gradients_total", outcome=Reason.NOT_FINITE) == judged


def test_a_number_that_was_answered_long_ago_is_a_duplicate(waiting: Waiting, stranger: Stranger) -> None:
    welcome = stranger.greet()
    most = max(welcome.credit, LearnerSettings().most_credit)
    for sequence in range(1, 5 * most + 1):  # the ledger keeps four times the most that is granted
        stranger.judged(*stranger.gradient(sequence, float("nan")))
    assert stranger.judged(*stranger.gradient(1)).outcome == Reason.DUPLICATE
    assert status(waiting)["rulings"][Reason.DUPLICATE] >= 1


def test_a_session_is_over_after_goodbye(stranger: Stranger) -> None:
    session = stranger.greet().session
    stranger.say(Goodbye(session, True, "for good"))
    stranger.say(SnapshotRequest(session))
    assert stranger.hear(Refusal).reason == Reason.UNKNOWN_SESSION


def test_a_refusal_leaves_the_session_alive(stranger: Stranger) -> None:
    session = stranger.greet().session
    stranger.throw(b"noise")
    assert stranger.hear(Refusal).reason == Reason.MALFORMED_FRAME
    stranger.say(*stranger.gradient(1, float("nan")))
    assert stranger.hear(Verdict).session == session


def test_the_pages_answer(waiting: Waiting, stranger: Stranger) -> None:
    welcome = stranger.greet()
    stranger.say(Heartbeat(welcome.session, 0, 0))
    assert page(waiting, "/livez") == page(waiting, "/readyz") == "ok\n"
    assert "Farflung learner" in page(waiting, "/")
    seen = status(waiting)
    assert seen["env"] == "CartPole-v1"
    assert seen["parameters"] == welcome.layout.length == counted(waiting, "parameters")
    assert "stranger" in [actor["name"] for actor in seen["actor_list"]]
    assert counted(waiting, "actors") == seen["actors"]
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        page(waiting, "/nothing")
    caught.value.close()


def test_what_an_actor_says_of_itself_does_not_spoil_the_page(waiting: Waiting, stranger: Stranger) -> None:
    session, top = stranger.greet().session, (1 << 53) - 1
    before = [counted(waiting, "actor_seconds_total", part=part) for part in PARTS]
    stranger.say(Heartbeat(session, 0, 0))
    stranger.say(Heartbeat(session, top, top, 86_400.0, 86_400.0, top, top, top, top, top))
    stranger.throw(b"noise")
    assert stranger.hear(Refusal).reason == Reason.MALFORMED_FRAME  # what came before it was heard
    assert [counted(waiting, "actor_seconds_total", part=part) for part in PARTS] == before
    assert counted(waiting, "residual_age_gradients", quantile="1") == MOST_AGE
    assert counted(waiting, "actor_lag_updates", quantile="0") == 0


def test_an_honest_actor_trains_among_strangers(waiting: Waiting, stranger: Stranger) -> None:
    before = status(waiting)
    honest = waiting.launcher.actor(waiting.address, "honest")
    waiting.learner.event("actor_joined", lambda said: said["actor"] == "honest")
    stranger.greet()
    stranger.throw(b"noise")
    assert stranger.hear(Refusal).reason == Reason.MALFORMED_FRAME
    assert stranger.judged(*stranger.gradient(1, float("nan"))).outcome == Reason.NOT_FINITE
    waiting.learner.event("progress", lambda said: said["version"] > before["version"] + 20)
    honest.process.terminate()
    assert honest.wait() == 0, honest.story()
    after = status(waiting)
    assert after["rulings"]["applied"] == after["version"] > before["version"]
    assert counted(waiting, "lag_updates_count") >= after["version"]
    assert counted(waiting, "gradient_wait_seconds_count") >= after["version"]
    assert counted(waiting, "weight_bytes_total", record="key") >= 4 * after["parameters"]
    assert counted(waiting, "loop_lag_seconds_count") > 0
    assert honest.said("fault") == []
