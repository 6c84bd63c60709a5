"""How many lines peers can bring about, whatever they do."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import learner
from learner.admission.notices import BURST, BY_PEERS
from learner.events import Announce
from protocol.messages import FAULTS, Fault, Heartbeat, Report, Welcome
from tests.learner.test_state import Learner, gradient, hello, payload, sent
from tests.learner.test_state import learner as new_learner

HEARD_BY = (
    "admission.sessions",
    "admission.reports",
    "admission.control",
    "stream.best",
    "state",
)  # modules that decide about what peers say
NOT_BY_PEERS = {"best_dropped", "metrics_left_out"}  # once for each key that is revoked; once in a life


def announced_in(module: str) -> set[str]:
    """Events that a module's source names."""
    source = (Path(learner.__file__).parent / f"{module.replace(chr(46), chr(47))}.py").read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Announce"]
    words = [node.value for name in named for node in ast.walk(name) if isinstance(node, ast.Constant)]
    return {word for word in words if isinstance(word, str)}


def test_lines_about_whatever_peers_say_are_bounded() -> None:
    found = {event for module in HEARD_BY for event in announced_in(module)}
    assert found >= NOT_BY_PEERS
    assert found - NOT_BY_PEERS == BY_PEERS


def complains(it: Learner, instance: int) -> list[str]:
    """A new life of an actor says hello, tells of each kind of fault and reports what cannot be. What is told of it."""
    key, route = "key", b"one"
    effects = it.hear(hello(instance), route=route, key=key)
    session = sent(effects, Welcome).session
    beat = Heartbeat(session, 0, 0, faults=tuple(Fault(kind, 1, "z" * 200) for kind in sorted(FAULTS)))
    effects += it.hear(beat, route=route, key=key)
    effects += it.hear(gradient(session, report=Report(1, observations=2)), payload(), route=route, key=key)
    return [effect.event for effect in effects if isinstance(effect, Announce)]


def test_a_key_that_comes_again_and_again_with_complaints_makes_no_more_lines_than_a_fleet() -> None:
    it = new_learner()
    told = Counter(event for instance in range(1, 1100) for event in complains(it, instance))
    assert told["actor_fault"] == BURST
    assert max(told.values()) == BURST
