"""What an actor's dial came to, in words, over real sockets: each reason why nobody answers is another line."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from protocol.buffers import PREAMBLE
from protocol.transport import actor_sockets
from protocol.transport.actor_sockets import ActorSockets
from protocol.transport.address import Address, parse_address
from protocol.transport.keys import KeyPair
from protocol.transport.learner_sockets import CurveAuth, LearnerSockets, new_pair
from protocol.transport.resolver import NoSuchName, Resolver
from protocol.transport.sockets import Frames

DEADLINE_S = 20.0
OWN = new_pair("learner")


class Scene:
    """A learner on loopback, which lets in nobody where it asks for keys, and one actor."""

    def __init__(self, auth: bool) -> None:
        self.learner = LearnerSockets(
            [Address("tcp", "127.0.0.1")], auth=CurveAuth(OWN.secret, lambda _: None) if auth else None
        )
        self.heard: asyncio.Queue[Frames] = asyncio.Queue()
        self.weights: asyncio.Queue[list[Frames]] = asyncio.Queue()
        self.tasks = [asyncio.create_task(self.learner.receive(lambda *message: self.heard.put_nowait(message[2])))]
        self.closing: list[Callable[[], None]] = [self.learner.close]
        self.port = self.learner.bound[0].port

    async def actor(self, address: str, pair: KeyPair | None = None) -> ActorSockets:
        sockets = ActorSockets(parse_address(address), pair=pair)
        self.closing.append(sockets.close)
        sockets.connect()
        self.tasks.append(asyncio.create_task(sockets.receive(lambda _: None, self.weights.put_nowait)))
        await asyncio.sleep(0)  # until both sides receive
        return sockets


def play(story: Callable[[Scene], Coroutine[Any, Any, None]], *, auth: bool = False) -> None:
    async def whole() -> None:
        scene = Scene(auth)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await story(scene)
        finally:
            for close in scene.closing:
                close()
            await asyncio.wait(scene.tasks)

    asyncio.run(whole())


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until the other threads have done their part."""
    for _ in itertools.count():
        if condition():
            return
        await asyncio.sleep(0)


async def told(sockets: ActorSockets, words: str) -> None:
    """Until what the present dial has come to has these words; the next dial then says so."""
    await until(lambda: words in sockets.dial_status)
    sockets.redial()
    assert words in sockets.trouble


def leads_to(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    async def look_up(self: Resolver) -> Sequence[Address]:
        if not found:
            raise NoSuchName("no such name: learner.example")
        return [parse_address(each) for each in found]

    monkeypatch.setattr(Resolver, "look_up", look_up)


def test_a_learner_that_is_there_and_silent() -> None:
    async def story(scene: Scene) -> None:
        await told(await scene.actor(f"tcp://127.0.0.1:{scene.port}"), "is there, and has not answered")

    play(story)


def test_a_port_where_nobody_listens() -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(0)
        scene.learner.close()
        await told(
            await scene.actor(f"tcp://127.0.0.1:{scene.port}"), f"nobody listens at tcp://127.0.0.1:{scene.port}"
        )

    play(story)


@pytest.mark.parametrize("keyed", [True, False])
def test_a_key_that_is_not_let_in_and_none_at_all(keyed: bool) -> None:
    async def story(scene: Scene) -> None:
        pair = new_pair("rack", OWN.public) if keyed else None
        words = f"for another learner: {str(pair.learner)[:8]}" if pair else "asks for a key: --key FILE"
        await told(await scene.actor(f"tcp://127.0.0.1:{scene.port}", pair), words)
        await until(lambda: not keyed or scene.learner.unauthenticated > 0)
        assert scene.learner.last_unauthenticated == (pair.public if pair else "")

    play(story, auth=True)


def test_a_name_that_leads_nowhere_and_later_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up at each dial, and what was said meanwhile arrives."""

    async def story(scene: Scene) -> None:
        leads_to(monkeypatch)
        sockets = await scene.actor("tcp://learner.example:5555")
        assert sockets.send([b"to nobody"])
        await until(lambda: sockets.dial_status == "no such name: learner.example")
        leads_to(monkeypatch, f"tcp://127.0.0.1:{scene.port}")
        sockets.redial()
        assert sockets.trouble == "no such name: learner.example"
        assert sockets.send([b"hello"])
        assert await scene.heard.get() == [b"hello"]
        sockets.subscribe(scene.learner.weights)

        def streamed() -> bool:
            scene.learner.publish([PREAMBLE + b"w"])
            return not scene.weights.empty()

        await until(streamed)

    play(story)


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(scene: Scene) -> None:
        leads_to(monkeypatch, "tcp://127.0.0.1:1", f"tcp://127.0.0.1:{scene.port}")
        sockets = await scene.actor("tcp://learner.example:5555")
        sockets.send([b"hello"])
        assert await scene.heard.get() == [b"hello"]
        leads_to(monkeypatch, "tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
        sockets.redial()
        nobody = "nobody listens at any of tcp://127.0.0.1:1, tcp://127.0.0.1:2"
        await until(lambda: sockets.dial_status == nobody)

    play(story)


def test_what_waits_for_a_name_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(scene: Scene) -> None:
        async def look_up(self: Resolver) -> Sequence[Address]:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        monkeypatch.setattr(Resolver, "look_up", look_up)
        sockets = await scene.actor("tcp://learner.example:5555")
        taken = [sockets.send([b"x"]) for _ in range(actor_sockets.EARLY_MESSAGES + 2)]
        assert taken == [*[True] * actor_sockets.EARLY_MESSAGES, False, False]
        assert sockets.unsent == 2

    play(story)
