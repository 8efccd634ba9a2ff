"""Runs the measures: rounds in which the contestants take turns, each sample in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .measure import US, Case, Measure
from .peers import PEERS
from .results import MeasureResult, Outcome, Series

ROOT = Path(__file__).parents[1]
FAILURES_IN_A_ROW = 2  # after these a contestant sits the measure out: a hang costs a watchdog each time
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
# A source tree must be compiled once, as an installed package is: else each import and cold start would compile it again.
NOT_PASSED_ON = {"PYTHONDONTWRITEBYTECODE"}
CLEAN_UP = 1.0  # seconds for helpers of a killed pool (resource trackers) to remove its semaphores

Log = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How a run is done, beside what it measures."""

    peers: Sequence[str] = tuple(PEERS)
    quick: bool = False
    rounds: int | None = None  # instead of each measure's own


def run_measure(measure: Measure, plan: Plan, log: Log) -> MeasureResult:
    """All rounds of one measure."""
    lineup = [enter(measure, name, plan) for name in (*PEERS, *measure.baselines)]
    rounds = plan.rounds or (min(measure.rounds, 3) if plan.quick else measure.rounds)
    for number in range(-measure.discarded, rounds):
        for series in lineup:
            if series.absent or gave_up(series):
                continue
            outcome = take_sample(measure, Case(series.contestant, series.size, series.start_method), log)
            if number >= 0:
                series.outcomes.append(outcome)
    return MeasureResult(measure.name, lineup)


def enter(measure: Measure, name: str, plan: Plan) -> Series:
    """The empty series of a contestant, or why it cannot take part."""
    series = Series(name, measure.size_for(name, quick=plan.quick), measure.start_method)
    peer = PEERS.get(name)
    if peer is not None and measure.only_us and name != US:
        series.absent = measure.only_us
    elif measure.needs and shutil.which(measure.needs) is None:
        series.absent = f"needs `{measure.needs}`, which is not installed"
    elif peer is None:  # a baseline
        series.start_method = ""
    elif name not in plan.peers:
        series.absent = "left out (--peers)"
    elif not peer.installed():
        series.absent = "not installed"
    elif measure.start_method and measure.start_method not in peer.start_methods:
        series.start_method = peer.start_methods[0]
        if measure.strict_start_method:
            series.absent = f"has no `{measure.start_method}`"
    return series


def gave_up(series: Series) -> bool:
    """Whether its last samples all failed."""
    last = series.outcomes[-FAILURES_IN_A_ROW:]
    return len(last) == FAILURES_IN_A_ROW and all(outcome.failure for outcome in last)


def take_sample(measure: Measure, case: Case, log: Log) -> Outcome:
    """Run the sample's process, for so long as the watchdog allows."""
    spec = json.dumps({"measure": measure.name} | vars(case))
    with tempfile.TemporaryDirectory() as directory:
        result, errors = Path(directory, "result"), Path(directory, "errors")
        with errors.open("wb") as stderr:
            hung = run_bounded(["-m", "bench.sample", spec, str(result)], measure.watchdog, stderr.fileno())
        if result.exists():  # a pool that hangs in its shutdown has no result: that is within the sample
            outcome = Outcome(**json.loads(result.read_text(encoding="utf-8")))
        else:
            outcome = Outcome(failure=f"hangs: nothing within {measure.watchdog:g} s" if hung else "dies")
        if outcome.failure:
            last = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            log(f"{measure.name}: {case.contestant} {outcome.failure} {last[0] if last and not hung else ''}".rstrip())
    return outcome


def run_bounded(arguments: list[str], seconds: float, stderr: int) -> bool:
    """Run Python on *arguments* in a process group of its own and leave nothing of it; whether it took too long."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )
    hung = threading.Event()

    def bark() -> None:
        hung.set()
        process.kill()

    watchdog = threading.Timer(seconds, bark)
    watchdog.start()
    try:
        process.wait()  # not with a timeout: that would poll, beside what is measured
    finally:
        watchdog.cancel()
        process.kill()  # only when we were interrupted
        process.wait()
        end_group(process.pid)
    return hung.is_set()


def end_group(group: int) -> None:
    """Kill what is left of a process group.  First by SIGTERM: resource trackers ignore it, and clean up."""
    kind = signal.SIGTERM
    deadline = time.monotonic() + CLEAN_UP
    while True:
        reap(group)
        try:
            os.killpg(group, kind)
        except (ProcessLookupError, PermissionError):  # macOS says the latter of a group that has only zombies left
            return
        if time.monotonic() > deadline:
            kind = signal.SIGKILL
        time.sleep(0.002)  # where orphans go to init, nothing tells us of their end


def reap(group: int) -> None:
    """Bury those of a process group that are our children and have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass


def adopt_orphans() -> None:
    """Become the parent of what samples leave behind, where the kernel can do that: some init takes a second to reap."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
