"""Who has a session: grants, welcomes, and who counts as training. Pure. ``now`` is an argument.

An evaluating actor plays with published weights and sends scores, never gradients. It takes no ordinal of the training
actors, so that watching a run does not change its seeds, and nothing that asks whether anybody trains counts it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Container, Sequence
from random import Random

from learner.admission.credit import first
from learner.admission.shares import LEAST, Shares, differs
from learner.admission.telemetry import Telemetry
from learner.config import LearnerSettings
from learner.events import Announce, Effect, Send
from learner.progress import Progress
from protocol.errors import Reason, SessionFault
from protocol.manifest import Manifest
from protocol.messages import FAULTS, ROLES, Goodbye, Heartbeat, Hello, Role, Welcome
from protocol.session import Ledger, Peer, Sender
from protocol.snapshot import KEY_FRAME_CODEC

MAX_EVALUATORS = 16  # each may hold one whole snapshot in the learner's memory
SPEAKS_BEATS = 3.0  # heartbeats within which who was welcomed says something, if it means to take part

Yielding = list[tuple[Peer, str]]  # whose session ends for a newcomer's sake, and why


class Sessions:
    """The sessions of one life of the learner. peers: by session. epoch: of this life. weights: as in a welcome.

    training: how many may send gradients; training_from: since when there are any. evaluating: how many send scores.
    """

    def __init__(
        self,
        settings: LearnerSettings,
        manifest: Manifest,
        epoch: int,
        weights: str,
        progress: Progress,
        random: Random,
    ) -> None:
        self.peers: dict[int, Peer] = {}
        self.training = self.evaluating = 0
        self.training_from: float | None = None
        self.telemetry, self.shares = Telemetry(), Shares()
        self._training: Counter[Sender] = Counter()  # sessions of each sender
        self._evaluating: Counter[Sender] = Counter()
        self._lives: dict[tuple[int, str], Peer] = {}  # by the actor's life and its key
        self._greeted: dict[bytes, Peer] = {}  # by the connection that its last hello came over
        self._heard_from = -math.inf  # no peer was heard last before
        self._settings, self._manifest, self._progress = settings, manifest, progress
        self._epoch, self._weights, self._random = epoch, weights, random

    def extend_deadlines(self, stalled_s: float, now: float) -> None:
        """The learner itself stood still for so long: what its peers said meanwhile is not read yet."""
        for peer in self.peers.values():
            peer.heard_at = min(now, peer.heard_at + stalled_s)
            peer.progressed_at = min(now, peer.progressed_at + stalled_s)

    def silent(self, now: float) -> list[Peer]:
        """Who is gone: was not heard for ``silence_s``. Nobody is looked at before the one heard longest ago can be."""
        if now - self._heard_from <= self._settings.silence_s:
            return []
        self._heard_from = min((peer.heard_at for peer in self.peers.values()), default=now)
        return [peer for peer in self.peers.values() if peer.silent(now, self._settings.silence_s)]

    @property
    def senders(self) -> Collection[Sender]:
        """Those that train: each key once, or where none is asked for each session."""
        return self._training.keys()

    def open(
        self, hello: Hello, route: bytes, key: str, now: float, roles: Container[str] = ROLES
    ) -> tuple[Peer, bool, Yielding]:
        """The session for this hello, whether it is a new one, and those that end for it, which the caller parts with.

        key: what the connection proved to have, to which the session is bound for its life. A connection holds one
        session: that of its last hello. roles: what the key may do. Raises SessionFault where there is none for it.
        """
        if hello.role not in roles:
            raise SessionFault(Reason.UNEXPECTED_MESSAGE, f"this key may not {hello.role}; the learner's list says so")
        if KEY_FRAME_CODEC not in hello.codecs:
            raise SessionFault(Reason.UNKNOWN_CODEC, f"θ is written in {KEY_FRAME_CODEC}, which this actor cannot read")
        peer, before = self._lives.get((hello.instance, key)), self._greeted.get(route)
        if peer is not None and peer.role != hello.role:
            raise SessionFault(Reason.UNEXPECTED_MESSAGE, f"this life of the actor has a session to {peer.role}")
        yielding: Yielding = []
        if before is not None and before is not peer and before.public_key == key:
            yielding.append((before, "its connection greets as another"))
        if new := peer is None:
            self._make_room(hello.role, key, yielding, now)
            peer = self._grant(hello, route, key, now)
        else:
            peer.receive(hello, route, now)
        self._leave_connection(peer)
        peer.greeted, self._greeted[route] = route, peer
        return peer, new, yielding

    def _make_room(self, role: Role, key: str, yielding: Yielding, now: float) -> None:
        """Adds who yields to a newcomer where all seats are taken; raises SessionFault where nobody does."""
        gone = {peer.session for peer, _ in yielding}
        most = self._settings.sessions_per_key
        ours = self._training[key] + self._evaluating[key] - sum(peer.public_key == key for peer, _ in yielding)
        if key and most is not None and ours >= most:
            raise SessionFault(
                Reason.OVER_QUOTA, f"{most} sessions of one key, learner.sessions_per_key allows no more"
            )
        evaluating = self.evaluating - sum(not peer.trains for peer, _ in yielding)
        if role == "evaluate" and evaluating >= MAX_EVALUATORS:
            crowd = [peer for peer in self.peers.values() if not peer.trains and peer.session not in gone]
            told = f"{MAX_EVALUATORS} actors evaluate, more would cost too much memory"
            yielding.append(self._yielding(crowd, key, told, now))
        if len(self.peers) - len(yielding) >= self._settings.max_actors:
            crowd = [peer for peer in self.peers.values() if peer.session not in gone]
            told = f"{len(crowd)} actors are here, learner.max_actors allows no more"
            yielding.append(self._yielding(crowd, key, told, now))

    def _yielding(self, crowd: Sequence[Peer], key: str, told: str, now: float) -> tuple[Peer, str]:
        """Who of a crowd yields to a newcomer: one that never said anything, else one of the key that holds most, if it
        holds at least two more than the newcomer's does. Raises SessionFault.
        """
        late = now - SPEAKS_BEATS * self._settings.heartbeat_s
        silent = [peer for peer in crowd if not peer.received_bytes and peer.progressed_at <= late]
        if silent:
            return min(silent, key=lambda peer: peer.progressed_at), "said nothing"
        held = Counter(peer.public_key for peer in crowd)
        most, count = held.most_common(1)[0]
        if not key or count < held[key] + 2:
            raise SessionFault(Reason.DRAINING, told)
        theirs = [peer for peer in crowd if peer.public_key == most]
        return min(theirs, key=lambda peer: (peer.gradients, -peer.ordinal)), "made room for another key"

    def _grant(self, hello: Hello, route: bytes, key: str, now: float) -> Peer:
        peer = Peer(
            session=self._random.getrandbits(62) + 1,
            instance=hello.instance,
            name=hello.name,
            ordinal=self._next_ordinal(hello.role == "train"),
            route=route,
            heard_at=now,
            ledger=Ledger(max(self._settings.credit, self._settings.most_credit)),
            progressed_at=now,
            role=hello.role,
            public_key=key,
            credit=first(self.training + 1, self._settings),
        )
        self.add(peer)
        return peer

    def record_heartbeat(self, peer: Peer, beat: Heartbeat, now: float) -> list[Effect]:
        """A heartbeat says how far this actor is, and what went wrong in it."""
        if beat.progress > peer.progress:
            peer.progress, peer.progressed_at = beat.progress, now
        peer.version = beat.version
        if peer.trains:
            self.telemetry.record(beat, now)
        return self._faults(peer, beat)

    def _faults(self, peer: Peer, beat: Heartbeat) -> list[Effect]:
        """Books them, and announces the kinds that this actor tells for the first time."""
        told = [fault for fault in beat.faults if fault.kind in FAULTS and fault.count > peer.faults[fault.kind]]
        new = [(fault.kind, fault.detail) for fault in told if not peer.faults[fault.kind]]
        for fault in told:
            self._progress.actor_faults[fault.kind] += fault.count - peer.faults[fault.kind]
            peer.faults[fault.kind] = fault.count
        return [Announce("actor_fault", {"actor": peer.name, "kind": kind, "detail": detail}) for kind, detail in new]

    def add(self, peer: Peer) -> None:
        """Its session begins."""
        self.peers[peer.session] = self._lives[peer.instance, peer.public_key] = peer
        self._count(peer, 1)
        if peer.trains:
            self.shares.join(peer.session, peer.heard_at)
        if self.training and self.training_from is None:
            self.training_from = peer.heard_at

    def close(self, peer: Peer) -> None:
        """Its session is over."""
        del self.peers[peer.session], self._lives[peer.instance, peer.public_key]
        self._leave_connection(peer)
        self._count(peer, -1)
        self.telemetry.forget(peer.session)
        self.shares.leave(peer.session)
        if not self.training:
            self.training_from = None

    def validate(self) -> None:
        """The books agree with the sessions. Raises AssertionError."""
        peers = self.peers.values()
        assert all(peer.session == session for session, peer in self.peers.items()), "a session under another number"
        assert self._lives == {(peer.instance, peer.public_key): peer for peer in peers}, "a life without its session"
        assert set(map(id, self._greeted.values())) <= set(map(id, peers)), "a connection of a session that is over"
        training = sum(peer.trains for peer in peers)
        assert (self.training, self.evaluating) == (training, len(peers) - training), "sessions counted wrong"
        assert self._training == Counter(peer.sender for peer in peers if peer.trains), "senders counted wrong"
        assert set(self.shares) == {peer.session for peer in peers if peer.trains}, "a share of nobody, or none"
        assert not training or 1.0 - 1e-9 <= sum(map(self.shares.of, self.shares)) <= 1.0 + LEAST, "shares of no whole"

    def joined(self, peer: Peer) -> Announce:
        """Its session began: a line for people."""
        told: dict[str, object] = {"actor": peer.name, "ordinal": peer.ordinal, "actors": self.training}
        return Announce("actor_joined" if peer.trains else "evaluator_joined", told)

    def left(self, peer: Peer, why: str) -> Announce:
        """Its session is over: a line for people."""
        told: dict[str, object] = {"actor": peer.name, "why": why, "actors": self.training}
        return Announce("actor_left" if peer.trains else "evaluator_left", told)

    def _leave_connection(self, peer: Peer) -> None:
        if self._greeted.get(peer.greeted) is peer:
            del self._greeted[peer.greeted]

    def _count(self, peer: Peer, change: int) -> None:
        sessions = self._training if peer.trains else self._evaluating
        sessions[peer.sender] += change
        if not sessions[peer.sender]:
            del sessions[peer.sender]
        self.training += change if peer.trains else 0
        self.evaluating += 0 if peer.trains else change

    def _next_ordinal(self, trains: bool) -> int:
        progress = self._progress
        if trains:
            progress.sessions_granted += 1
            return progress.sessions_granted - 1
        progress.evaluators_granted += 1
        return progress.evaluators_granted - 1

    def welcome(self, peer: Peer, local: bool = False) -> Welcome:
        """What this peer is told, as often as it says hello. local: it dialled a socket file, whose path is nobody
        else's business.
        """
        peer.ledger.grant(peer.credit)
        peer.share = self.shares.told(peer.session)
        weights = [text for text in self._weights.split() if local or not text.startswith("ipc:")]
        return Welcome(
            instance=peer.instance,
            run=self._manifest.run,
            epoch=self._epoch,
            session=peer.session,
            ordinal=peer.ordinal,
            seed=self._manifest.seed,
            credit=peer.credit,
            heartbeat_s=self._settings.heartbeat_s,
            silence_s=self._settings.silence_s,
            quantity=self._settings.quantity,
            weights=" ".join(weights),
            layout=self._manifest.layout,
            table=self._manifest.actor_table,
            table_digest=self._manifest.actor_digest,
            credit_lag=self._settings.credit_lag,
            **self._settings.anneal.told._asdict(),
            learning_rate=self._settings.learning_rate,
            share=peer.share,
        )

    def heartbeats(self, version: int, *, changed: bool = False) -> list[Send]:
        """A heartbeat for each. version: newest that the weight stream has told. changed: only where there is another
        share to tell.
        """
        effects = []
        for peer in map(self.peers.__getitem__, self.shares.changed() if changed else self.peers):
            share = self.shares.told(peer.session)
            if not changed or differs(share, peer.share):
                peer.share = share
                effects.append(Send(peer.route, Heartbeat(peer.session, self._progress.version, version, share=share)))
        return effects

    def goodbyes(self, final: bool) -> list[Send]:
        """The last word for each. final: the run is over, and nobody need come back."""
        detail = "the run is over" if final else "the learner stops; it may be back"
        return [Send(p.route, Goodbye(p.session, final, detail)) for p in self.peers.values()]
