"""A run as rows of styled text, for a terminal of any size. Pure: a scene and news in, rows out. Knows late, rich.

Words and numbers keep their places while the run goes on, so that a reader's eye finds them again. Names come from
peers: nothing here could move a terminal's cursor, and no row is wider than asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from learner.monitoring.bottleneck import Cause
from learner.monitoring.history import Point
from learner.monitoring.scene import Scene
from learner.monitoring.summary import RunSummary, rounded

RESULT_SHOWN = ("env", "solved", "return_mean_100", "env_steps", "version", "wall_s", "total_s", "compression")
LABEL = 9  # columns of the names at the left
WIDE = 64  # columns from which on a bar stands beside its numbers and not below them
AMOUNT, LEFT, PERCENT = 18, 17, 5  # columns of "64.5k of 500k", of "about 12 m 05 s", of " 100%"
MOST_BAR = 40
LIMIT_ROWS = {True: 3, False: 5}  # of the sentence about what limits the run, on a wide terminal and on a narrow one
NOTICE_ROWS = 4  # of each
LEAST_COLUMNS = LABEL + 8
DULL, WARN, BAD, GOOD = "dim", "yellow", "bold red", "green"
TROUBLE = {Cause.STALLED: WARN, Cause.REFUSED: WARN, Cause.NO_ACTORS: WARN, Cause.CREDIT: WARN}
STATES = {"evaluating": "", "standing still": WARN, "silent": WARN, "quarantined": BAD}  # beside those that train
PACE_POINTS, PACE_SHARE = 8, 0.5  # least points, and the newest share of the time, that a pace is taken from
FAR = 20.0  # times as long as the run has gone on: what is further away than that is not foretold

Span = tuple[str, str]  # text, style
Row = list[Span]


class Glyphs(NamedTuple):
    """What bars and curves are drawn with. levels: of a curve, lowest first."""

    done: str
    left: str
    levels: str
    between: str
    cut: str
    mark: str


DRAWN = Glyphs("━", "─", "▁▂▃▄▅▆▇█", " · ", "…", "▲")
ASCII = Glyphs("#", "-", "_.-~=+*#", " | ", "~", "!")  # for a terminal whose encoding has no others


@dataclass(frozen=True, slots=True)
class Notice:
    """What a person should know of. at: time of day. text: safe to print."""

    at: str
    text: str


@dataclass(frozen=True, slots=True)
class News:
    """newest: what happened last of what happens in every run. notices: the newest of all else, oldest first."""

    newest: str = ""
    notices: Sequence[Notice] = ()


class _Block(NamedTuple):
    """Rows that stay or go together: those of the least worth go where the terminal is too low."""

    worth: int
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class _Sheet:
    """What is drawn on."""

    columns: int
    glyphs: Glyphs

    @property
    def wide(self) -> bool:
        return self.columns >= WIDE

    @property
    def room(self) -> int:
        """Columns beside the names."""
        return self.columns - LABEL


def view(scene: Scene | None, news: News, columns: int, lines: int, glyphs: Glyphs = DRAWN) -> list[Row]:
    """The whole of it, at most so many rows of at most so many columns. scene: None before the run has begun."""
    sheet = _Sheet(max(columns, LEAST_COLUMNS), glyphs)
    blocks = [_Block(9, [[("starting", DULL)]])] if scene is None else list(_run(scene, sheet))
    blocks.append(_Block(2, _newest(news, sheet)))
    blocks += [_Block(7, _notice(notice, sheet)) for notice in news.notices]
    if scene is not None:
        blocks.append(_Block(6, _limit(scene, sheet)))
    while sum(len(block.rows) for block in blocks) > lines and len(blocks) > 1:
        blocks.remove(min(blocks, key=lambda block: block.worth))
    return [row for block in blocks for row in block.rows][: max(lines, 1)]


def _run(scene: Scene, sheet: _Sheet) -> Iterator[_Block]:
    summary = scene.summary
    yield _Block(10, [_title(scene, sheet)])
    if summary.journal_failure:
        text = f"fails, so a crash loses what is applied: {printable(summary.journal_failure)}"
        yield _Block(8, _said("journal", text, sheet, 2, BAD))
    yield _Block(9, _return(scene, sheet))
    yield _Block(3, _curve(scene, sheet))
    yield _Block(8, _steps(scene, sheet))
    yield _Block(5, _packed("rates", _rates(summary), sheet))
    yield _Block(2, _packed("weights", _weights(scene), sheet))
    if summary.evaluations:
        best = "none yet" if summary.evaluated_best_mean is None else mean(summary.evaluated_best_mean)
        yield _Block(
            3, _packed("scores", [[(f"best {best}", "")], [(f"{summary.evaluations:,} evaluated", "")]], sheet)
        )
    yield _Block(7, _packed("fleet", _fleet(scene), sheet))
    if scene.place.page is not None:
        yield _Block(4, _whole("page", printable(scene.place.page), sheet))
    if scene.place.bound:
        yield _Block(2, _whole("listens", " ".join(map(printable, scene.place.bound)), sheet))
    yield _Block(1, _whole("run", printable(scene.place.run_dir), sheet))


# the parts, from above to below


def _title(scene: Scene, sheet: _Sheet) -> Row:
    text, style = _stage(scene)
    seed = f"seed {scene.seed}" if scene.epoch == 1 else f"seed {scene.seed}, life {scene.epoch}"
    beside = sheet.columns - _cells(text) - 2
    name = cut(printable(scene.env), max(beside, LABEL), sheet.glyphs)
    row = [(name, "bold"), ("  ", ""), (cut(text, sheet.columns - _cells(name) - 2, sheet.glyphs), style)]
    return [*row, ("  " + seed, DULL)] if _width(row) + 2 + len(seed) <= sheet.columns else row


def _stage(scene: Scene) -> Span:
    summary = scene.summary
    passed = duration(summary.wall_s)
    if summary.stage == "running":
        return (f"running {passed}", GOOD) if summary.wall_s else ("waiting for actors", WARN)
    if summary.stage == "draining":
        return f"saving, after {passed}", WARN
    return (f"target reached in {passed}", GOOD) if scene.solved else (f"ended after {passed}", "")


def _return(scene: Scene, sheet: _Sheet) -> list[Row]:
    summary = scene.summary
    now, target = summary.return_mean, summary.return_target
    if target is None:
        return _packed("return", [[("none yet" if now is None else mean(now), "bold")], [_best(summary)]], sheet)
    amount = f"{'none yet' if now is None else mean(now)} of {target:g}"
    reached = scene.solved or (now is not None and now >= target)
    low = min((point.return_mean for point in scene.points if point.return_mean is not None), default=now)
    share = 1.0 if reached else 0.0
    if not reached and now is not None and low is not None and target > low:
        share = (now - low) / (target - low)
    left_s = None
    if now is not None and not reached and summary.stage == "running":
        left_s = time_left(scene.points, lambda point: point.return_mean, now, target)
    return _goal("return", amount, share, left_s, sheet, about=True)


def _best(summary: RunSummary) -> Span:
    best = summary.return_best_mean
    return ("mean of up to 100 episodes" if best is None else f"best {mean(best)}", DULL)


def _curve(scene: Scene, sheet: _Sheet) -> list[Row]:
    means = [point.return_mean for point in scene.points]
    known = [value for value in means if value is not None]
    if not known:
        return [_labelled("curve", [("none yet", DULL)])]
    span = f"  {mean(min(known))} to {mean(max(known))}"
    drawn = sparkline(means, max(sheet.room - len(span), 8), sheet.glyphs)
    return [_fitted(_labelled("curve", [(drawn, "cyan"), (span, DULL)]), sheet)]


def _steps(scene: Scene, sheet: _Sheet) -> list[Row]:
    summary, most = scene.summary, scene.until_steps
    if most is None:
        return _packed("steps", [[(count(summary.env_steps), "bold")], [_episodes(summary)]], sheet)
    amount, done = f"{count(summary.env_steps)} of {count(most)}", summary.env_steps
    ended = summary.stage != "running" or done >= most
    left_s = None if ended else time_left(scene.points, lambda point: point.env_steps, done, most, math.inf)
    return _goal("steps", amount, done / most if most else 1.0, left_s, sheet)


def _rates(summary: RunSummary) -> list[Row]:
    steps, updates = f"{count(summary.env_steps_per_s)} steps/s", f"{count(summary.updates_per_s)} updates/s"
    lag = f"lag {summary.lag_mean_updates:.1f} updates"
    return [[(steps, "bold")], [(updates, "")], [(lag, "")]]


def _weights(scene: Scene) -> list[Row]:
    summary = scene.summary
    told: list[Row] = [[(f"version {summary.version:,}", "")]]
    if scene.until_steps is not None:  # else they stand beside the steps
        told.append([_episodes(summary)])
    if summary.bytes_per_gradient is not None:
        told.append([(f"{size(summary.bytes_per_gradient)} a gradient", "")])
    if summary.refused:
        told.append([(f"{count(summary.refused)} refused", "")])
    return told


def _episodes(summary: RunSummary) -> Span:
    return f"{count(summary.episodes)} episodes", ""


def _fleet(scene: Scene) -> list[Row]:
    summary, states = scene.summary, scene.states
    told: list[Row] = [[(f"{summary.actors:,} actors" if summary.actors != 1 else "1 actor", "bold")]]
    told += [[(f"{states[state]:,} {state}", style)] for state, style in STATES.items() if states.get(state)]
    if summary.useful_actors is not None:
        told.append([(f"{summary.useful_actors:,} would be useful", "")])
    return told


def _newest(news: News, sheet: _Sheet) -> list[Row]:
    if not news.newest:
        return []
    return [_labelled("newest", [(cut(news.newest, sheet.room, sheet.glyphs), DULL)])]


def _notice(notice: Notice, sheet: _Sheet) -> list[Row]:
    texts = wrapped(f"{notice.at} {notice.text}", sheet.columns - 2, NOTICE_ROWS, sheet.glyphs)
    return [[(f"{sheet.glyphs.mark} " if not index else "  ", WARN), (text, "")] for index, text in enumerate(texts)]


def _limit(scene: Scene, sheet: _Sheet) -> list[Row]:
    style = TROUBLE.get(scene.limit.cause, "")
    return _said("limit", printable(scene.limit.text), sheet, LIMIT_ROWS[sheet.wide], style)


# how they are laid out


def _goal(
    name: str, amount: str, share: float, left_s: float | None, sheet: _Sheet, *, about: bool = False
) -> list[Row]:
    """A number on its way to another: as numbers, as a bar, and the time that is left."""
    share = min(max(share, 0.0), 1.0)
    percent = f"{math.floor(100.0 * share):4d}%"
    left = "" if left_s is None else f"{'about ' if about else ''}{duration(left_s)} left"
    if sheet.wide:
        drawn = min(sheet.room - AMOUNT - 2 - PERCENT - 2 - LEFT, MOST_BAR)
        row = _labelled(name, [(amount.ljust(AMOUNT), "bold"), *_bar(share, drawn, sheet), (f"{percent}  {left}", "")])
        return [_fitted(row, sheet)]
    first = _labelled(name, [(amount, "bold"), (f"  {left}" if left else "", "")])
    return [_fitted(first, sheet), _labelled("", [*_bar(share, sheet.room - PERCENT, sheet), (percent, "")])]


def _bar(share: float, columns: int, sheet: _Sheet) -> list[Span]:
    done = int(share * columns)
    return [(sheet.glyphs.done * done, GOOD), (sheet.glyphs.left * (columns - done), DULL)]


def _packed(name: str, pieces: Sequence[Row], sheet: _Sheet) -> list[Row]:
    """As many side by side as fit, the others below."""
    between = sheet.glyphs.between
    rows: list[Row] = []
    for piece in pieces:
        if rows and _width(rows[-1]) + len(between) + _width(piece) <= sheet.columns:
            rows[-1] += [(between, DULL), *piece]
        else:
            rows.append(_fitted(_labelled("" if rows else name, piece), sheet))
    return rows


def _said(name: str, text: str, sheet: _Sheet, most: int, style: str = "") -> list[Row]:
    texts = wrapped(text, sheet.room, most, sheet.glyphs)
    return [_labelled("" if index else name, [(each, style)]) for index, each in enumerate(texts)]


def _whole(name: str, text: str, sheet: _Sheet) -> list[Row]:
    """Of what is copied nothing is left out, and it stays in one piece where the terminal has room for it."""
    if sheet.room < _cells(text) <= sheet.columns:
        return [[(text, "")]]
    return _said(name, text, sheet, len(text) + 1)


def _labelled(name: str, spans: Sequence[Span]) -> Row:
    return [(name.ljust(LABEL), DULL), *spans]


def _fitted(row: Row, sheet: _Sheet) -> Row:
    """Cut off where the sheet ends."""
    fitted: Row = []
    for text, style in row:
        fitted.append((cut(text, sheet.columns - _width(fitted), sheet.glyphs), style))
    return fitted


def _width(row: Row) -> int:
    return sum(_cells(text) for text, _ in row)


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, columns: int, glyphs: Glyphs = DRAWN) -> str:
    """The text, or its beginning where it is wider."""
    from rich.cells import set_cell_size

    if _cells(text) <= columns:
        return text
    return "" if columns < 1 else set_cell_size(text, columns - 1).rstrip() + glyphs.cut


def wrapped(text: str, columns: int, most: int, glyphs: Glyphs = DRAWN) -> list[str]:
    """In rows, broken between words; a longer word is broken where its row ends. No more rows than ``most``."""
    from rich.cells import chop_cells

    rows: list[str] = []
    for word in text.split():
        if rows and _cells(rows[-1]) + 1 + _cells(word) <= columns:
            rows[-1] += " " + word
        else:
            rows += chop_cells(word, columns)
    if len(rows) > most:
        kept = " ".join(rows[most - 1 : most + 1])
        rows = [*rows[: most - 1], cut(kept, columns, glyphs)]
    return rows


# numbers


def count(value: float) -> str:
    """Whole below ten thousand; above with three digits and a unit."""
    most = abs(value)
    if most < 9_999.5:
        return f"{value:,.0f}"
    unit, scale = next((unit, scale) for below, unit, scale in UNITS if most < below)
    digits = 2 - min(2, int(math.log10(most / scale * 1.0005)))
    return f"{value / scale:.{digits}f}{unit}"


UNITS = ((999.5e3, "k", 1e3), (999.5e6, "M", 1e6), (math.inf, "G", 1e9))


def size(value: float) -> str:
    """In bytes."""
    return f"{value:,.0f} B" if value < 9_999.5 else f"{count(value)}B"


def mean(value: float) -> str:
    """Of returns, which may be of any size."""
    most = abs(value)
    return count(value) if most >= 9_999.5 else f"{value:,.{2 if most < 10.0 else 1}f}"


def duration(seconds: float) -> str:
    """In two units at most."""
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if days:
        return f"{days} d {hours % 24:02d} h"
    if hours:
        return f"{hours} h {minutes % 60:02d} m"
    return f"{minutes} m {whole % 60:02d} s" if minutes else f"{whole} s"


def time_left(
    points: Sequence[Point],
    field: Callable[[Point], float | None],
    now: float,
    goal: float,
    far: float = FAR,
) -> float | None:
    """Seconds until a field is at its goal, at the pace of the newest half of the curve. None: nobody can tell."""
    known = [(point.time_s, value) for point in points if (value := field(point)) is not None]
    if len(known) < PACE_POINTS:
        return None
    newest_s = known[-1][0]
    first_s = known[0][0]
    from_s = first_s + PACE_SHARE * (newest_s - first_s)
    then_s, then = next((time_s, value) for time_s, value in known if time_s >= from_s)
    if now <= then or newest_s <= then_s:
        return None
    left_s = (goal - now) * (newest_s - then_s) / (now - then)
    return left_s if left_s <= far * (newest_s - first_s) else None


def sparkline(values: Sequence[float | None], columns: int, glyphs: Glyphs = DRAWN) -> str:
    """A curve as one row: each column a mean of its share of the values, a blank where there is none."""
    drawn = min(columns, len(values))
    edges = [index * len(values) // drawn for index in range(drawn + 1)]
    shares = [[value for value in values[low:high] if value is not None] for low, high in pairwise(edges)]
    means = [sum(share) / len(share) if share else None for share in shares]
    known = [value for value in means if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    most = len(glyphs.levels) - 1
    scale = most / (high - low) if high > low else 0.0
    return "".join(" " if value is None else glyphs.levels[round((value - low) * scale)] for value in means)


# events as text


def format_event(name: str, fields: Mapping[str, object]) -> str:
    """An event as a line for people, safe to print, and more for a traceback. Of the summary, what they ask first."""
    shown = {key: fields[key] for key in RESULT_SHOWN if key in fields} if name == "finished" else dict(fields)
    below = str(shown.pop("traceback", "")).splitlines()
    details = "  ".join(f"{key}={rounded(value)}" for key, value in shown.items())
    return "\n".join(map(printable, [f"{name.replace('_', ' ')}  {details}".rstrip(), *below]))


def printable(text: str) -> str:
    """Text without control characters."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
