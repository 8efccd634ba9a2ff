"""``python -m bench``: measure forkful against its peers, print the table, write it where asked."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from .machine import describe_machine, load
from .measures import MEASURES, PLANNED
from .peers import PEERS
from .report import Run, render, spell_series
from .runner import Plan, run_measure
from .verdict import judge

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> int:
    """Parse, run, print; the exit code."""
    options = parse_options()
    begun, load_before = time.monotonic(), load()
    plan = Plan(options.peers, quick=options.quick, rounds=options.repeat)
    results = []
    for name in options.only:
        measure = MEASURES[name]
        result = run_measure(measure, plan, log)
        results.append((measure, result))
        shown = (f"{series.contestant} {spell_series(measure.unit, series)}" for series in result.series)
        log(f"{name} ({time.monotonic() - begun:.0f} s): {'; '.join(shown)}")
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
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, epilog=f"Measures: {', '.join(MEASURES)}.")
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
