"""The network in memory: each fault by itself, and the same story from the same seed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.transport.memory import Delivery, Faults, FaultsError, Network

A, B, C = b"a", b"b", b"c"
CHANCE = st.floats(0.0, 1.0)
BAD = Faults(delay_s=0.1, jitter_s=0.5, loss=0.1, duplicate=0.2, reorder=0.3)


def message(n: int) -> list[bytes]:
    return [n.to_bytes(4, "big")]


def numbers(deliveries: list[Delivery]) -> list[int]:
    return [int.from_bytes(delivery.frames[0], "big") for delivery in deliveries]


def story(seed: int, faults: Faults, messages: int = 100) -> list[Delivery]:
    network = Network(seed, faults)
    for n in range(messages):
        network.send(A, B, message(n), now=n * 0.01)
    return network.due(math.inf)


def test_without_faults_it_arrives_at_once_and_whole() -> None:
    network = Network(0)
    assert network.next_time() is None
    assert network.send(A, B, [b"x", b"", memoryview(b"y")], now=3.0)
    assert network.next_time() == 3.0
    (delivery,) = network.due(3.0)
    assert (delivery.destination, delivery.source, delivery.stream) == (B, A, "link")
    assert delivery.frames == [b"x", b"", b"y"]
    assert network.due(math.inf) == []


def test_nothing_arrives_before_its_time() -> None:
    network = Network(0, Faults(delay_s=2.0))
    network.send(A, B, [b"x"], now=1.0)
    assert network.due(2.999) == []
    assert len(network.due(3.0)) == 1


def test_the_same_seed_tells_the_same_story_and_another_one_does_not() -> None:
    assert story(7, BAD) == story(7, BAD)
    assert numbers(story(7, BAD)) != numbers(story(8, BAD))


def test_jitter_keeps_the_order_of_each_link() -> None:
    assert numbers(story(1, Faults(jitter_s=5.0))) == list(range(100))


def test_reordering_is_asked_for() -> None:
    received = numbers(story(1, Faults(reorder=0.2)))
    assert received != sorted(received)
    assert sorted(received) == list(range(100))


def test_loss_is_as_often_as_asked() -> None:
    network = Network(3, Faults(loss=0.25))
    for n in range(4000):
        network.send(A, B, message(n), now=0.0)
    received = numbers(network.due(0.0))
    assert len(received) + network.counts["lost"] == 4000
    assert 800 < network.counts["lost"] < 1200
    assert received == sorted(received)


def test_every_message_twice() -> None:
    received = numbers(story(1, Faults(duplicate=1.0)))
    assert received == [n for n in range(100) for _ in range(2)]


def test_a_slow_link_makes_messages_queue() -> None:
    network = Network(0, Faults(bytes_per_s=10.0, delay_s=1.0))
    for _ in range(3):
        network.send(A, B, [b"12345", b"67890"], now=0.0)
    network.send(A, C, [b"1234567890"], now=0.0)
    assert [delivery.time_s for delivery in network.due(math.inf)] == [2.0, 2.0, 3.0, 4.0]


def test_a_partition_swallows_both_ways_until_healed() -> None:
    network = Network(0, Faults(delay_s=1.0))
    network.send(A, B, message(1), now=0.0)
    network.partition(B, A)
    network.send(A, B, message(2), now=0.0)
    network.send(B, A, message(3), now=0.0)
    network.send(A, C, message(4), now=0.0)
    network.heal(A, B)
    network.send(A, B, message(5), now=0.0)
    assert numbers(network.due(1.0)) == [4, 5]
    assert network.counts["partitioned"] == 3


def test_killing_drops_what_is_under_way_and_tells_the_sender() -> None:
    network = Network(0, Faults(delay_s=1.0))
    network.subscribe(B, A)
    network.send(A, B, message(1), now=0.0)
    network.send(B, A, message(2), now=0.0)
    network.kill(B)
    assert not network.send(A, B, message(3), now=0.0)
    network.publish(A, message(4), now=0.0)
    assert numbers(network.due(1.0)) == [2]
    assert (network.counts["killed"], network.counts["refused"]) == (1, 1)
    network.revive(B)
    assert network.send(A, B, message(5), now=1.0)


def test_publishing_reaches_all_subscribers() -> None:
    network = Network(0)
    network.subscribe(B, A)
    network.subscribe(C, A)
    network.subscribe(B, A)
    network.publish(A, message(1), now=0.0)
    assert [(d.destination, d.stream) for d in network.due(0.0)] == [(B, "weights"), (C, "weights")]


@pytest.mark.parametrize(
    ("name", "value"),
    [("loss", 1.1), ("duplicate", -0.1), ("reorder", math.nan), ("delay_s", -1.0), ("bytes_per_s", 0.0)],
)
def test_impossible_faults(name: str, value: float) -> None:
    with pytest.raises(FaultsError, match=name):
        Faults(**{name: value})


@given(
    seed=st.integers(0, 1 << 32),
    faults=st.builds(
        Faults,
        delay_s=st.floats(0.0, 10.0),
        jitter_s=st.floats(0.0, 10.0),
        bytes_per_s=st.floats(1.0, 1e9),
        loss=CHANCE,
        duplicate=CHANCE,
        reorder=CHANCE,
    ),
)
def test_every_message_is_accounted_for(seed: int, faults: Faults) -> None:
    received = story(seed, faults, messages=30)
    network = Network(seed, faults)
    for n in range(30):
        network.send(A, B, message(n), now=n * 0.01)
    assert len(received) == 30 - network.counts["lost"] + network.counts["duplicated"]
    times = [delivery.time_s for delivery in received]
    assert times == sorted(times)
    assert all(d.time_s >= n * 0.01 + faults.delay_s for d, n in zip(received, numbers(received), strict=True))
    if not network.counts["reordered"]:
        assert numbers(received) == sorted(numbers(received))
