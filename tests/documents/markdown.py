"""Documents taken apart: fences, commands, code spans, links, anchors. Pure; text goes in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
COMMENT = re.compile(r"(^|\s)#(\s.*)?$")
WILD = "..."  # in what a command prints: anything; alone on a line: any lines


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block. line: of its first fence, from 1."""

    line: int
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One command of a console block and what it prints, line by line."""

    line: int
    command: str
    printed: tuple[str, ...]


def fences(text: str) -> list[Fence]:
    """All fenced blocks, in order."""
    return [Fence(_line(text, found.start()), found["language"], found["text"]) for found in FENCE.finditer(text)]


def commands(text: str) -> Iterator[tuple[int, str]]:
    """(line, command) of every bash block, continuations joined, comments left out."""
    for fence in fences(text):
        if fence.language == "bash":
            for number, line in enumerate(fence.text.replace("\\\n", " ").splitlines(), fence.line + 1):
                if command := COMMENT.sub("", line).strip():
                    yield number, command


def dialogues(fence: Fence) -> Iterator[Dialogue]:
    """The commands of a console block, each behind a dollar sign, and the lines below them."""
    begun: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(fence.text.splitlines(), fence.line + 1):
        if line.startswith("$ "):
            begun.append((number, line[2:], []))
        else:
            begun[-1][2].append(line)
    yield from (Dialogue(number, command, tuple(printed)) for number, command, printed in begun)


def prints(printed: tuple[str, ...], said: str) -> bool:
    """Whether what was said is what the block shows."""
    lines = [r"(?:.*\n)*?" if line == WILD else _pattern(line) + r"\n" for line in printed]
    return re.fullmatch("".join(lines), said if said.endswith("\n") or not said else f"{said}\n") is not None


def prose(text: str) -> str:
    """The text with its fenced blocks blanked, line numbers kept."""
    return FENCE.sub(lambda found: "\n" * found.group().count("\n"), text)


def spans(text: str) -> list[tuple[int, str]]:
    """(line, text) of code spans outside of fences."""
    bare = prose(text)
    return [(_line(bare, found.start()), found[1]) for found in SPAN.finditer(bare)]


def links(text: str) -> list[tuple[int, str]]:
    """(line, target) of links and pictures outside of fences and code spans."""
    bare = SPAN.sub(lambda found: " " * len(found.group()), prose(text))
    return [(_line(bare, found.start()), found[1]) for found in LINK.finditer(bare)]


def anchors(text: str) -> set[str]:
    """What a link may name behind #, as GitHub makes it of headings."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(text)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-")
        number = 1
        name = slug
        while name in found:
            name, number = f"{slug}-{number}", number + 1
        found.add(name)
    return found


def _pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split(WILD))


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
