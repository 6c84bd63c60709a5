"""Holds the tree to the table in rules.py, and each rule of the table to its two samples. Reads files, imports none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.rules import RULES, Rule, pure
from tests.architecture.sources import PACKAGES, Source, Tree, house, tree_of

ROOT = Path(__file__).resolve().parents[2]
READ = {".py", ".toml", ".txt", ".md", ".yaml", ".yml", ".cfg", ".sh", ".service", ".json", ""}
FOLDERS = (*PACKAGES, "tests", "deploy", "docs", ".ci")


def _files() -> Iterator[Path]:
    yield from (p for p in ROOT.iterdir() if p.is_file())
    for folder in FOLDERS:
        yield from (p for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts)


@pytest.fixture(scope="module")
def tree() -> Tree:
    kept = (p for p in _files() if p.suffix in READ)
    return tree_of({p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in kept})


def _report(rule: Rule, tree: Tree) -> str:
    return "\n".join(f"{path}:{line}: {what}" for path, line, what in rule.find(tree))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_tree_obeys(rule: Rule, tree: Tree) -> None:
    report = _report(rule, tree)
    assert not report, f"{rule.name}, because {rule.why}:\n{report}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_rule_sees_a_planted_violation(rule: Rule) -> None:
    assert _report(rule, tree_of(rule.broken))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_rule_lets_a_near_miss_pass(rule: Rule) -> None:
    assert not _report(rule, tree_of(rule.sound))


def test_the_whole_house_is_read(tree: Tree) -> None:
    assert {source.package for source in tree.values()} >= {*PACKAGES, "tests"}
    assert "Makefile" in tree


def test_purity_is_read_from_docstrings(tree: Tree) -> None:
    found = {source.path for source in house(tree) if pure(source)}
    assert found >= {"learner/state.py", "actor/state.py", "protocol/session.py", "learner/optim/parameters.py"}
    assert not found & {"learner/service.py", "actor/service.py", "actor/worker.py"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import a.b as c", "a.b"),
        ("from a import b", "a.b"),
        ("from . import b", "learner.b"),
        ("from .b import c", "learner.b.c"),
        ("def f():\n    import a", "a"),
        ("import importlib\nimportlib.import_module('a.b')", "a.b"),
        ("try:\n    import a\nexcept ImportError:\n    pass", "a"),
        ("if TYPE_CHECKING:\n    import a", "a"),
    ],
)
def test_an_import_is_seen_however_it_is_written(text: str, name: str) -> None:
    assert name in {found.name for found in Source("learner/state.py", text).imports}
