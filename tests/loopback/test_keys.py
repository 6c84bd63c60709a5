"""A learner behind keys: who is let in trains, who is not waits, and who is taken off is out within seconds."""

from __future__ import annotations

import re
from functools import partial
from urllib.request import urlopen

from learner.security.keyring import revoke
from protocol.transport.keys import read_pair, write_pair
from protocol.transport.learner_sockets import new_pair
from tests.loopback.system import ENDLESS, Launcher, Said


def is_of(name: str, said: Said) -> bool:
    return bool(said["actor"] == name)


def test_keys_decide_who_takes_part(launch: Launcher) -> None:
    keys = launch.folder / "keys"
    for name in ("rack7", "rack8"):
        assert launch.command("learner", "keys", "new", name, "--keys", keys).wait() == 0
    where = ("--bind", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0")
    learner = launch.learner("--actors", 1, *where, "--keys", keys, *ENDLESS)
    started = learner.event("started")
    address = started["bound"][0]
    unknown = new_pair("unknown", read_pair(keys / "learner.key").public)
    write_pair(keys / "unknown.key", unknown)
    stranger = launch.actor(address, "stranger", "--key", keys / "unknown.key")
    racks = [launch.actor(address, name, "--key", keys / f"{name}.key") for name in ("rack7", "rack8")]
    for name in ("local-0", "rack7", "rack8"):
        learner.event("actor_joined", partial(is_of, name))
    for rack in racks:
        rack.event("welcomed")
    learner.event("progress", lambda said: said["version"] > 0)

    revoke(keys, "rack7")
    assert learner.event("actor_left", partial(is_of, "rack7"))["why"] == "its key was revoked"
    since = len(learner.events)
    seen = learner.event("progress", after=since)
    learner.event("progress", lambda said: said["version"] > seen["version"] + 100, after=since)

    assert "has not let in" in (why := stranger.event("waiting_for_learner")["why"])
    assert unknown.public in why
    assert "not a learner's first port" in why
    learner.event("key_unknown", lambda said: said["key"] == unknown.public)  # rack7, revoked, knocks too
    with urlopen(f"{started['http']}/metrics", timeout=30) as answer:
        (refused,) = re.findall(r"^farflung_learner_unauthenticated_total (\S+)$", answer.read().decode(), re.MULTILINE)
    assert float(refused) > 0
    assert stranger.said("welcomed") == []
    assert {said["actor"] for said in learner.said("actor_joined")} == {"local-0", "rack7", "rack8"}
    racks[0].event("waiting_for_learner")
    said = [daemon.story() for daemon in (learner, stranger, *racks)]
    said += [path.read_text(encoding="utf-8") for path in (launch.folder).rglob("*.json*")]
    for name in ("learner", "rack7", "rack8", "unknown"):
        secret = read_pair(keys / f"{name}.key").secret.reveal().decode()
        assert not any(secret in text for text in said)
