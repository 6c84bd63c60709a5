"""CURVE over real sockets: a peer with no key, a wrong one, or one that was taken off is heard by nobody."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any
from unittest.mock import Mock

import pytest
import zmq
from zmq.utils import z85

from protocol.buffers import PREAMBLE
from protocol.frames import Limits
from protocol.transport import learner_sockets
from protocol.transport import sockets as shared
from protocol.transport.actor_sockets import ActorSockets
from protocol.transport.address import Address, parse_address
from protocol.transport.keys import KeyPair, Secret
from protocol.transport.learner_sockets import BindError, CurveAuth, LearnerSockets, new_pair
from protocol.transport.sockets import Frames

DEADLINE_S = 20.0
OTHERS = 3  # actors that come in meanwhile: by then who dialled before them would have
OWN = new_pair("learner")


LONGEST = 100_000  # bytes of a frame, to the last of which there is room for CURVE's own


class Play:
    """A learner whose list of keys a test changes, and actors with keys of its choice."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]] | None = None, *, asks: bool = True) -> None:
        self.allowed: dict[str, str] = {}
        auth = CurveAuth(OWN.secret, self.allowed.get) if asks else None
        self.learner = LearnerSockets([Address("tcp", "127.0.0.1")], context, auth=auth)
        self.learner.set_limits(Limits(header_bytes=LONGEST, frame_bytes=LONGEST))
        self.heard: asyncio.Queue[tuple[bytes, str, Frames]] = asyncio.Queue()
        self.task = asyncio.create_task(self.learner.receive(lambda *message: self.heard.put_nowait(message)))
        self.closing: list[tuple[Callable[[], None], asyncio.Task[None]]] = [(self.learner.close, self.task)]

    def actor(self, pair: KeyPair | None) -> tuple[ActorSockets, asyncio.Queue[Frames], asyncio.Queue[list[Frames]]]:
        sockets = ActorSockets(parse_address(str(self.learner.bound[0])), pair=pair)
        link: asyncio.Queue[Frames] = asyncio.Queue()
        weights: asyncio.Queue[list[Frames]] = asyncio.Queue()
        sockets.connect()
        sockets.subscribe(self.learner.weights)
        task = asyncio.create_task(sockets.receive(link.put_nowait, weights.put_nowait))
        self.closing.append((sockets.close, task))
        return sockets, link, weights

    def known(self, name: str) -> KeyPair:
        pair = new_pair(name, OWN.public)
        self.allowed[pair.public] = name
        return pair

    async def told(self, weights: asyncio.Queue[list[Frames]]) -> None:
        """Until the stream reaches a subscriber."""
        while weights.empty():
            self.learner.publish([PREAMBLE + b"w"])
            await asyncio.sleep(0)

    async def heard_again(self, sockets: ActorSockets) -> tuple[bytes, str, Frames]:
        """What is sent until it is heard: a link that was cut loses what it takes before it knows."""
        while self.heard.empty():
            sockets.send([b"again"])
            await asyncio.sleep(0)
        return await self.heard.get()

    async def refused(self) -> None:
        """Until a connection was."""
        for _ in itertools.count():
            if self.learner.unauthenticated:
                return
            await asyncio.sleep(0)

    async def silent(self, *queues: asyncio.Queue[Any]) -> None:
        """Nothing is heard while actors, who dial later, are heard and hear at a learner that asks for no keys."""
        for _ in range(OTHERS):
            async with playing(Play(asks=False)) as other:
                sockets, _, weights = other.actor(None)
                sockets.send([b"hello"])
                await other.heard.get()
                while weights.empty():
                    self.learner.publish([PREAMBLE + b"w"])
                    other.learner.publish([PREAMBLE + b"w"])
                    await asyncio.sleep(0)
        assert all(queue.empty() for queue in queues)

    async def close(self) -> None:
        for close, task in reversed(self.closing):
            close()
            await asyncio.wait([task])


@contextlib.asynccontextmanager
async def playing(scene: Play) -> AsyncIterator[Play]:
    try:
        yield scene
    finally:
        await scene.close()


def play(
    story: Callable[[Play], Coroutine[Any, Any, None]], context: zmq.Context[zmq.Socket[bytes]] | None = None
) -> None:
    async def whole() -> None:
        async with playing(Play(context)) as scene, asyncio.timeout(DEADLINE_S):
            await story(scene)

    asyncio.run(whole())


def test_who_has_a_key_on_the_list_is_heard_under_it_and_hears() -> None:
    async def story(scene: Play) -> None:
        pair = scene.known("rack")
        sockets, link, weights = scene.actor(pair)
        sockets.send([b"hello", b"x" * LONGEST])
        route, key, frames = await scene.heard.get()
        assert (key, bytes(frames[0]), len(frames[1])) == (pair.public, b"hello", LONGEST)
        assert scene.learner.send(route, [b"welcome"])
        assert bytes((await link.get())[0]) == b"welcome"
        await scene.told(weights)
        assert scene.learner.unauthenticated == 0

    play(story)


def _unauthenticated() -> list[KeyPair | None]:
    unknown, other = new_pair("unknown", OWN.public), new_pair("rack", new_pair("another learner").public)
    borrowed = KeyPair("borrowed", new_pair("known").public, unknown.secret, OWN.public)
    return [None, unknown, other, borrowed]


@pytest.mark.parametrize(
    "number", range(4), ids=["no key", "unknown key", "another learner's", "public without secret"]
)
def test_an_unauthenticated_peer_is_heard_by_nobody_and_hears_nothing(number: int) -> None:
    async def story(scene: Play) -> None:
        peer = _unauthenticated()[number]
        if peer is not None and peer.name == "borrowed":
            scene.allowed[peer.public] = "known"
        sockets, link, weights = scene.actor(peer)
        sockets.send([b"hello"])
        await scene.silent(scene.heard, link, weights)

    play(story)


def test_without_a_handler_nobody_comes_in() -> None:
    """Authentication fails closed: nobody answers libzmq's requests, and even who is on the list does not come in."""

    async def story(scene: Play) -> None:
        scene.task.cancel()
        await asyncio.wait([scene.task])
        sockets, link, weights = scene.actor(scene.known("rack"))
        sockets.send([b"hello"])
        await scene.silent(scene.heard, link, weights)

    play(story)


def test_who_is_taken_off_is_cut_off_and_others_come_back_by_themselves() -> None:
    async def story(scene: Play) -> None:
        stays, goes = scene.known("stays"), scene.known("goes")
        staying, going = scene.actor(stays), scene.actor(goes)
        for sockets, _, weights in (staying, going):
            sockets.send([b"hello"])
            await scene.heard.get()
            await scene.told(weights)
        bound = scene.learner.bound
        del scene.allowed[goes.public]
        scene.learner.disconnect_all()
        assert scene.learner.bound == bound
        while not staying[2].empty():
            staying[2].get_nowait()
        await scene.told(staying[2])
        _, key, frames = await scene.heard_again(staying[0])
        assert (key, bytes(frames[0])) == (stays.public, b"again")
        while not going[2].empty():
            going[2].get_nowait()
        going[0].send([b"again"])
        await scene.refused()
        await scene.silent(going[2])
        assert {scene.heard.get_nowait()[1] for _ in range(scene.heard.qsize())} <= {stays.public}

    play(story)


def test_who_is_let_in_later_comes_in_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as the connection that was refused has run out its handshake."""
    monkeypatch.setitem(shared.EVERY, zmq.HANDSHAKE_IVL, 300)

    async def story(scene: Play) -> None:
        pair = new_pair("late", OWN.public)
        sockets, _, weights = scene.actor(pair)
        sockets.send([b"hello"])
        await scene.refused()
        await scene.silent(scene.heard, weights)
        scene.allowed[pair.public] = "late"
        assert (await scene.heard.get())[1] == pair.public
        await scene.told(weights)

    play(story)


def test_an_address_that_is_taken_meanwhile_is_listened_on_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(scene: Play) -> None:
        pair = scene.known("rack")
        sockets, _, weights = scene.actor(pair)
        sockets.send([b"hello"])
        await scene.heard.get()
        await scene.told(weights)
        refused = BindError(scene.learner.bound[0], "it is in use")
        with monkeypatch.context() as patched:
            patched.setattr(learner_sockets, "REBIND_S", 0.0)
            patched.setattr(learner_sockets, "bind_socket", Mock(side_effect=refused))
            with pytest.raises(BindError):
                scene.learner.disconnect_all()
            assert not scene.learner.send(b"route", [b"x"])
            with pytest.raises(BindError):
                scene.learner.listen()
        while not weights.empty():
            weights.get_nowait()
        scene.learner.listen(DEADLINE_S)  # libzmq gives the port back in its own time
        await scene.told(weights)
        assert bytes((await scene.heard_again(sockets))[2][0]) == b"again"

    play(story)


ODD = [
    [b"1.0", b"7", b"farflung", b"10.0.0.1", b"", b"NULL"],
    [b"1.0", b"7", b"farflung", b"10.0.0.1", b"", b"PLAIN", b"user", b"word"],
    [b"1.0", b"7", b"elsewhere", b"10.0.0.1", b"", b"CURVE", b"k" * 32],
    [b"1.0", b"7", b"farflung", b"10.0.0.1", b"", b"CURVE", b"k" * 31],
    [b"2.0", b"7", b"farflung", b"10.0.0.1", b"", b"CURVE", b"k" * 32],
]


@pytest.mark.parametrize("request_frames", ODD)
def test_a_request_that_is_odd_is_refused(request_frames: list[bytes]) -> None:
    """What reaches the handler is libzmq's own; whatever is odd about it is a no, even for a key on the list."""

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    async def story(scene: Play) -> None:
        scene.allowed[z85.encode(b"k" * 32).decode()] = "anybody"
        with context.socket(zmq.REQ) as asked:
            asked.linger = 0
            asked.connect("inproc://zeromq.zap.01")
            asked.send_multipart(request_frames)
            await asyncio.sleep(0)
            answer = await asyncio.get_running_loop().run_in_executor(None, asked.recv_multipart)
        assert answer[:3] == [b"1.0", b"7", b"300"]

    with context:
        play(story, context)


def test_a_secret_is_no_text_that_shows() -> None:
    assert "Secret(...)" in repr(CurveAuth(Secret("x" * 40), lambda _: None))
