"""Real sockets, one test per behaviour: what the network in memory promises is what these keep."""

from __future__ import annotations

import asyncio
import itertools
import select
import socket as unix
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
import zmq

from protocol.buffers import PREAMBLE
from protocol.errors import UserError
from protocol.frames import Limits
from protocol.transport import sockets as shared
from protocol.transport.actor_sockets import ActorSockets
from protocol.transport.address import Address, AddressError, parse_address
from protocol.transport.learner_sockets import EARLY_FRAME_BYTES, BindError, LearnerSockets
from protocol.transport.sockets import CURVE_BYTES, LENT_BYTES, Frames

DEADLINE_S = 20.0  # a hang becomes a failure; nothing waits for it otherwise
LIMIT = 1 << 20
ANY, BEGIN, END = PREAMBLE + b"any", PREAMBLE + b"begin", PREAMBLE + b"end"
SYSTEM_BYTES = 1 << 19  # what the system takes of a message over ipc before anybody reads
LIMITS = Limits(frame_bytes=LIMIT)
TRIES = (zmq.RECONNECT_IVL, zmq.RECONNECT_IVL_MAX)
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


class Learner:
    """Keeps what arrives, and lets a test wait for it. early: it does not know its layout."""

    def __init__(self, *addresses: Address, early: bool = False) -> None:
        self.sockets = LearnerSockets(addresses, quantity="update")
        if not early:
            self.sockets.set_limits(LIMITS)
        self.heard: asyncio.Queue[tuple[bytes, Frames]] = asyncio.Queue()
        self.task = asyncio.create_task(
            self.sockets.receive(lambda route, key, frames: self.heard.put_nowait((route, frames)))
        )


class Actor:
    """The same, dialled to a learner."""

    def __init__(self, address: str) -> None:
        self.sockets = ActorSockets(parse_address(address), max_frame_bytes=2 * LIMIT)
        self.heard: asyncio.Queue[Frames] = asyncio.Queue()
        self.snapshots: asyncio.Queue[list[Frames]] = asyncio.Queue()
        self.sockets.connect()
        self.task = asyncio.create_task(self.sockets.receive(self.heard.put_nowait, self.snapshots.put_nowait))


class House:
    """Makes learners and actors and closes them all."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.closing: list[tuple[Callable[[], None], asyncio.Task[None]]] = []

    def early(self) -> Learner:
        return self.learner(early=True)

    def learner(self, *addresses: Address, early: bool = False) -> Learner:
        learner = Learner(*(addresses or (self.address,)), early=early)
        self.closing.append((learner.sockets.close, learner.task))
        return learner

    def actor(self, learner: Learner, which: int = 0) -> Actor:
        actor = Actor(str(learner.sockets.bound[which]))
        self.closing.append((actor.sockets.close, actor.task))
        return actor

    async def close(self) -> None:
        for close, task in reversed(self.closing):
            close()
            await asyncio.wait([task])


Story = Callable[[House], Coroutine[Any, Any, None]]
Play = Callable[[Story], None]


@pytest.fixture(params=["uvloop-ipc", "uvloop-tcp", "asyncio-ipc", "asyncio-tcp"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    loop, scheme = request.param.split("-")
    address = Address("tcp", "127.0.0.1") if scheme == "tcp" else Address("ipc", path=str(tmp_path / "l"))

    async def whole(story: Story) -> None:
        house = House(address)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await story(house)
        finally:
            await house.close()

    def run(story: Story) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(whole(story))

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until the other threads have done their part."""
    for _ in itertools.count():
        if condition():
            return
        await asyncio.sleep(0)


async def subscribed(learner: Learner, actor: Actor, frames: Frames) -> list[Frames]:
    """Publishes until the subscription has taken effect; a subscriber never learns when it has."""
    actor.sockets.subscribe(learner.sockets.weights)

    def arrived() -> bool:
        learner.sockets.publish(frames)
        return not actor.snapshots.empty()

    await until(arrived)
    return actor.snapshots.get_nowait()


def test_messages_go_both_ways_whole(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        actor = house.actor(learner)
        assert actor.sockets.send([b"hello", b"", memoryview(b"x" * 100_000)])
        route, frames = await learner.heard.get()
        assert frames == [b"hello", b"", b"x" * 100_000]
        assert learner.sockets.send(route, [b"welcome", b"\0"])
        assert await actor.heard.get() == [b"welcome", b"\0"]

    play(story)


def test_each_peer_has_its_route(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        actors = [house.actor(learner) for _ in range(5)]
        for n, actor in enumerate(actors):
            actor.sockets.send([bytes([n])])
        for _ in actors:
            route, frames = await learner.heard.get()
            assert learner.sockets.send(route, [b"you are", *frames])
        for n, actor in enumerate(actors):
            assert await actor.heard.get() == [b"you are", bytes([n])]

    play(story)


def test_a_flood_arrives_in_order_and_leaves_the_loop_its_turns(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        actor = house.actor(learner)
        sent = 0
        while sent < 2000:
            if actor.sockets.send([sent.to_bytes(4, "big"), b"x" * 1000]):
                sent += 1
            else:
                await asyncio.sleep(0)
        numbers = [int.from_bytes((await learner.heard.get())[1][0], "big") for _ in range(2000)]
        assert numbers == list(range(2000))

    play(story)


def test_answers_sent_from_within_the_handler(play: Play) -> None:
    """Sending uses up the descriptor's wake-ups: none may be missed in a long exchange."""

    async def story(house: House) -> None:
        sockets = LearnerSockets([house.address])

        def echo(route: bytes, key: str, frames: Frames) -> None:
            assert sockets.send(route, frames)

        task = asyncio.create_task(sockets.receive(echo))
        house.closing.append((sockets.close, task))
        actor = Actor(str(sockets.bound[0]))
        house.closing.append((actor.sockets.close, actor.task))
        for n in range(500):
            actor.sockets.send([b"%d" % n])
            actor.sockets.send([b"again"])
            assert await actor.heard.get() == [b"%d" % n]
            assert await actor.heard.get() == [b"again"]

    play(story)


def opened(monkeypatch: pytest.MonkeyPatch) -> list[zmq.Socket[bytes]]:
    """Every ZeroMQ socket from now on."""
    made: list[zmq.Socket[bytes]] = []
    real = zmq.Context.socket

    def recording(context: zmq.Context[zmq.Socket[bytes]], *what: Any, **more: Any) -> zmq.Socket[bytes]:
        made.append(real(context, *what, **more))
        return made[-1]

    monkeypatch.setattr(zmq.Context, "socket", recording)
    return made


def test_a_wake_up_that_sending_used_up_is_not_missed(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(monkeypatch)

    async def story(house: House) -> None:
        learner = house.learner()
        actor = house.actor(learner)
        actor.sockets.send([b"hello"])
        route, _ = await learner.heard.get()
        (link,) = (socket for socket in made if socket.type == zmq.DEALER)
        for n in range(50):
            learner.sockets.send(route, [b"%d" % n])
            select.select([link.fileno()], [], [], DEADLINE_S)  # the loop stands still: it must not see this
            actor.sockets.send([b"busy"])
            assert await actor.heard.get() == [b"%d" % n]

    play(story)


def test_what_one_turn_leaves_the_next_one_takes(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "DRAIN_MESSAGES", 1)

    async def story(house: House) -> None:
        learner = house.learner()
        actor = house.actor(learner)
        actor.sockets.send([b"hello"])
        route, _ = await learner.heard.get()
        for n in range(50):
            assert learner.sockets.send(route, [b"%d" % n])
        for n in range(50):
            assert await actor.heard.get() == [b"%d" % n]

    play(story)


def test_every_subscriber_gets_what_is_published(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        for actor in [house.actor(learner), house.actor(learner)]:
            batch = await subscribed(learner, actor, [PREAMBLE + b"key", b"weights"])
            assert batch[0] == [PREAMBLE + b"key", b"weights"]

    play(story)


def test_snapshots_come_oldest_first(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        actor = house.actor(learner)
        await subscribed(learner, actor, [ANY])
        for n in range(5):
            learner.sockets.publish([PREAMBLE + bytes([n])])
        received: list[bytes] = []
        while len(received) < 5:
            received += [bytes(frames[0][4:]) for frames in await actor.snapshots.get() if frames != [ANY]]
        assert received == [bytes([n]) for n in range(5)]

    play(story)


def test_what_is_not_ours_is_not_subscribed_to(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        actor = house.actor(learner)
        await subscribed(learner, actor, [ANY])
        learner.sockets.publish([b"another protocol"])
        learner.sockets.publish([PREAMBLE + b"end"])
        seen: Frames = []
        while seen != [PREAMBLE + b"end"]:
            for seen in await actor.snapshots.get():
                assert bytes(seen[0]).startswith(PREAMBLE)

    play(story)


def test_sending_to_a_peer_that_is_gone_says_so(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        actor = house.actor(learner)
        actor.sockets.send([b"hello"])
        route, _ = await learner.heard.get()
        actor.sockets.close()
        # its queue may be full before the system says that it is gone
        await until(lambda: not learner.sockets.send(route, [b"there?"]) and learner.sockets.unreachable == 1)
        assert not learner.sockets.send(b"never seen", [b"x"])
        assert learner.sockets.unreachable == 2

    play(story)


def test_a_peer_that_does_not_read_is_full_and_blocks_nobody(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        deaf = ActorSockets(parse_address(str(learner.sockets.bound[0])))
        deaf.connect()
        deaf.send([b"hello"])
        route, _ = await learner.heard.get()
        await until(lambda: not learner.sockets.send(route, [bytes(LIMIT // 8)]))
        assert (learner.sockets.full, learner.sockets.unreachable) == (1, 0)
        actor = house.actor(learner)
        actor.sockets.send([b"me too"])
        assert (await learner.heard.get())[1] == [b"me too"]
        deaf.close(linger_ms=0)

    play(story)


def test_an_actor_that_nobody_answers_fills_up_and_closes_at_once(play: Play) -> None:
    async def story(house: House) -> None:
        learner = LearnerSockets([house.address])
        address = parse_address(str(learner.bound[0]))
        learner.close()
        actor = ActorSockets(address)
        actor.connect()
        await until(lambda: not actor.send([b"x"]))
        assert actor.unsent == 1
        actor.close()

    play(story)


def test_redialling_gets_a_fresh_route_and_keeps_listening(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        actor = house.actor(learner)
        actor.sockets.send([b"first life"])
        old, _ = await learner.heard.get()
        actor.sockets.redial()
        actor.sockets.send([b"second life"])
        new, frames = await learner.heard.get()
        assert frames == [b"second life"]
        assert old != new
        assert learner.sockets.send(new, [b"welcome back"])
        assert await actor.heard.get() == [b"welcome back"]

    play(story)


def test_redialling_from_within_the_handler(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        actor = ActorSockets(parse_address(str(learner.sockets.bound[0])))
        actor.connect()

        def handler(frames: Frames) -> None:
            actor.redial()
            actor.send([b"redialled", *frames])

        house.closing.append((actor.close, asyncio.create_task(actor.receive(handler, lambda _: None))))
        actor.send([b"hello"])
        route, _ = await learner.heard.get()
        learner.sockets.send(route, [b"away"])
        assert (await learner.heard.get())[1] == [b"redialled", b"away"]

    play(story)


def test_redialling_dials_the_weight_stream_too() -> None:
    """Its connection may be as dead as that of the link, and libzmq would wait for it."""
    with unix.create_server(("127.0.0.1", 0)) as stream:
        stream.settimeout(DEADLINE_S)
        sockets = ActorSockets(Address("tcp", "127.0.0.1", 1))
        try:
            sockets.connect()
            sockets.subscribe(f"tcp://*:{stream.getsockname()[1]}", "update")
            with stream.accept()[0]:  # open, so that libzmq has no reason to come again
                sockets.redial()
                stream.accept()[0].close()
        finally:
            sockets.close()


def test_link_and_stream_try_again_at_the_same_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one finds a learner that came back, so does the other; and each dial draws anew."""
    drawn, made = set(), opened(monkeypatch)
    sockets = ActorSockets(Address("tcp", "127.0.0.1", 1))
    try:
        sockets.connect()
        sockets.subscribe("tcp://*:2", "update")
        for _ in range(20):
            alive = [each for each in made if not each.closed and each.type in (zmq.DEALER, zmq.SUB)]
            both = [[each.getsockopt(option) for option in TRIES] for each in alive]
            assert len(both) == 2
            assert both[0] == both[1]
            drawn.add(tuple(both[0]))
            sockets.redial()
    finally:
        sockets.close()
    assert len(drawn) > 1


def test_a_learner_that_comes_back_is_found_again(play: Play) -> None:
    async def story(house: House) -> None:
        first = LearnerSockets([house.address])
        address = first.bound[0]
        actor = ActorSockets(parse_address(str(address)))
        actor.connect()
        first.close()
        second = house.learner(address)
        actor.send([b"hello"])
        assert (await second.heard.get())[1] == [b"hello"]
        actor.close()

    play(story)


def over_tcp(story: Story) -> None:
    """Where addresses of TCP differ from files."""

    async def whole() -> None:
        house = House(Address("tcp", "127.0.0.1"))
        try:
            await story(house)
        finally:
            await house.close()

    uvloop.run(asyncio.wait_for(whole(), DEADLINE_S))


def test_a_frame_beyond_the_limit_costs_its_sender_the_connection_only() -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        rude, polite = house.actor(learner), house.actor(learner)
        polite.sockets.send([b"before"])
        assert (await learner.heard.get())[1] == [b"before"]
        rude.sockets.send([bytes(LIMIT + CURVE_BYTES + 1)])
        polite.sockets.send([bytes(LIMIT)])
        assert (await learner.heard.get())[1] == [bytes(LIMIT)]
        rude.sockets.redial()
        rude.sockets.send([b"sorry"])
        assert (await learner.heard.get())[1] == [b"sorry"]

    over_tcp(story)


def test_what_dialled_before_the_layout_is_known_says_hello_and_comes_back_with_more(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.early()
        actor = house.actor(learner)
        actor.sockets.send([bytes(EARLY_FRAME_BYTES)])
        assert (await learner.heard.get())[1] == [bytes(EARLY_FRAME_BYTES)]
        before = learner.sockets.bound
        learner.sockets.set_limits(LIMITS)
        assert learner.sockets.bound == before
        actor.sockets.redial()  # over TCP it would by itself, and lose what it sends before it has to
        actor.sockets.send([bytes(LIMIT)])
        assert (await learner.heard.get())[1] == [bytes(LIMIT)]

    play(story)


def test_before_the_layout_is_known_a_stranger_cannot_send_more_than_a_hello() -> None:
    async def story(house: House) -> None:
        learner = house.early()
        rude, polite = house.actor(learner), house.actor(learner)
        rude.sockets.send([bytes(EARLY_FRAME_BYTES + CURVE_BYTES + 1)])
        polite.sockets.send([b"hello"])
        assert (await learner.heard.get())[1] == [b"hello"]
        rude.sockets.redial()
        rude.sockets.send([b"sorry"])
        assert (await learner.heard.get())[1] == [b"sorry"]

    over_tcp(story)


@pytest.mark.parametrize(("record_bytes", "waiting"), [(LIMIT - 100, 2), (LIMIT // 4, 7), (100, 62)])
def test_what_waits_for_one_that_never_reads_is_two_keys_at_most(
    tmp_path: Path, record_bytes: int, waiting: int
) -> None:
    """Over ipc, whose buffers in the system are small. libzmq hears what was read half a queue later."""

    async def story() -> None:
        learner = Learner(Address("ipc", path=str(tmp_path / "l")))
        publish = learner.sockets.publish
        with zmq.Context() as context, context.socket(zmq.SUB) as deaf:
            deaf.setsockopt(zmq.RCVHWM, 1)
            deaf.setsockopt(zmq.SUBSCRIBE, PREAMBLE)
            deaf.connect(learner.sockets.weights)
            while not deaf.poll(1):
                publish([ANY])
            publish([BEGIN])
            while deaf.recv() != BEGIN:
                pass
            for _ in range(200):
                publish([PREAMBLE, bytes(record_bytes)])
                await asyncio.sleep(0)
            arrived = 0
            while (frames := await anyhow(deaf, lambda: publish([END]))) != [END]:
                arrived += len(frames) == 2
        elsewhere = 3 + SYSTEM_BYTES // record_bytes  # being written, being read, read; and in the system
        assert waiting // 2 <= arrived <= waiting + elsewhere
        learner.sockets.close()
        await learner.task

    uvloop.run(asyncio.wait_for(story(), DEADLINE_S))


async def anyhow(socket: zmq.Socket[bytes], again: Callable[[], None]) -> list[bytes]:
    """The next message of a socket; ``again`` is called while there is none."""
    while not socket.poll(1):
        again()
        await asyncio.sleep(0)
    return socket.recv_multipart()


def test_garbage_is_handed_over_as_it_is(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        actor = house.actor(learner)
        for frames in ([b""], [b"", b""], [b"\xff" * 9], [bytes([n]) for n in range(200)]):
            actor.sockets.send(frames)
            assert (await learner.heard.get())[1] == frames

    play(story)


def test_bytes_that_are_not_even_zeromq_harm_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        learner = Learner(Address("ipc", path=str(tmp_path / "l")))
        with unix.socket(unix.AF_UNIX) as stranger:
            stranger.connect(str(tmp_path / "l"))
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            actor = Actor(str(learner.sockets.bound[0]))
            actor.sockets.send([b"hello"])
            assert (await learner.heard.get())[1] == [b"hello"]
        actor.sockets.close()
        learner.sockets.close()
        await asyncio.gather(actor.task, learner.task)

    uvloop.run(asyncio.wait_for(story(), DEADLINE_S))


def test_a_fault_of_the_handler_ends_receive(play: Play) -> None:
    async def story(house: House) -> None:
        sockets = LearnerSockets([house.address])

        def broken(route: bytes, key: str, frames: Frames) -> None:
            raise ZeroDivisionError

        task = asyncio.create_task(sockets.receive(broken))
        house.closing.append((sockets.close, task))
        actor = Actor(str(sockets.bound[0]))
        house.closing.append((actor.sockets.close, actor.task))
        actor.sockets.send([b"hello"])
        with pytest.raises(ZeroDivisionError):
            await task

    play(story)


def test_cancelling_loses_no_message(play: Play) -> None:
    async def story(house: House) -> None:
        sockets = LearnerSockets([house.address])
        actor = Actor(str(sockets.bound[0]))
        house.closing += [(sockets.close, actor.task), (actor.sockets.close, actor.task)]
        received: list[int] = []
        sent = 0
        while len(received) < 300:
            task = asyncio.create_task(
                sockets.receive(lambda route, key, frames: received.append(int.from_bytes(frames[0], "big")))
            )
            while sent < 300 and actor.sockets.send([sent.to_bytes(2, "big")]):
                sent += 1
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert received == list(range(300))

    play(story)


def test_closing_ends_receive_and_flushes_the_goodbye(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        actor = house.actor(learner)
        actor.sockets.send([b"hello"])
        await learner.heard.get()
        actor.sockets.send([b"goodbye"])
        actor.sockets.close()
        await actor.task
        assert (await learner.heard.get())[1] == [b"goodbye"]
        learner.sockets.close()
        await learner.task

    play(story)


def test_a_shared_context_outlives_its_sockets(tmp_path: Path) -> None:
    with zmq.Context() as context:
        for _ in range(2):
            LearnerSockets([Address("ipc", path=str(tmp_path / "l"))], context).close()
        assert not context.closed


def test_an_address_in_use_is_named() -> None:
    holder = LearnerSockets([Address("tcp", "127.0.0.1")])
    with pytest.raises(BindError, match="in use") as caught:
        LearnerSockets([holder.bound[0]])
    assert str(holder.bound[0]) in str(caught.value)
    assert isinstance(caught.value, UserError)
    assert caught.value.exit_code == 75
    holder.close()


def test_a_live_learner_keeps_its_ipc_path_and_a_dead_one_does_not(tmp_path: Path) -> None:
    address = Address("ipc", path=str(tmp_path / "l"))
    holder = LearnerSockets([address])
    with pytest.raises(BindError, match="in use") as caught:
        LearnerSockets([address])
    assert caught.value.exit_code == 75
    holder.close()
    assert not list(tmp_path.iterdir())
    with unix.socket(unix.AF_UNIX) as killed:
        killed.bind(address.path)
    LearnerSockets([address]).close()


def test_a_file_at_an_ipc_path_is_not_removed(tmp_path: Path) -> None:
    file = tmp_path / "thesis.tex"
    file.write_text("all of it")
    with pytest.raises(BindError, match="not a socket"):
        LearnerSockets([Address("ipc", path=str(file))])
    assert file.read_text() == "all of it"


@pytest.mark.parametrize(
    "address", [Address("tcp", "192.0.2.1", 5), Address("tcp", "eth99", 5), Address("ipc", path="/x/y/z")]
)
def test_places_that_are_not_here(address: Address) -> None:
    with pytest.raises(BindError) as caught:
        LearnerSockets([address])
    assert str(address) in str(caught.value)


def test_several_addresses_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        house = House(Address("tcp", "127.0.0.1"))
        learner = house.learner(house.address, Address("ipc", path=str(tmp_path / "l")))
        assert learner.sockets.bound[0].port > 0
        for which in (0, 1):
            actor = house.actor(learner, which)
            actor.sockets.send([b"hello"])
            route, _ = await learner.heard.get()
            assert learner.sockets.send(route, [b"welcome"])
            assert await actor.heard.get() == [b"welcome"]
            assert await subscribed(learner, actor, [ANY])
        await house.close()

    uvloop.run(asyncio.wait_for(story(), DEADLINE_S))


def test_a_path_too_long_for_its_weights_is_refused_before_anything_is_bound(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="weights"):
        LearnerSockets([Address("ipc", path="a" * 105)])
    assert not Path("a" * 105).exists()


def test_a_large_frame_is_lent_and_a_small_one_copied(play: Play) -> None:
    async def story(house: House) -> None:
        learner = house.learner()
        actor = house.actor(learner)
        large = bytes(range(256)) * (LENT_BYTES // 256)
        actor.sockets.send([b"header", large, large[1:]])
        _, frames = await learner.heard.get()
        assert [type(frame) for frame in frames] == [bytes, memoryview, bytes]
        assert [bytes(frame) for frame in frames] == [b"header", large, large[1:]]

    play(story)
