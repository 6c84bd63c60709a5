"""Who may be connected while a run goes on: the list of keys is watched, and who was taken off it is cut off.

Knows the keyring and the sockets; no gradient, no clock. Without a keyring the doors stand open. Who knocks with a key
that is not on the list is told of: an actor whose key was mistyped looks like one that is not there.
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


def let_in(ring: Keyring, count: int, folder: Path) -> None:
    """A key in ``folder`` for each of this life's own actors, for as long as it lasts: each answers for itself."""
    for slot in range(count):
        pair = new_pair(f"local-{slot}", ring.pair.public)
        ring.extra[pair.public] = Authorized(pair.name, frozenset({"train"}))
        write_pair(folder / f"{pair.name}.key", pair)


TELL_S = 60.0  # between two lines about strangers, however many knock


class Doors:
    """announce: what people are told."""

    def __init__(
        self,
        ring: Keyring | None,
        sockets: LearnerSockets,
        announce: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._ring, self._sockets, self._announce = ring, sockets, announce
        self._cut = False  # connections are cut and not all addresses could be listened on again
        self._told, self._tell_at = 0, -math.inf  # strangers

    def look(self, now: float) -> KeysRevoked | None:
        """Who was taken off the list has to go. A list that cannot be read changes nothing."""
        if self._ring is None:
            return None
        if (count := self._sockets.strangers - self._told) and now >= self._tell_at:
            self._told, self._tell_at = self._sockets.strangers, now + TELL_S
            self._announce("key_unknown", {"key": self._sockets.stranger, "connections": count})
        try:
            revoked = self._ring.refresh()
        except UserError as error:
            self._announce("keys_unreadable", {"cause": str(error)})
            return None
        if revoked:
            self._listen(self._sockets.cut_off)
            return KeysRevoked(revoked)
        if self._cut:
            self._listen(self._sockets.listen)
        return None

    def roles(self, key: str) -> frozenset[str]:
        """What a key may do; without keys everybody may do all."""
        return ROLES if self._ring is None else self._ring.roles(key)

    def ours(self, peer: Peer) -> bool:
        """Whether it is a local actor, as its key says; without keys everybody is believed."""
        return peer.name.startswith("local-") if self._ring is None else peer.key in self._ring.extra

    def _listen(self, begin: Callable[[], None]) -> None:
        """Tries again with the next look where an address is not free: until then nobody comes in there."""
        try:
            begin()
        except UserError as error:
            if not self._cut:
                self._announce("not_listening", {"cause": str(error)})
            self._cut = True
            return
        self._cut = False
