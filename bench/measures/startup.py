"""What it costs to begin: the import, and the first result of a program just started."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from textwrap import indent

from ..measure import Case, Measure, Reading, Target
from ..peers import PEERS

ROOT = Path(__file__).parents[2]

# The program's own first statement starts the clock: the interpreter's start is everybody's, and would hide differences.
PROGRAM = """\
import time
begun = time.perf_counter()
{imports}
from bench.workloads import identity

def main():
    pool = {pool}
    assert {call} == 1
    print(time.perf_counter() - begun)
{close}

if __name__ == "__main__":
    main()
"""


def first_result(case: Case) -> Reading:
    """The time from a program's first statement to its first result; the program is a script, as a user has it."""
    script = PEERS[case.contestant].script
    program = PROGRAM.format(
        imports=script.imports,
        pool=script.pool.format(method=case.start_method),
        call=script.call,
        close=indent(script.close, "    "),
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "program.py")
        path.write_text(program, encoding="utf-8")
        run = subprocess.run([sys.executable, path], env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return Reading(float(run.stdout))


def import_time(case: Case) -> Reading:
    """The time of a whole process that imports the pool and ends."""
    return time_program(PEERS[case.contestant].script.imports)


def bare_interpreter(case: Case) -> Reading:
    """The time of a whole process that does nothing."""
    return time_program("pass")


def time_program(source: str) -> Reading:
    """The wall time of ``python -c source``."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", source], check=True)
    return Reading(time.perf_counter() - begun)


def cold_start(start_method: str) -> Measure:
    """The measure for one start method: comparing two of them would compare operating system calls, not pools."""
    return Measure(
        f"cold_{start_method}",
        f"first result of a cold start, `{start_method}`",
        f"A new program: import the pool, open it with two workers by `{start_method}`, one `apply` of a function from "
        "a module. Timed from the program's first statement.",
        first_result,
        (Target("times as long", 1.3, 1.0, "multiprocessing"),),
        start_method=start_method,
        strict_start_method=True,
        rounds=5,
        discarded=1,
        watchdog=30,
    )


MEASURES = (
    *(cold_start(start_method) for start_method in ("fork", "forkserver", "spawn")),
    Measure(
        "import",
        "import",
        "Whole processes that import the pool and end, as their users import it (`from forkful import Pool`, "
        "`import multiprocessing.pool`); `python` imports nothing.",
        import_time,
        (Target("more", 0.060, 0.020, "multiprocessing"),),
        start_method="",  # no process is started
        rounds=10,
        discarded=1,
        watchdog=30,
        baselines={"python": bare_interpreter},
    ),
)
