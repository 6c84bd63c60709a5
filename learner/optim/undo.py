"""What coordinates were before they were overwritten. Pure. Knows coordinates and numbers; no version, no update.

Entries lie in one log in the order of writing. Those of one coordinate form a chain, newest first, in which each entry
also names one much older, so that any of n is found in at most about 2 log n steps (Myers 1983, "An applicative
random-access stack"). All coordinates of a question take their steps together.

Chains cost several times what a write does otherwise, so writes wait for them: a question that reaches back a few
writes goes through these, and the first that reaches further has all that wait chained. Each is chained once at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from protocol.codecs.registry import Floats
from protocol.codecs.vectors import Indices

Where = slice | Indices  # all coordinates, or int32 [k]

ENTRY_BYTES = 16
LEAST = 4096  # entries that room is made for
MOST = 1 << 30  # which int32 counts
NEAR = 4  # writes that a question goes through in no more time than chaining one takes
RANK_BITS = 6  # of a leap: it passes over 2^rank - 1 entries of its chain


class UndoLog:
    """Bound to the length of one vector. Positions count all entries ever written; 0 <= begin <= end.

    most: entries that room is made for; three quarters are held at most, and one write whatever it takes.
    """

    def __init__(self, length: int, most: int) -> None:
        self._most = min(most, MOST)
        self.begin = self.end = 0  # what lies between them is held
        self._waiting: deque[tuple[int, Indices, Floats]] = deque()  # position, coordinates, what they were
        self._places = np.zeros(length, np.int32)  # of coordinates in one write, from 1; zeros between two questions
        self._chained = 0  # position up to which entries are chained
        self._offset = -1  # position of the entry 0, which stands for what is not held
        self._head = np.zeros(length, np.int32)  # newest entry of each coordinate
        self._before = np.zeros(1, np.float32)
        self._previous = np.zeros(1, np.int32)  # below 0 and 0 are not held
        self._leap = np.zeros(1, np.int64)  # an older entry, and in the last bits the leap's rank

    @property
    def room(self) -> int:
        """Entries that chains take room for, used or not."""
        return len(self._before)

    def write(self, indices: Indices, values: Floats) -> None:
        """These coordinates are about to be overwritten. indices: int32 [k], unique. values: float32 [k], as yet.

        Neither is changed by anybody from now on. What lies before ``begin`` is forgotten, and what is too much.
        """
        self.begin = min(self.end, max(self.begin, self.end + len(indices) - self._most * 3 // 4))
        self._forget()
        self._waiting.append((self.end, indices, values))
        self.end += len(indices)

    def _forget(self) -> None:
        """Of what waits, what lies before ``begin``."""
        while self._waiting and self._waiting[0][0] < self.begin:
            self._waiting.popleft()

    def _chain(self, position: int, indices: Indices, values: Floats) -> None:
        """O(k). Makes a write part of the chains."""
        if position - self._offset + len(indices) > len(self._before):
            self._move(position, len(indices))
        first = position - self._offset
        new = slice(first, first + len(indices))
        previous = self._head[indices]
        leap = self._leap[previous]
        further = self._leap[np.maximum(leap >> RANK_BITS, 0)]
        level = ((leap ^ further) & ((1 << RANK_BITS) - 1)) == 0  # two leaps of one rank, which one more joins
        self._before[new], self._previous[new] = values, previous
        self._leap[new] = np.where(level, further + 1, (previous.astype(np.int64) << RANK_BITS) + 1)
        self._head[indices] = np.arange(new.start, new.stop, dtype=np.int32)
        self._chained = position + len(indices)

    def _move(self, position: int, count: int) -> None:
        """Makes room for so many at ``position``, where nothing is left before ``begin``. O(entries + length)."""
        held, gone = max(0, self._chained - self.begin), self.begin - 1 - self._offset
        needed = position - self.begin + count
        old, new = slice(gone + 1, gone + 1 + held), slice(1, 1 + held)
        before, previous, leap = self._before, self._previous, self._leap
        if needed >= len(before) or (4 * needed > 3 * len(before) and len(before) <= self._most):
            size = 1 + max(needed, min(self._most, max(LEAST, 2 * needed)))
            self._before, self._previous, self._leap = (np.zeros(size, each.dtype) for each in (before, previous, leap))
        self._before[new] = before[old]
        np.subtract(previous[old], gone, out=self._previous[new])
        np.subtract(leap[old], gone << RANK_BITS, out=self._leap[new])
        self._head -= gone
        np.maximum(self._head, 0, out=self._head)
        self._offset += gone

    def undo(self, values: Floats, where: Where, start: int, stop: int) -> None:
        """Gives each value that was overwritten in start <= position < stop what it was before the first such write.

        values: float32, at the coordinates ``where``; written in place. O(k log n), n being writes of one coordinate.
        """
        near = list(takewhile(lambda write: write[0] >= start, reversed(self._waiting)))
        if start >= self._chained and len(near) <= NEAR:
            self._walk(values, where, [write for write in near if write[0] < stop])
            return
        self._forget()
        while self._waiting:
            self._chain(*self._waiting.popleft())
        first, last = max(start, self.begin) - self._offset, stop - self._offset
        head = self._head[where]
        asked = np.flatnonzero(head >= first)
        entries = self._oldest(head[asked], first)
        hit = entries < last
        values[asked[hit]] = self._before[entries[hit]]

    def _walk(self, values: Floats, where: Where, writes: Sequence[tuple[int, Indices, Floats]]) -> None:
        """Undoes these writes, the newest first."""
        for _, indices, before in writes:
            self._places[indices] = np.arange(1, len(indices) + 1, dtype=np.int32)
            places = self._places[where]
            hit = np.flatnonzero(places)
            values[hit] = before[places[hit] - 1]
            self._places[indices] = 0

    def _oldest(self, entries: Indices, first: int) -> Indices:
        """Of each entry's chain the oldest at or after ``first``, as int32. entries: >= ``first``."""
        found, moving, at = entries, np.arange(len(entries)), entries
        while len(at):
            leap = self._leap[at] >> RANK_BITS
            at = np.where(leap >= first, leap, self._previous[at]).astype(np.int32)
            further = at >= first
            at, moving = at[further], moving[further]
            found[moving] = at
        return found
