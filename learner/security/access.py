"""Who may be connected while a run goes on: the list of keys is watched, and a key taken off it loses its connections.

Knows the keyring and the sockets; no gradient, no clock. Without a keyring every peer may connect. A connection refused
for a key that is not on the list is announced: an actor whose key was mistyped looks like one that is not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from learner.events import KeysRevoked
from learner.security.keyring import Authorized, Keyring
from protocol.errors import UserError
from protocol.messages import ROLES
from protocol.session import Peer
from protocol.transport.keys import write_pair
from protocol.transport.learner_sockets import LearnerSockets, new_pair


def issue_local_keys(ring: Keyring, count: int, folder: Path) -> None:
    """A key in ``folder`` for each of this life's own actors, for as long as it lasts: each answers for itself."""
    for slot in range(count):
        pair = new_pair(f"local-{slot}", ring.pair.public)
        ring.extra[pair.public] = Authorized(pair.name, frozenset({"train"}))
        write_pair(folder / f"{pair.name}.key", pair)


ANNOUNCE_S = 60.0  # between two lines about refused connections, however many there are


class AccessList:
    """The keyring, held to the sockets. announce: tells people."""

    def __init__(
        self,
        ring: Keyring | None,
        sockets: LearnerSockets,
        announce: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._ring, self._sockets, self._announce = ring, sockets, announce
        self._partly_closed = False  # connections are cut and not all addresses could be listened on again
        self._announced, self._announce_at = 0, -math.inf  # refused connections

    def poll(self, now: float) -> KeysRevoked | None:
        """Reads the list again: a key taken off it loses its connections. An unreadable list changes nothing."""
        if self._ring is None:
            return None
        if (count := self._sockets.unauthenticated - self._announced) and now >= self._announce_at:
            self._announced, self._announce_at = self._sockets.unauthenticated, now + ANNOUNCE_S
            self._announce("key_unknown", {"key": self._sockets.last_unauthenticated, "connections": count})
        try:
            revoked = self._ring.refresh()
        except UserError as error:
            self._announce("keys_unreadable", {"cause": str(error)})
            return None
        if revoked:
            self._listen(self._sockets.disconnect_all)
            return KeysRevoked(revoked)
        if self._partly_closed:
            self._listen(self._sockets.listen)
        return None

    def roles(self, key: str) -> frozenset[str]:
        """What a public key may do; without a keyring everybody may do all."""
        return ROLES if self._ring is None else self._ring.roles(key)

    def is_local(self, peer: Peer) -> bool:
        """Whether it is a local actor, as its key says; without a keyring its name is believed."""
        return peer.name.startswith("local-") if self._ring is None else peer.public_key in self._ring.extra

    def _listen(self, begin: Callable[[], None]) -> None:
        """Where an address is not free, the next poll tries again: until then nobody can connect there."""
        try:
            begin()
        except UserError as error:
            if not self._partly_closed:
                self._announce("not_listening", {"cause": str(error)})
            self._partly_closed = True
            return
        self._partly_closed = False
