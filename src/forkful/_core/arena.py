"""Which parts of the shared memory of one process are in use: ranges inside numbered segments.  Pure.

A free range knows how much of it is *warm*: pages that exist and cost nothing to be used again.  The rest are addresses
only.  The best fit is taken, and of that the beginning, so what is used again and again stays the same, warm, memory.
"""

from __future__ import annotations

from bisect import bisect_left

_Range = tuple[
    int, int, int
]  # offset, size, warm bytes in it (an estimate, never less than there are at its beginning)


class Arena:
    """The free ranges of each segment.  Sizes and offsets are bytes; whoever asks sees to their alignment."""

    def __init__(self) -> None:
        self._free: dict[int, list[_Range]] = {}  # by segment, sorted by offset, no two adjacent
        self._sizes: dict[int, int] = {}
        self._spent: dict[int, int] = {}  # bytes of a segment that will not be used again
        self.warm = 0  # free bytes that are kept warm

    def __len__(self) -> int:
        return len(self._sizes)

    def total(self) -> int:
        """The bytes of all segments."""
        return sum(self._sizes.values())

    def add(self, number: int, size: int) -> None:
        """A new segment, cold."""
        self._sizes[number] = size
        self._spent[number] = 0
        self._free[number] = [(0, size, 0)]

    def take(self, size: int) -> tuple[int, int] | None:
        """*size* bytes: the segment and the offset there; None when no range has so many."""
        best: tuple[int, int, int] | None = None  # size, segment, position in its list
        for number, ranges in self._free.items():
            for position, (_, there, _) in enumerate(ranges):
                if there >= size and (best is None or there < best[0]):
                    best = there, number, position
        if best is None:
            return None
        there, number, position = best
        ranges = self._free[number]
        offset, _, warm = ranges[position]
        used = min(warm, size)
        ranges[position : position + 1] = [(offset + size, there - size, warm - used)] if there > size else []
        self.warm -= used
        return number, offset

    def give(self, number: int, offset: int, size: int) -> None:
        """Back, and warm."""
        ranges = self._free[number]
        at = bisect_left(ranges, (offset,))
        warm = size
        self.warm += size
        first, last = at, at
        if at and sum(ranges[at - 1][:2]) == offset:
            first = at - 1
            offset, size, warm = ranges[first][0], ranges[first][1] + size, ranges[first][2] + warm
        if at < len(ranges) and ranges[at][0] == offset + size:
            size, warm, last = size + ranges[at][1], warm + ranges[at][2], at + 1
        ranges[first:last] = [(offset, size, warm)]

    def spend(self, number: int, size: int) -> None:
        """*size* bytes of a segment will not come back: somebody may see them for ever."""
        self._spent[number] += size

    def is_idle(self, number: int) -> bool:
        """Whether nothing of a segment is in use, or will be."""
        return sum(size for _, size, _ in self._free[number]) + self._spent[number] == self._sizes[number]

    def worn_out(self) -> list[int]:
        """The segments in which nothing is in use and something is spent: good for nothing but to be dropped."""
        return [number for number, spent in self._spent.items() if spent and self.is_idle(number)]

    def drop(self, number: int) -> bool:
        """A segment is no more; whether any of it was spent."""
        self.warm -= sum(warm for _, _, warm in self._free.pop(number))
        del self._sizes[number]
        return self._spent.pop(number) > 0

    def cool(self, most: int) -> list[tuple[int, int, int]]:
        """Ranges (segment, offset, size) to be emptied so that at most *most* free bytes stay warm, the warmest first."""
        emptied: list[tuple[int, int, int]] = []
        while self.warm > most:
            warm, number, offset = max((r[2], number, r[0]) for number, ranges in self._free.items() for r in ranges)
            ranges = self._free[number]
            at = bisect_left(ranges, (offset,))
            size = ranges[at][1]
            ranges[at] = (offset, size, 0)
            self.warm -= warm
            emptied.append((number, offset, size))
        return emptied
