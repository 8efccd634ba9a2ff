"""What errors tell of a process's end."""

from __future__ import annotations

import os
import pickle
import signal

import pytest

from forkful._core.books import Worker
from forkful._core.journal import DUMP, create_memory, find_dump, open_journals
from forkful._core.steps import Exited
from forkful._core.verdict import explain_company, explain_death, explain_failed_start
from forkful.errors import NO_EVIDENCE, Evidence, InitializerError, WorkerDied

from .bench import call

MB = 10**6
DUMP_TEXT = """\
Fatal Python error: Segmentation fault

Thread 0x00007f1ef12fa6c0 (most recent call first):
  File "/lib/threading.py", line 327 in wait
  File "/lib/threading.py", line 1002 in _bootstrap

Current thread 0x00007f1ef1e78b80 (most recent call first):
  File "/lib/ctypes/__init__.py", line 519 in string_at
  File "/home/me/tasks.py", line 5 in crash
  File "/site/forkful/_core/worker.py", line 290 in _run_call
  File "/site/forkful/_core/worker.py", line 207 in serve

Extension modules: numpy (total: 1)
"""


def message(exitcode: int, evidence: Evidence) -> str:
    """What the error of a task says after the worker's pid."""
    error = WorkerDied.during("task f", 7, exitcode, evidence=evidence)
    assert (error.memory, error.oom, error.dump) == (evidence.memory, evidence.oom, evidence.dump)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))
    head, _, rest = str(error).partition("(pid 7) ")
    assert head == "task f: its worker "
    return rest


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (NO_EVIDENCE, "was killed by SIGKILL; if nobody killed it, the kernel ran out of memory: use fewer processes"),
        (
            Evidence(1_234 * MB, oom=True),
            (
                "was killed by SIGKILL by the kernel's out-of-memory killer (peak memory 1.23 GB); use fewer processes, or "
                "give the program more memory"
            ),
        ),
        (
            Evidence(34_567_890, oom=False),
            "was killed by SIGKILL (peak memory 34.6 MB); somebody killed it, and not the kernel for want of memory",
        ),
        (
            Evidence(800_000),
            (
                "was killed by SIGKILL (peak memory 800 kB); if nobody killed it, the kernel ran out of memory: use fewer "
                "processes"
            ),
        ),
    ],
)
def test_who_killed_it(evidence: Evidence, expected: str) -> None:
    """As far as it is known."""
    assert message(-signal.SIGKILL, evidence) == f"{expected}; retries=1 runs it again"


def test_frames_of_a_crash() -> None:
    """Of the thread that crashed, without our own."""
    assert message(-signal.SIGSEGV, Evidence(34 * MB, dump=DUMP_TEXT)) == (
        "was killed by SIGSEGV:\n"
        "  Fatal Python error: Segmentation fault\n"
        '  File "/lib/ctypes/__init__.py", line 519 in string_at\n'
        '  File "/home/me/tasks.py", line 5 in crash;\n'
        "it crashed outside Python, called from there (`dump` has the whole of it); retries=1 runs it again"
    )


def test_crash_in_an_import() -> None:
    """The import system's own frames are left out."""
    dump = (
        "Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n"
        '  File "/home/me/broken.py", line 3 in <module>\n'
        '  File "<frozen importlib._bootstrap>", line 241 in _call_with_frames_removed\n'
        '  File "/home/me/tasks.py", line 1 in <module>\n'
        '  File "/site/forkful/_core/worker.py", line 104 in get\n'
    )
    lines = message(-signal.SIGABRT, Evidence(dump=dump)).split("\n")
    assert lines[2:-1] == [
        '  File "/home/me/broken.py", line 3 in <module>',
        '  File "/home/me/tasks.py", line 1 in <module>;',
    ]


def test_many_frames_of_a_crash() -> None:
    """Are cut."""
    frames = "".join(f'  File "/home/me/tasks.py", line {line} in f\n' for line in range(100))
    lines = message(
        -signal.SIGABRT, Evidence(dump=f"Fatal Python error: Aborted\n\nCurrent thread 0x1:\n{frames}")
    ).split("\n")
    inner, outer = ([f'  File "/home/me/tasks.py", line {line} in f' for line in r] for r in (range(4), range(98, 100)))
    assert lines[2:-1] == [*inner, "  ...", *outer[:-1], f"{outer[-1]};"]


@pytest.mark.parametrize(
    "dump",
    [
        "Fatal Python error: Bus error\n\n",
        "Fatal Python error: Bus error",
        "Fatal Python error: Bus error\n\nCurrent thr",
    ],
)
def test_crash_without_frames(dump: str) -> None:
    """It may have been cut short by a second crash."""
    assert message(-signal.SIGBUS, Evidence(dump=dump)).startswith(
        "was killed by SIGBUS:\n  Fatal Python error: Bus error;\nit crashed outside Python"
    )


@pytest.mark.parametrize(
    "dump",
    [
        'Thread 0x1 (most recent call first):\n  File "/home/me/tasks.py", line 5 in f\n',
        'Current thread 0x1 (most recent call first):\n  File "/site/forkful/_core/worker.py", line 104 in get\n',
        "\n",
    ],
)
def test_dump_that_says_nothing_of_the_task(dump: str) -> None:
    """Nobody knows which of the threads it was: no colon before nothing."""
    assert Evidence(dump=dump).before("do this") == "; do this"


def test_frames_of_our_programs() -> None:
    """They are as little to the point as the pool's."""
    frames = ["/home/me/tasks.py", "/site/forkful/apps/mapping/calls.py", "/site/forkful/_core/worker.py"]
    dump = "Current thread 0x1:\n" + "".join(f'  File "{frame}", line 1 in f\n' for frame in frames)
    assert Evidence(dump=dump).before("do this") == ':\n  File "/home/me/tasks.py", line 1 in f;\ndo this'


def test_evidence_is_a_value() -> None:
    """Equal when it tells the same."""
    evidence = Evidence(1, oom=True, dump="x")
    assert evidence == Evidence(1, oom=True, dump="x")
    assert hash(evidence) == hash(Evidence(1, oom=True, dump="x"))
    assert evidence != NO_EVIDENCE
    assert evidence != "x"
    assert repr(evidence) == "Evidence(memory=1, oom=True, dump='x')"


def test_verdict_has_the_evidence() -> None:
    """Of a task that ran, and of a worker that was never ready."""
    evidence = Evidence(5 * MB, oom=True)
    exited = Exited(0, -9, [1], 12, evidence)
    error, final = explain_death(Worker(0).seats[0], call("f"), exited, None)
    assert isinstance(error, WorkerDied)
    assert (error.oom, error.memory, final) == (True, 5 * MB, False)
    failed = explain_failed_start(exited)
    assert isinstance(failed, InitializerError)
    assert (failed.pid, failed.exitcode, failed.oom, failed.memory, failed.dump) == (12, -9, True, 5 * MB, "")
    assert str(failed) == (
        "no worker could be started: the last one (pid 12) was killed by SIGKILL by the kernel's out-of-memory killer "
        "(peak memory 5 MB) before it was ready; use fewer processes, or give the program more memory"
    )


# Where it is written.


@pytest.mark.parametrize("pages", [1, 3])
def test_dump_in_the_journal(pages: int) -> None:
    """Up to the first zero byte; what is too long is cut, and touches no record."""
    memory = create_memory(pages)
    journals = open_journals(memory, pages)
    at = find_dump(memory)
    try:
        assert journals[0].read_dump() == ""
        os.pwrite(memory, "Fatal — \udc80".encode("utf-8", "surrogateescape"), at)
        assert journals[0].read_dump() == "Fatal — \ufffd"
        os.pwrite(memory, b"x" * (DUMP + 100), at)
        assert [journal.read_dump() for journal in journals] == ["x" * DUMP] * pages
        for journal in journals:
            journal.data[:] = b"y" * len(journal.data)
        assert journals[0].read_dump() == "x" * DUMP
    finally:
        for journal in journals:
            journal.close()
        os.close(memory)


# Which of several threads it was.


def test_thread_that_crashed() -> None:
    """By its number, where the dump has it."""
    assert Evidence(dump=DUMP_TEXT).crashed_thread() == 0x7F1EF1E78B80
    assert Evidence(dump="Current thread 0x1f [worker] (most recent call first):").crashed_thread() == 0x1F
    for dump in ("", "Fatal Python error: Aborted\n", "Current thread 0x", "Current thread 0x (most"):
        assert Evidence(dump=dump).crashed_thread() is None


def test_others_are_told_which_task_crashed() -> None:
    """And that task that it was it."""
    worker = Worker(0, threads=3)
    tasks = [call("f"), call("g"), call("h")]
    for seat, task in zip(worker.seats, tasks, strict=True):
        seat.sent.append(task)
    exited = Exited(0, -11, [1, 1, 1], 12, Evidence(dump=DUMP_TEXT), crashed=1)
    company = explain_company(worker.seats, exited)
    f, g, h = (explain_death(seat, task, exited, company)[0] for seat, task in zip(worker.seats, tasks, strict=True))
    because = "was killed by SIGSEGV because task g, in another thread of it, crashed; retries=1 runs it again"
    assert str(f) == f"task f: its worker (pid 12) {because}"
    assert str(h) == f"task h: its worker (pid 12) {because}"
    assert str(g).startswith("task g: its worker (pid 12) was killed by SIGSEGV:\n  Fatal Python error")
    errors = [error for error in (f, g, h) if isinstance(error, WorkerDied)]
    assert [error.cause for error in errors] == ["task g", "", "task g"]
    assert [error.dump for error in errors] == [DUMP_TEXT] * 3
