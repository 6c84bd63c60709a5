"""What coordinates were before they were overwritten. Pure. Knows coordinates and numbers; no version, no update.

Entries lie in one log in the order of writing. Those of one coordinate form a chain, newest first, in which each entry
also names one much older, so that any of n is found in at most about 2 log n steps (Myers 1983, "An applicative
random-access stack"). All coordinates of a question take their steps together.
"""

from __future__ import annotations

import numpy as np

from protocol.codecs import Floats
from protocol.vectors import Indices

Where = slice | Indices  # all coordinates, or int32 [k]

ENTRY_BYTES = 16
LEAST = 4096  # entries that room is made for
MOST = 1 << 30  # which int32 counts
RANK_BITS = 6  # of a leap: it passes over 2^rank - 1 entries of its chain


class UndoLog:
    """Bound to the length of one vector. Positions count all entries ever written; 0 <= begin <= end.

    most: entries that room is made for, though one write is kept whatever it takes.
    """

    def __init__(self, length: int, most: int) -> None:
        self._most = min(most, MOST)
        self.begin = self.end = 0  # what lies between them is held
        self._offset = -1  # position of the entry 0, which stands for what is not held
        self._head = np.zeros(length, np.int32)  # newest entry of each coordinate
        self._before = np.zeros(1, np.float32)
        self._previous = np.zeros(1, np.int32)  # below 0 and 0 are not held
        self._leap = np.zeros(1, np.int64)  # an older entry, and in the last bits the leap's rank

    def write(self, indices: Indices, values: Floats) -> None:
        """These coordinates are about to be overwritten. indices: int32 [k], unique. values: float32 [k], as yet.

        O(k). Where room is lacking all that ``begin`` lets go of is dropped first, and if that is too little some more.
        """
        if self.end - self._offset + len(indices) > len(self._before):
            self._move(len(indices))
        first = self.end - self._offset
        new = slice(first, first + len(indices))
        previous = self._head[indices]
        leap = self._leap[previous]
        further = self._leap[np.maximum(leap >> RANK_BITS, 0)]
        level = ((leap ^ further) & ((1 << RANK_BITS) - 1)) == 0  # two leaps of one rank, which one more joins
        self._before[new], self._previous[new] = values, previous
        self._leap[new] = np.where(level, further + 1, (previous.astype(np.int64) << RANK_BITS) + 1)
        self._head[indices] = np.arange(new.start, new.stop, dtype=np.int32)
        self.end += len(indices)

    def _move(self, count: int) -> None:
        """Makes room for ``count`` more, in arrays of at most ``most`` entries. Costs O(entries + length)."""
        self.begin = min(self.end, max(self.begin, self.end + count - self._most * 7 // 8))  # not soon again
        held, gone = self.end - self.begin, self.begin - 1 - self._offset
        old, new = slice(gone + 1, gone + 1 + held), slice(1, 1 + held)
        before, previous, leap = self._before, self._previous, self._leap
        if 4 * (held + count) > 3 * len(before):
            size = 1 + max(held + count, min(self._most, max(LEAST, 2 * (held + count))))
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
        first, last = max(start, self.begin) - self._offset, stop - self._offset
        head = self._head[where]
        asked = np.flatnonzero(head >= first)
        entries = self._oldest(head[asked], first)
        hit = entries < last
        values[asked[hit]] = self._before[entries[hit]]

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
