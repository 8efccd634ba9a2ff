"""The status page, for people: HTML that needs neither scripts nor anything else from elsewhere.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

__all__ = ["phrase_seconds", "render"]

REFRESH = 5
"""Seconds after which a browser asks again."""

_STYLE = """\
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { font-size: 1.2rem; margin: 1.5rem 0 .5rem }
table { border-collapse: collapse }
th, td { text-align: left; padding: .15rem 1.5rem .15rem 0; font-variant-numeric: tabular-nums; vertical-align: top }
th { font-weight: 600 }
thead th { border-bottom: 1px solid }
.busy td { font-weight: 600 }"""


def render(facts: Mapping[str, Any]) -> str:
    """The page, from what `_facts.gather` gives."""
    title = f"forkful: {', '.join(facts['addresses'])}"
    workers = facts["workers"]
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="{REFRESH}">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>
{_STYLE}
</style>
</head>
<body>
<h1>{escape(title)}</h1>
{_table(None, _summary(facts))}
<h2>Workers</h2>
{_table(("pid", "generation", "age", "busy", "idle"), map(_worker_row, workers))}
<h2>Threads</h2>
{_table(("pid", "does", "for", "client", "requests"), [row for worker in workers for row in _seat_rows(worker)])}
<p>The same <a href="status.json">as JSON</a>, and <a href="metrics">for Prometheus</a>.</p>
</body>
</html>
"""


def phrase_seconds(seconds: float) -> str:
    """So that it can be read.

    >>> phrase_seconds(0.0123), phrase_seconds(75), phrase_seconds(200_000)
    ('12.3 ms', '1 min 15 s', '2 d 7 h')
    """
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {name}"
    return f"{whole} s"


def _summary(facts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    requests, queued = facts["requests"], facts["queued"]
    mean = f", {phrase_seconds(facts['seconds'] / requests)} each" if requests else ""
    return [
        ("Up", f"{phrase_seconds(facts['uptime'])}, pid {facts['pid']}"),
        ("Requests", f"{requests:,} served{mean}; {facts['failed']:,} of them failed"),
        ("Threads", f"{facts['busy']} busy, {facts['idle']} idle"),
        ("Queue", "unknown" if queued is None else f"{queued:,} connections"),
        (
            "Workers",
            f"{len(facts['workers'])}, {facts['wanted']} wanted; {facts['started']:,} started, {facts['died']:,} died",
        ),
        (
            "Reloads",
            f"{facts['reloads']:,}, {facts['reloads_given_up']:,} given up; generation {facts['generation']}",
        ),
    ]


def _worker_row(worker: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (worker["pid"], worker["generation"], phrase_seconds(worker["age"]), worker["busy"], worker["idle"])
    return tuple(map(str, numbers))


def _seat_rows(worker: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (str(worker["pid"]), seat["doing"], phrase_seconds(seat["seconds"]), seat["client"], f"{seat['requests']:,}")
        for seat in worker["seats"]
    ]


def _table(heads: tuple[str, ...] | None, rows: Iterable[tuple[str, ...]]) -> str:
    """With *heads* above its columns; without, the first of each row is its head."""
    lines = ["<table>"]
    if heads is not None:
        lines.append(f"<thead><tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr></thead>")
    for row in rows:
        first = "td" if heads is not None else "th"
        mark = ' class="busy"' if "busy" in row else ""
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        lines.append(f"<tr{mark}><{first}>{escape(row[0])}</{first}>{cells}</tr>")
    return "\n".join([*lines, "</table>"])
