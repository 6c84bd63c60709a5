"""RESULTS.md from the records of all drills. Knows records and files; runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.machine import description, versions
from tests.bench.store import Store, origins
from tests.faults.bars import Record

WORDS = "Written by `make faults`. Each drill's newest record; what is killed when follows a seed."
OWN = frozenset({"drill", "bars", "held", "at", "commit", "took_s"})


def write(results: Path, out: Path, drills: Sequence[str]) -> None:
    """RESULTS.md into ``out``."""
    found = {name: newest(Store(results, name).read()) for name in drills}
    records = [record for each in found.values() for record in each]
    lines = ["# Faults", "", WORDS, "", f"* Machine: {description()}"]
    lines += [f"* Versions: {', '.join(f'{name} {version}' for name, version in versions().items())}"]
    lines += [f"* Commits measured: {origins(records)}"]
    for name, each in found.items():
        for record in each:
            lines += ["", *section(name, record)]
    out.mkdir(parents=True, exist_ok=True)
    (out / "RESULTS.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {out / 'RESULTS.md'}")


def newest(records: Sequence[Record]) -> list[Record]:
    """The last record of each variant, a variant being a figure that is a word."""
    return list({_variant(record): record for record in records}.values())


def section(name: str, record: Record) -> list[str]:
    """One drill: its bars, then its other figures."""
    title = " ".join([name, *(f"({word})" for word in _variant(record))])
    figures = {key: value for key, value in record.items() if key not in OWN}
    rows = [f"| {bar['bar']} | {bar['is']} | {bar['limit']} | {_word(bar['held'])} |" for bar in record["bars"]]
    return [
        f"## {title}: {_word(record['held'])}",
        "",
        f"{record['at']} UTC, {record['took_s']:g} s.",
        "",
        "| bar | is | limit | |",
        "|---|---|---|---|",
        *rows,
        "",
        "; ".join(f"{key} {_figure(value)}" for key, value in figures.items()) + ".",
    ]


def _variant(record: Record) -> tuple[str, ...]:
    return tuple(value for key, value in record.items() if key not in OWN and isinstance(value, str))


def _word(held: bool) -> str:
    return "held" if held else "**missed**"


def _figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_figure, value)) + "]"
    return str(value)
