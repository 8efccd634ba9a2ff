"""How much work to hand out at once, from how long work has taken.  Pure: no clock, no I/O.

All times are nanoseconds.
"""

from __future__ import annotations

WINDOW_NS = 10_000_000  # a worker is fed this far ahead: long enough to bridge a thread that holds the GIL
BLOCK_NS = 1_000_000  # elements of one map travel together up to this much work
STUCK_NS = 5_000_000  # an element that runs longer gives back what waits behind it, when somebody is free
LONG_NS = 50_000_000  # one that runs so long gives it back whenever another worker could take it in its turn
GATHER_NS = 1_000_000  # submissions in a burst are sent together, at most this long after the last sending
WINDOW_MOST = 16384
BLOCK_MOST = 4096
_CROWDED = 0.95  # threads of one worker that compute more of the time than this are in each other's way
_FULL = 0.9  # of the time that a worker's threads may compute together
_MEMORY = 0.5  # how much of what was known counts beside the newest report


class Pace:
    """What one element of each function has been costing lately: a mean that forgets by half with each report.

    Weighted by elements, so that the first call, which pays for an import, does not stand for the thousand after it.
    """

    def __init__(self) -> None:
        self._sums: dict[int, tuple[float, float]] = {}  # elements, nanoseconds
        self._windows: dict[int, int] = {}
        self._shares: dict[int, float] = {}  # of an element's duration: how much of it was spent computing

    def learn(self, function: int, elements: int, ns: int) -> None:
        """*elements* calls of *function* took *ns* together."""
        if elements > 0:
            count, total = self._sums.get(function, (0.0, 0.0))
            count, total = count * _MEMORY + elements, total * _MEMORY + ns
            self._sums[function] = count, total
            self._windows[function] = _fit(WINDOW_NS, total / count, WINDOW_MOST)

    def forget(self, function: int) -> None:
        """*function* is not used any more."""
        self._sums.pop(function, None)
        self._windows.pop(function, None)
        self._shares.pop(function, None)

    def learn_share(self, function: int, ns: int, cpu: int, beside: int) -> None:
        """Of *ns* of work, *cpu* were spent computing, on a seat that shared its worker with so many busy ones *beside* it.

        Threads of one interpreter compute one at a time.  Where together they compute nearly all the time, what looks
        like waiting may be waiting for each other: then what is known is half forgotten, so that fewer are used, until
        they are few enough to tell.
        """
        if ns <= 0:
            return
        share = min(1.0, cpu / ns)
        known = self._shares.get(function)
        if beside and share * (1 + beside) > _CROWDED:
            share = 2 * max(share, known or 0.0)
        elif known is not None:
            share = known * _MEMORY + share * (1 - _MEMORY)
        self._shares[function] = min(1.0, share)

    def shares(self) -> dict[int, float]:
        """How much of an element's duration is spent computing, of each function that is known."""
        return dict(self._shares)

    def width(self, function: int, threads: int) -> int:
        """How many of a worker's *threads* pay for *function*: as many as compute as much as one that never waits."""
        share = self._shares.get(function)
        if share is None:
            return 1
        return max(1, min(threads, int(_FULL / max(share, 1e-9))))

    def cost(self, function: int) -> float:
        """Nanoseconds an element of *function* costs; 0 while nothing is known."""
        count, total = self._sums.get(function, (1.0, 0.0))
        return total / count

    def window(self, function: int) -> int:
        """How many elements of *function* a worker may hold, the running one included; 1 while nothing is known."""
        return self._windows.get(function, 1)

    def block(self, function: int, most: int) -> int:
        """How many elements of *function* to send as one task, at most *most*."""
        return min(most, _fit(BLOCK_NS, self.cost(function), BLOCK_MOST)) if function in self._sums else 1


def _fit(span: int, cost: float, most: int) -> int:
    """How many elements of *cost* fit into *span*; at least 1."""
    return max(1, min(most, int(span / max(cost, 1.0))))


def default_chunksize(length: int, processes: int) -> int:
    """``multiprocessing.Pool.map``'s: four chunks a worker."""
    return -(-length // (processes * 4)) if length else 1
