"""A run's curve, and how fast things go at the moment: what the pages keep beside the counters. Pure.

Counters say how much there is now. A curve needs counts of then: a bounded number of points, which lie twice as far
apart each time there are too many. Rates need the counts of some seconds ago.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

MOST = 512  # points, an even number: about as many as a curve has pixels to show
INTERVAL_S = 0.25  # between the first points, so that a run of three seconds has a curve too
MEAN_S = 3.0  # the shortest time that a point's rates are means of: longer than a quick rollout takes
EARLIER_POINTS = MOST // 2  # points of earlier lives: the rest is for this one
RECENT_S = 5.0  # rates are means over this long at least: short enough to see a stall
FEW = 20  # arrivals that rates are means of at least: one that comes early or late changes them by a twentieth
LONGEST_S = 60.0  # even where there are fewer: simulators that take half a minute for a rollout have rates that jump
LOOK_S = 1.0  # between the counts that are kept for rates


class Sample(NamedTuple):
    """The counters at one moment. time_s: of training in this life. Returns are those of the last 100 episodes."""

    time_s: float
    env_steps: int
    version: int
    lags: int  # gradients whose age was measured
    lag_updates: int  # their ages, summed
    received_bytes: int
    sent_bytes: int
    math_s: float
    return_mean: float | None
    return_min: float | None
    return_max: float | None
    arrivals: int = 0  # so many times that it was looked at, there were more steps than before


class Point(NamedTuple):
    """One point of the curve. time_s: of training, earlier lives included. Rates and lag_updates are means of the
    MEAN_S before it, of longer while FEW arrivals take longer, and since the point before it where that is longer ago.

    None: not known, which in an earlier life's points is what progress.jsonl does not tell.
    """

    time_s: float
    env_steps: int
    return_mean: float | None
    return_min: float | None
    return_max: float | None
    env_steps_per_s: float | None
    lag_updates: float | None  # of the gradients judged in that time
    received_bytes_per_s: float | None
    sent_bytes_per_s: float | None


class EarlierLives(NamedTuple):
    """What is known of earlier lives. points: what this one builds on, oldest first. time_s: of training, all of it."""

    points: Sequence[Point] = ()
    time_s: float = 0.0


NO_EARLIER_LIVES = EarlierLives()


class History:
    """The curve of a run, fewer than MOST points. past: of earlier lives. interval_s: between points."""

    def __init__(self, past: EarlierLives = NO_EARLIER_LIVES) -> None:
        assert len(past.points) < MOST
        self.points = list(past.points)
        self.interval_s = INTERVAL_S
        self._past_s = past.time_s
        while self._past_s > self.interval_s * MOST:
            self.interval_s *= 2.0
        self._stepped = False  # in this life: before its first rollout has ended, no rate is known
        self._before: deque[Sample] = deque()  # those that rates are measured from, oldest first

    def add(self, seen: Sample) -> None:
        """The run at this moment; a point if it is time for one."""
        before = self._before
        if before and seen.time_s - before[-1].time_s < 0.99 * self.interval_s:  # ticks come early as often as late
            return
        if before:
            while len(before) > 1 and _enough(seen.time_s - before[1].time_s, MEAN_S, before[1], seen):
                before.popleft()
            point = _point(before[0], seen, self._past_s)
            self._stepped |= seen.env_steps > before[0].env_steps
            self.points.append(point if self._stepped else _without_rates(point))
        before.append(seen)
        if len(self.points) == MOST:
            self._halve()

    def since(self, time_s: float) -> list[Point]:
        """The points later than that. Points change only when ``interval_s`` does."""
        return [point for point in self.points if point.time_s > time_s]

    def _halve(self) -> None:
        """Two points become one."""
        firsts, seconds = self.points[::2], self.points[1::2]
        starts = [0.0, *(point.time_s for point in seconds[:-1])]
        self.points = list(map(_merged, starts, firsts, seconds))
        self.interval_s *= 2.0


def _enough(passed_s: float, least_s: float, then: Sample, seen: Sample) -> bool:
    """Whether rates may be means of that time, between these two. A rollout's steps come at once, and those of
    actors that began together come together.
    """
    return passed_s >= least_s and (seen.arrivals - then.arrivals >= FEW or passed_s >= LONGEST_S)


def _point(before: Sample, seen: Sample, past_s: float) -> Point:
    seconds, judged = seen.time_s - before.time_s, seen.lags - before.lags
    return Point(
        round(past_s + seen.time_s, 3),
        seen.env_steps,
        seen.return_mean,
        seen.return_min,
        seen.return_max,
        (seen.env_steps - before.env_steps) / seconds,
        (seen.lag_updates - before.lag_updates) / judged if judged else None,
        (seen.received_bytes - before.received_bytes) / seconds,
        (seen.sent_bytes - before.sent_bytes) / seconds,
    )


def _without_rates(point: Point) -> Point:
    return point._replace(env_steps_per_s=None, lag_updates=None, received_bytes_per_s=None, sent_bytes_per_s=None)


def _merged(start_s: float, first: Point, second: Point) -> Point:
    """One point for both, at the place of the second: extremes are kept, rates become means over their times."""
    weight = (first.time_s - start_s) / (second.time_s - start_s) if second.time_s > start_s else 0.5

    def mean(one: float | None, other: float | None) -> float | None:
        return weight * one + (1.0 - weight) * other if one is not None and other is not None else _known(one, other)

    return Point(
        second.time_s,
        second.env_steps,
        second.return_mean,
        min((low for low in (first.return_min, second.return_min) if low is not None), default=None),
        max((high for high in (first.return_max, second.return_max) if high is not None), default=None),
        mean(first.env_steps_per_s, second.env_steps_per_s),
        mean(first.lag_updates, second.lag_updates),
        mean(first.received_bytes_per_s, second.received_bytes_per_s),
        mean(first.sent_bytes_per_s, second.sent_bytes_per_s),
    )


def _known(one: float | None, other: float | None) -> float | None:
    return other if one is None else one


def read_earlier_lives(lines: Iterable[bytes], env_steps: int) -> EarlierLives:
    """Earlier lives from lines of progress.jsonl, evenly spread; those that tell nothing are passed over.

    env_steps: where this life goes on. What an earlier one did beyond it is lost, and so are its points; the time that
    it took is not. Times are rounded, as those of all points. ``wall_s`` begins anew with each life.
    """
    points: list[Point] = []
    before_s, last, seen = 0.0, _Line(0.0, 0), 0
    for line in filter(None, map(_progress, lines)):
        # Lines lie evenly: where two of a life were seen, the next life's first is earlier in its own. So the clock is
        # asked after a single one only, and a machine that slept, which looks alike, costs that one's time at most.
        if line.wall_s < last.wall_s or (seen == 1 and line.began_after(last)):
            before_s, seen = before_s + last.wall_s, 0
            while points and points[-1].env_steps > line.env_steps:
                points.pop()
        points.append(line.point(before_s, last if seen else None))
        last, seen = line, seen + 1
    return EarlierLives([point for point in points if point.env_steps <= env_steps], round(before_s + last.wall_s, 3))


class _Line(NamedTuple):
    """What is used of a progress line, by its names there."""

    wall_s: float
    env_steps: int
    return_mean: float | None = None
    env_steps_per_s: float | None = None
    unix_s: float | None = None
    return_min: float | None = None
    return_max: float | None = None
    lag_count: float | None = None
    lag_sum_updates: float | None = None
    received_bytes: float | None = None
    sent_bytes: float | None = None

    def began_after(self, other: _Line) -> bool:
        """Whether, by the wall clock, its life has trained only since the other line was written."""
        return self.unix_s is not None and other.unix_s is not None and self.unix_s - self.wall_s > other.unix_s

    def point(self, before_s: float, last: _Line | None) -> Point:
        """Its point. before_s: of training in lives before its own. last: the line before it, in the same life."""
        rate, judged = self._rate("env_steps", last), self._since("lag_count", last or _BEGUN)
        lags = self._since("lag_sum_updates", last or _BEGUN)
        return Point(
            round(before_s + self.wall_s, 3),
            self.env_steps,
            self.return_mean,
            self.return_min,
            self.return_max,
            self.env_steps_per_s if rate is None else rate,
            lags / judged if judged and lags is not None else None,
            self._rate("received_bytes", last),
            self._rate("sent_bytes", last),
        )

    def _since(self, name: str, last: _Line) -> float | None:
        now, then = getattr(self, name), getattr(last, name)
        return None if now is None or then is None else float(now - then)

    def _rate(self, name: str, last: _Line | None) -> float | None:
        """Per second since the line before."""
        if last is None or self.wall_s <= last.wall_s:
            return None
        came = self._since(name, last)
        return None if came is None else came / (self.wall_s - last.wall_s)


_BEGUN = _Line(0.0, 0, lag_count=0.0, lag_sum_updates=0.0)  # lags are counted anew in each life


def _progress(line: bytes) -> _Line | None:
    try:
        said = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not isinstance(said, dict) or said.get("event") != "progress":
        return None
    wall_s, steps, *others = (_number(said.get(name)) for name in _Line._fields)
    return None if wall_s is None or steps is None else _Line(wall_s, int(steps), *others)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class Counts(NamedTuple):
    """Counts of a moment ago. now_s: monotonic clock. steps: environment steps of each session."""

    now_s: float
    seen: Sample
    rulings: Mapping[str, int]
    steps: Mapping[int, int]


class Recent:
    """The counts of the last LONGEST_S, and which of them rates are measured from."""

    def __init__(self) -> None:
        self._kept: deque[Counts] = deque()
        self._from = 0  # the place of those that rates are measured from

    def due(self, now: float) -> bool:
        """Whether it is time for ``add``."""
        return not self._kept or now - self._kept[-1].now_s >= LOOK_S

    def add(self, counts: Counts) -> None:
        """Keeps these counts, and forgets those that are not needed any more."""
        self._kept.append(counts)
        while len(self._kept) > 1 and counts.now_s - self._kept[1].now_s >= LONGEST_S:
            self._kept.popleft()
        self._from = self._reaching()

    def baseline(self, now: float) -> Counts | None:
        """What rates are measured from; None while that is too short ago to say anything."""
        oldest = self._kept[self._from] if self._kept else None
        return oldest if oldest is not None and now - oldest.now_s >= LOOK_S / 2 else None

    def steps_per_s(self, session: int, env_steps: int, now: float) -> float | None:
        """Of one session, in all that is kept, as one actor's rollouts are rarer than those of all; None before it can
        be measured.
        """
        for then in self._kept:
            if session in then.steps and now - then.now_s >= LOOK_S / 2:
                return (env_steps - then.steps[session]) / (now - then.now_s)
        return None

    def _reaching(self) -> int:
        """The place of the newest that lies so many back, and RECENT_S."""
        newest = self._kept[-1]
        for place in range(len(self._kept) - 1, 0, -1):
            then = self._kept[place]
            if _enough(newest.now_s - then.now_s, RECENT_S, then.seen, newest.seen):
                return place
        return 0
