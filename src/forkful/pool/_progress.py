"""How far a map is, in words and in a bar: what a line says, given the counts, the time and the room there is.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

_NARROWEST, _WIDEST = 10, 40  # columns of a bar
_FULL, _EIGHTHS, _PLAIN = "█", " ▏▎▍▌▋▊▉", "#"


class Tally:
    """What is known of a map under way.

    Args:
        name: of its function.
        total: how many elements there are, if that is known.
        started: when, in seconds of any clock that goes forward.
    """

    __slots__ = ("done", "failed", "name", "started", "total")

    def __init__(self, name: str, total: int | None, started: float) -> None:
        self.name = name
        self.total = total
        self.started = started
        self.done = 0  # elements that have ended, those that failed included
        self.failed = 0

    def is_complete(self) -> bool:
        """Whether all elements have ended."""
        return self.total is not None and self.done >= self.total


def bar_line(tally: Tally, now: float, columns: int, *, blocks: bool = True) -> str:
    """One line for a terminal, at most so many *columns* wide.

    Where there is little room, what matters least is left out first: the rate, the name, the time left, the failures.

    Args:
        blocks: whether the terminal can show block elements; else the bar is made of ``#``.
    """
    fraction = _fraction(tally)
    parts = {
        "percent": "" if fraction is None else _percent(fraction).rjust(4),
        "count": _spell_count(tally),
        "failed": _spell_failed(tally),
        "left": f"ETA {left}" if (left := _spell_left(tally, now)) else "",
        "rate": _spell_rate(tally, now),
    }
    name = f"{tally.name} "
    least = 0 if fraction is None else _NARROWEST + 3
    for part in ("rate", "name", "left", "failed", "percent"):
        if len(name) + least + len(_join(parts.values())) <= columns:
            break
        if part == "name":
            name = ""
        else:
            del parts[part]
    text = _join(parts.values())
    room = columns - len(name) - len(text) - 3
    if fraction is not None and room >= _NARROWEST:
        percent = parts.pop("percent", "")
        text = f"{percent}|{_draw(fraction, min(_WIDEST, room), blocks=blocks)}| {_join(parts.values())}"
    return f"{name}{text}"[: max(0, columns)]


def plain_line(tally: Tally, now: float) -> str:
    """One line for a log: what has been done so far."""
    fraction = _fraction(tally)
    left = _spell_left(tally, now)
    done = (
        f"{tally.done:,} done" if fraction is None else f"{tally.done:,} of {tally.total:,} done ({_percent(fraction)})"
    )
    parts = (f"{tally.name}: {done}", _spell_failed(tally), _spell_rate(tally, now), f"{left} left" if left else "")
    return _join(parts, ", ")


def last_line(tally: Tally, now: float) -> str:
    """What is left to read when it is over, complete or not."""
    if tally.is_complete():
        done = f"{tally.done:,} done"
    else:
        done = f"stopped after {tally.done:,}{'' if tally.total is None else f' of {tally.total:,}'}"
    took = spell_seconds(now - tally.started)
    return _join((f"{tally.name}: {done} in {took}", _spell_failed(tally), _spell_rate(tally, now)), ", ")


def spell_seconds(seconds: float) -> str:
    """A duration for people.

    >>> spell_seconds(0.0123), spell_seconds(3.21), spell_seconds(3725)
    ('12 ms', '3.2 s', '1 h 2 min')
    """
    if seconds < 1:
        return f"{max(0.0, seconds) * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds / 60)
    return f"{minutes} min {seconds % 60:.0f} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def _join(parts: Iterable[str], between: str = "  ") -> str:
    return between.join(filter(None, parts))


def _fraction(tally: Tally) -> float | None:
    if not tally.total:
        return None
    return min(1.0, tally.done / tally.total)


def _percent(fraction: float) -> str:
    return f"{int(fraction * 100)}%"


def _draw(fraction: float, width: int, *, blocks: bool) -> str:
    if not blocks:
        return (_PLAIN * int(fraction * width)).ljust(width)
    eighths = int(fraction * width * 8)
    bar = _FULL * (eighths // 8)
    return (bar + _EIGHTHS[eighths % 8]).ljust(width)[:width]


def _spell_count(tally: Tally) -> str:
    return f"{tally.done:,} done" if tally.total is None else f"{tally.done:,}/{tally.total:,}"


def _spell_failed(tally: Tally) -> str:
    return f"{tally.failed:,} failed" if tally.failed else ""


def _spell_left(tally: Tally, now: float) -> str:
    """How long the rest will take if it goes on like this; empty when nobody knows, and when there is no rest."""
    if tally.total is None or not 0 < tally.done < tally.total:
        return ""
    return spell_seconds((now - tally.started) * (tally.total - tally.done) / tally.done)


def _spell_rate(tally: Tally, now: float) -> str:
    """Elements in a second, since the start; empty when there is nothing to tell."""
    if not tally.done or now <= tally.started:
        return ""
    rate = tally.done / (now - tally.started)
    if rate >= 10:
        return f"{rate:,.0f}/s"
    return f"{rate:.1f}/s" if rate >= 0.1 else f"{spell_seconds(1 / rate)} each"
