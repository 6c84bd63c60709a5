"""Who is granted a session, and how many one key may hold."""

from __future__ import annotations

from random import Random

import pytest

from learner.config import LearnerSettings
from learner.events import Announce, Effect
from learner.members import Members
from learner.progress import Progress
from protocol.errors import Reason, SessionFault
from protocol.layout import Entry, Layout
from protocol.manifest import Manifest, digest_of
from protocol.messages import Fault, Heartbeat, Hello

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


def members(sessions_per_key: int | None) -> Members:
    settings = LearnerSettings(sessions_per_key=sessions_per_key)
    return Members(settings, MANIFEST, 1, "tcp://*:1", Progress(), Random(0))


def greet(here: Members, instance: int, key: str) -> int:
    return here.greet(Hello("actor", instance, ("f32",)), b"route", key, 0.0)[0].session


def test_a_key_has_as_many_sessions_as_it_may_and_the_next_is_over_quota() -> None:
    here = members(2)
    first, _ = greet(here, 1, "key"), greet(here, 2, "key")
    with pytest.raises(SessionFault) as caught:
        greet(here, 3, "key")
    assert caught.value.reason is Reason.OVER_QUOTA
    assert greet(here, 1, "key") == first  # the same life again
    greet(here, 3, "other")
    here.part(here.peers[first])
    greet(here, 3, "key")


def test_what_went_wrong_in_an_actor_is_booked_once_and_announced_once() -> None:
    here = members(None)
    peer = here.peers[greet(here, 1, "key")]

    def told(*faults: Fault) -> list[Effect]:
        return here.told(peer, Heartbeat(peer.session, 0, 0, faults=faults), 1.0)

    news: dict[str, object] = {"actor": "actor", "kind": "raised", "detail": "boom"}
    assert told(Fault("raised", 2, "boom"), Fault("made up", 9)) == [Announce("actor_fault", news)]
    assert told(Fault("raised", 2, "boom")) == told(Fault("raised", 5, "bang")) == told(Fault("raised", 1)) == []
    assert here._progress.actor_faults == {"raised": 5}


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
