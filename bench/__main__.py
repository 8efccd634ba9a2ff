"""``python -m bench``: measure forkful against its peers, print the table, write it where asked."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .machine import describe_machine, load
from .measures import MEASURES, PLANNED
from .peers import PEERS
from .report import Run, render, spell_series, title
from .runner import Plan, adopt_orphans, run_measure
from .verdict import judge

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> int:
    """Parse, run, print; the exit code."""
    options = parse_options()
    begun, load_before = time.monotonic(), load()
    adopt_orphans()
    plan = Plan(options.peers, quick=options.quick, rounds=options.repeat)
    results = []
    for name in options.only:
        measure = MEASURES[name]
        result = run_measure(measure, plan, log)
        results.append((measure, result))
        shown = [
            f"{series.contestant} {spell_series(measure.unit, series)}" for series in result.series if not series.absent
        ]
        log(f"{name} ({time.monotonic() - begun:.0f} s): {'; '.join(shown) or f'skipped, {result.series[0].absent}'}")
    run = Run(
        machine=describe_machine(),
        versions={name: peer.version() for name, peer in PEERS.items()},
        load_before=load_before,
        minutes=(time.monotonic() - begun) / 60,
        quick=options.quick,
        complete=len(options.only) == len(MEASURES) and len(options.peers) == len(PEERS),
        measures=results,
        planned=PLANNED,
    )
    page = render(run)
    if options.write:
        options.write.write_text(page, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(facts(run), indent=1), encoding="utf-8")
    print(page)
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, epilog=f"Measures: {', '.join(MEASURES)}."
    )
    parser.add_argument("--quick", action="store_true", help="fewer tasks, three rounds: a first impression")
    parser.add_argument(
        "--only", type=names_of(MEASURES), default=list(MEASURES), metavar="NAME,...", help="only these measures"
    )
    parser.add_argument(
        "--peers", type=names_of(PEERS), default=list(PEERS), metavar="NAME,...", help=f"only these: {', '.join(PEERS)}"
    )
    parser.add_argument("--repeat", type=positive, metavar="N", help="rounds, for every measure")
    parser.add_argument("--write", type=writable, metavar="FILE", help="write the table to FILE too")
    parser.add_argument("--json", type=writable, metavar="FILE", help="write every value to FILE")
    return parser.parse_args()


def names_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """A parser for a list of names, which gives them in the order of *known*."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; take of: {', '.join(known)}")
        return [name for name in known if name in names]

    return parse


def positive(text: str) -> int:
    """A number of rounds."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def writable(text: str) -> Path:
    """A path whose directory is there; asked before the run, which takes minutes."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {str(path.parent)!r}")
    return path


def facts(run: Run) -> dict[str, Any]:
    """Everything that was measured, for programs."""
    return {
        "machine": dict(run.machine),
        "versions": dict(run.versions),
        "load_before": run.load_before,
        "minutes": run.minutes,
        "quick": run.quick,
        "complete": run.complete,
        "measures": [
            {
                "name": measure.name,
                "title": title(measure, result),
                "unit": measure.unit,
                "series": [asdict(series) for series in result.series],
                "verdicts": [asdict(verdict) for verdict in judge(measure, result)],
            }
            for measure, result in run.measures
        ],
    }


def log(text: str) -> None:
    """A line on the way, where it does not mix with the page."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
