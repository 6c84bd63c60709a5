"""Names that lead to several addresses, to none, or of which nobody tells anything."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from protocol.transport import resolver as module
from protocol.transport.address import Address, parse_address
from protocol.transport.resolver import NoSuchName, Resolver, first_answering

LEARNER = parse_address("tcp://learner.example:5555")
Ask = Callable[..., Awaitable[Any]]


def asked(monkeypatch: pytest.MonkeyPatch, ask: Ask) -> Resolver:
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", ask)
    return Resolver(LEARNER)


def place(host: str) -> tuple[object, ...]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return family, socket.SOCK_STREAM, 6, "", (host, 5555)


def test_both_families_in_the_resolver_s_order_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(_: object, host: str, port: int, **__: object) -> Any:
        assert (host, port) == ("learner.example", 5555)
        return [place("2001:db8::1"), place("192.0.2.7"), place("2001:db8::1")]

    found = asyncio.run(asked(monkeypatch, ask).look_up())
    assert list(map(str, found)) == ["tcp://[2001:db8::1]:5555", "tcp://192.0.2.7:5555"]


def test_a_name_that_leads_nowhere_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(NoSuchName, match=r"no such name: learner\.example \(Name or service"):
        asyncio.run(asked(monkeypatch, ask).look_up())


def test_a_resolver_that_is_silent_is_given_up_on_and_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_UP_S", 0.0)
    questions = 0

    async def story() -> list[Address]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def ask(*_: object, **__: object) -> Any:
            nonlocal questions
            questions += 1
            return await answer

        resolver = asked(monkeypatch, ask)
        for _ in range(3):
            with pytest.raises(NoSuchName, match="nobody has told"):
                await resolver.look_up()
        answer.set_result([place("192.0.2.7")])
        monkeypatch.setattr(module, "LOOK_UP_S", 20.0)
        return await resolver.look_up()

    assert [str(address) for address in asyncio.run(story())] == ["tcp://192.0.2.7:5555"]
    assert questions == 1


def test_of_several_addresses_one_that_answers_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as here, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        deaf = Address("tcp", "127.0.0.1", nobody.getsockname()[1])
        answers = Address("tcp", "127.0.0.1", here.getsockname()[1])
        assert asyncio.run(first_answering([deaf, answers])) == answers
        assert asyncio.run(first_answering([deaf, deaf])) is None
