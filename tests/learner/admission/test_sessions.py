"""Who is granted a session, and how many one key may hold."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from learner.admission.sessions import MAX_EVALUATORS, SPEAKS_BEATS, Sessions
from learner.config import LearnerSettings, learner_settings
from learner.events import Announce, Effect
from learner.progress import Progress
from protocol.errors import Reason, SessionFault
from protocol.layout import Entry, Layout
from protocol.manifest import Manifest, digest_of
from protocol.messages import Fault, Heartbeat, Hello, Role, Welcome, decode, encode

TABLE = b"\x80"
MANIFEST = Manifest(
    run="run",
    env="toy",
    seed=7,
    layout=Layout((Entry("w", (4,)),)),
    actor_table=TABLE,
    actor_digest=digest_of(TABLE),
    created="once",
)


def members(sessions_per_key: int | None = None, progress: Progress | None = None, most: int = 1024) -> Sessions:
    settings = LearnerSettings(sessions_per_key=sessions_per_key, max_actors=most)
    return Sessions(settings, MANIFEST, 1, "tcp://*:1", progress or Progress(), Random(0))


def greet(here: Sessions, instance: int, key: str, route: bytes = b"", now: float = 0.0, role: Role = "train") -> int:
    """Over a connection of its own where none is named. The session; those that yield to it have parted."""
    hello = Hello("actor", instance, ("f32",), role)
    peer, _, yielding = here.open(hello, route or b"of %d" % instance, key, now)
    for other, _ in yielding:
        here.close(other)
    return peer.session


def speaks(here: Sessions, *sessions: int) -> None:
    """They say something, as an actor does that was welcomed."""
    for session in sessions:
        here.peers[session].received_bytes += 1


def test_a_key_has_as_many_sessions_as_it_may_and_the_next_is_over_quota() -> None:
    here = members(2)
    first, _ = greet(here, 1, "key"), greet(here, 2, "key")
    with pytest.raises(SessionFault) as caught:
        greet(here, 3, "key")
    assert caught.value.reason is Reason.OVER_QUOTA
    assert greet(here, 1, "key") == first  # the same life again
    greet(here, 3, "other")
    here.close(here.peers[first])
    greet(here, 3, "key")


def test_what_went_wrong_in_an_actor_is_booked_once_and_announced_once() -> None:
    progress = Progress()
    here = members(None, progress)
    peer = here.peers[greet(here, 1, "key")]

    def told(*faults: Fault) -> list[Effect]:
        return here.record_heartbeat(peer, Heartbeat(peer.session, 0, 0, faults=faults), 1.0)

    news: dict[str, object] = {"actor": "actor", "kind": "raised", "detail": "boom"}
    assert told(Fault("raised", 2, "boom"), Fault("made up", 9)) == [Announce("actor_fault", news)]
    assert told(Fault("raised", 2, "boom")) == told(Fault("raised", 5, "bang")) == told(Fault("raised", 1)) == []
    assert progress.actor_faults == {"raised": 5}


@pytest.mark.parametrize(("most", "key"), [(None, "key"), (1, "")])
def test_without_a_bound_or_a_key_there_is_no_such_limit(most: int | None, key: str) -> None:
    here = members(most)
    assert len({greet(here, instance, key) for instance in range(20)}) == 20


def test_a_key_answers_for_all_its_sessions_and_without_one_each_for_itself() -> None:
    here = members(None)
    for instance, key in enumerate(("key", "key", "", "")):
        greet(here, instance, key)
    with_key, again, without, other = here.peers.values()
    assert with_key.sender == again.sender == "key"
    assert (without.sender, other.sender) == (without.session, other.session)


def keys_of(here: Sessions) -> list[str]:
    return sorted(peer.public_key for peer in here.peers.values())


def test_a_connection_holds_the_session_of_its_last_hello() -> None:
    here = members(most=4)
    for instance in range(100):
        greet(here, instance, "key", b"one")
    assert [peer.instance for peer in here.peers.values()] == [99]
    first = greet(here, 1, "key", b"two")
    assert greet(here, 1, "key", b"three") == first  # the same life over a new connection
    greet(here, 99, "key", b"three")  # and that becomes another's
    assert [peer.instance for peer in here.peers.values()] == [99]
    greet(here, 5, "key", b"one")  # which it left
    assert sorted(peer.instance for peer in here.peers.values()) == [5, 99]


def test_who_has_another_key_than_a_connection_had_ends_no_session_of_it() -> None:
    here = members()
    greet(here, 1, "key", b"one")
    greet(here, 2, "other", b"one")
    assert keys_of(here) == ["key", "other"]


def test_when_all_seats_are_taken_a_newcomer_has_one_of_the_key_that_holds_most() -> None:
    here = members(most=4)
    speaks(here, *(greet(here, instance, "thief") for instance in range(4)))
    here.peers[next(iter(here.peers))].gradients = 7  # its share of the work keeps it
    for instance, key in ((10, "one"), (11, "two"), (12, "three")):
        speaks(here, greet(here, instance, key))
        keys = keys_of(here)
    assert keys == ["one", "thief", "three", "two"]
    assert min(peer.instance for peer in here.peers.values()) == 0
    with pytest.raises(SessionFault) as caught:
        greet(here, 20, "thief")  # who was put out does not come back for another
    assert caught.value.reason is Reason.DRAINING


def test_a_fleet_with_one_key_may_have_every_seat_and_keeps_them() -> None:
    here = members(most=20)
    speaks(here, *(greet(here, instance, "fleet") for instance in range(20)))
    with pytest.raises(SessionFault, match="20 actors are here"):
        greet(here, 20, "fleet")
    assert len(here.peers) == 20


@pytest.mark.parametrize("key", ["", "key"])
def test_a_seat_whose_holder_never_spoke_is_a_newcomers_when_all_are_taken(key: str) -> None:
    here = members(most=2)
    late = SPEAKS_BEATS * LearnerSettings().heartbeat_s
    speaks(here, greet(here, 1, key))
    greet(here, 2, key)
    with pytest.raises(SessionFault):
        greet(here, 3, key, now=0.5 * late)
    greet(here, 2, key, now=late)  # to say hello again is not to speak
    greet(here, 3, key, now=late)
    assert [peer.instance for peer in here.peers.values()] == [1, 3]


def test_whose_words_a_learner_that_stood_still_has_not_read_keeps_its_seat() -> None:
    here = members(most=2)
    late = SPEAKS_BEATS * LearnerSettings().heartbeat_s
    greet(here, 1, "one")
    greet(here, 2, "two")
    here.extend_deadlines(late, late)
    with pytest.raises(SessionFault):
        greet(here, 3, "three", now=late)
    greet(here, 3, "three", now=2 * late)


def test_seats_to_evaluate_are_shared_among_keys_too() -> None:
    here = members()
    speaks(here, *(greet(here, instance, "thief", role="evaluate") for instance in range(MAX_EVALUATORS)))
    speaks(here, greet(here, 100, "other", role="evaluate"))
    assert (here.evaluating, keys_of(here).count("other")) == (MAX_EVALUATORS, 1)
    with pytest.raises(SessionFault):
        greet(here, 101, "thief", role="evaluate")


def test_who_did_not_dial_a_socket_file_is_told_of_none() -> None:
    here = Sessions(LearnerSettings(), MANIFEST, 1, "ipc:///run/a.weights tcp://*:1", Progress(), Random(0))
    peer, _, _ = here.open(Hello("actor", 1, ("f32",)), b"route", "", 0.0)
    assert here.welcome(peer).weights == "tcp://*:1"
    assert here.welcome(peer, local=True).weights == "ipc:///run/a.weights tcp://*:1"


@pytest.mark.parametrize(
    "given",
    [{}, {"anneal": "linear"}, {"anneal": "cosine"}, {"anneal": "piecewise", "anneal_points": [[0, 0.5], [9, 1]]}],
)
def test_a_welcome_tells_how_the_rate_falls(given: dict[str, Any]) -> None:
    settings = learner_settings(given)
    here = Sessions(settings, MANIFEST, 1, "tcp://*:1", Progress(), Random(0))
    greet(here, 1, "a")
    (peer,) = here.peers.values()
    frames = [bytes(frame) for frame in encode(here.welcome(peer))]
    told, _ = decode(frames)
    assert isinstance(told, Welcome)
    assert told.annealing == settings.anneal.told
