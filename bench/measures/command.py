"""What `forkful map` takes for each input, beside the tools and the loop that do the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..measure import Case, Measure, Reading, Target
from ..runner import ROOT

# What people write by hand: the same function, the same lines, JSON out; no ids, no failures, nothing to go on with.
LOOP = """\
import json, sys
from multiprocessing import Pool
from bench.workloads import echo
def work(line): return line, echo(line)
if __name__ == "__main__":
    with Pool(2) as pool, open("in.txt") as lines, open("out.jsonl", "w") as out:
        for line, result in pool.imap_unordered(work, (line.rstrip("\\n") for line in lines), int(sys.argv[1])):
            out.write(json.dumps({"input": line, "result": result}) + "\\n")
"""


def map_command(case: Case) -> Reading:
    """The whole command, from its start to its end."""
    command = [sys.executable, "-m", "forkful", "map", "bench.workloads:echo", "in.txt", "-o", "out.jsonl", "-j", "2"]
    return _time(case, command)


def map_loop(chunksize: int) -> Callable[[Case], Reading]:
    """A loop over ``multiprocessing.Pool.imap_unordered``."""

    def sample(case: Case) -> Reading:
        return _time(case, [sys.executable, "loop.py", str(chunksize)])

    return sample


def xargs(case: Case) -> Reading:
    """A process for each input, without its Python."""
    return _time(case, ["sh", "-c", "xargs -P 2 -n 1 echo < in.txt > out.jsonl"])


def parallel(case: Case) -> Reading:
    """GNU parallel, with a log of jobs as its ``--resume`` needs it."""
    if shutil.which("parallel") is None:
        raise RuntimeError("GNU parallel is not installed (package `parallel`)")
    return _time(case, ["sh", "-c", "parallel -j 2 --joblog log echo :::: in.txt > out.jsonl"])


def _count_lines(directory: Path) -> int:
    with open(directory / "out.jsonl", "rb") as file:
        return sum(1 for _ in file)


def _time(case: Case, command: Sequence[str]) -> Reading:
    """The wall time of *command* for each of its inputs."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "in.txt").write_text("".join(f"{number}\n" for number in range(case.size)))
        (directory / "loop.py").write_text(LOOP)
        begun = time.perf_counter()
        subprocess.run(
            command, cwd=directory, env={"PYTHONPATH": str(ROOT), "PATH": _path()}, capture_output=True, check=True
        )
        seconds = time.perf_counter() - begun
        assert _count_lines(directory) == case.size
    return Reading(seconds / case.size)


def _path() -> str:
    return f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


MEASURES = (
    Measure(
        "command",
        "`forkful map` for each trivial input",
        "The whole command with two workers, from its start to its end, divided by the number of inputs: reading, naming by "
        "content, handing out, calling, JSON, writing. `loop` is a program that does the same by hand with "
        "`multiprocessing.Pool.imap_unordered`, one input at a time as it does unless told, `loop, chunks of 100` the same "
        "with `chunksize=100`; neither names inputs, survives a crash, or can go on. `xargs -P 2` and `parallel -j 2` "
        "start a process, `echo`, for each input.",
        map_command,
        (Target("at most", 25e-6, 15e-6), Target("times as long", 1.5, 1.0, "loop")),
        size=200_000,
        quick_size=50_000,
        baselines={
            "loop": map_loop(1),
            "loop, chunks of 100": map_loop(100),
            "xargs -P 2": lambda case: xargs(_smaller(case)),
            "parallel -j 2": lambda case: parallel(_smaller(case)),
        },
        only_us="has no command",
        rounds=3,
        watchdog=120.0,
    ),
)


def _smaller(case: Case) -> Case:
    """Of what starts a process for each input, fewer inputs tell as much."""
    return Case(case.contestant, case.size // 200, case.start_method)
