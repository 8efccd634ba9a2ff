"""What the command says of a map, in words."""

from __future__ import annotations

import sys
import time

import pytest

from forkful.apps.mapping import Summary
from forkful.apps.mapping.calls import Failure
from forkful.apps.mapping.inputs import Item
from forkful.apps.mapping.records import Record
from forkful.cli._progress import fit, progress_line, watching
from forkful.cli._report import report, spell_seconds


def summary_of(*records: Record, **facts: object) -> Summary:
    """The summary after *records*, at the end of ten seconds."""
    summary = Summary(processes=2, output="out.jsonl", _begun=0.0, _ended=10.0, **facts)  # type: ignore[arg-type]
    for number, record in enumerate(records):
        summary.add(Item(f"id{number}", f"input {number}", number, "in.txt", number), record)
    return summary


def test_report() -> None:
    """Counts, times, failures by type with an example, slowest inputs."""
    value_error = Failure("ValueError", "bad\nthing")
    records = [
        Record(b"", None, 4.0, None),
        Record(b"", None, 2.0, value_error),
        Record(b"", None, 2.0, value_error),
        Record(b"", None, None, Failure("WorkerDied", "it died")),
    ]
    assert list(report(summary_of(*records))) == [
        "forkful: 4 done in 10.0 s: 1 ok, 3 failed -> out.jsonl",
        "  an input took 2.0 s (p50), 4.0 s (p95); 2 workers 40% busy",
        '  failed       2 x ValueError, such as id1 "input 1": bad thing',
        '  failed       1 x WorkerDied, such as id3 "input 3": it died',
        '  slowest    4.0 s  id0 "input 0"',
        '  slowest    2.0 s  id2 "input 2"',
        '  slowest    2.0 s  id1 "input 1"',
    ]


def test_report_of_nothing() -> None:
    """No inputs: one line, and no division by zero."""
    assert list(report(summary_of())) == ["forkful: 0 done in 10.0 s: 0 ok, 0 failed -> out.jsonl"]


def test_report_of_an_interrupted_map() -> None:
    """The first line says how far it came, and where that is; no other says it again."""
    lines = list(report(summary_of(Record(b"", None, 1.0, None), interrupted=True, total=5)))
    assert lines[0] == "forkful: interrupted after 10.0 s: 1 of 5 done: 1 ok, 0 failed -> out.jsonl"
    assert sum(line.startswith("forkful: ") for line in lines) == 1
    lines = list(report(summary_of(interrupted=True)))
    assert lines == ["forkful: interrupted after 10.0 s: 0 done: 0 ok, 0 failed -> nothing written"]


def test_how_to_go_on() -> None:
    """The command that is named is one that is not refused: --overwrite and --resume are."""
    done, failed = Record(b"", None, 0.0, None), Record(b"", None, 0.0, Failure("ValueError", "bad"))
    rest, again = (
        "  the same command with --resume does the rest",
        "  the same command with --retry-failed tries those again",
    )

    def last(*records: Record, **facts: object) -> str:
        return list(report(summary_of(*records, can_resume=True, **facts)))[-1]

    assert last(done, interrupted=True) == last(halted="now,done=1") == last(interrupted=True) == rest
    assert last(failed) == again
    assert last(done, interrupted=True, overwrites=True) == rest.replace("--resume", "--resume instead of --overwrite")
    assert last(failed, overwrites=True) == again.replace("--retry-failed", "--retry-failed instead of --overwrite")
    assert last(interrupted=True, overwrites=True) == "  out.jsonl is as it was; the same command begins again"


def test_long_examples_are_cut() -> None:
    """An input of a megabyte does not fill the terminal, and the end of the message, what to do, is still there."""
    summary = Summary(processes=1, output="out.jsonl")
    failure = Failure("ValueError", "x" * 100_000 + "; do this")
    summary.add(Item("id", "y" * 100_000, 1, "in.txt", 1), Record(b"", None, 1.0, failure))
    assert all(len(line) < 280 for line in report(summary))
    (line,) = (line for line in report(summary) if line.startswith("  failed"))
    assert line.startswith('  failed       1 x ValueError, such as id "yyy')
    assert line.endswith("xxx; do this")


def test_slowest_inputs() -> None:
    """Only those that are slow; of one that ran out of time, what it took at least."""
    quick, slow = Record(b"", None, 0.009, None), Record(b"", None, 0.5, None)
    assert not any(line.startswith("  slowest") for line in report(summary_of(quick, quick)))
    stuck = Record(b"", None, None, Failure("TaskTimeout", "stopped"), at_least=30.0)
    assert [line for line in report(summary_of(quick, slow, stuck)) if line.startswith("  slowest")] == [
        '  slowest > 30.0 s  id2 "input 2"',
        '  slowest   500 ms  id1 "input 1"',
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0000005, "0 µs"),
        (0.0005, "500 µs"),
        (0.0123, "12 ms"),
        (3.21, "3.2 s"),
        (59.99, "60.0 s"),
        (61, "1 min 1 s"),
        (3725, "1 h 2 min"),
    ],
)
def test_seconds_in_words(seconds: float, text: str) -> None:
    """Each size of time has its unit."""
    assert spell_seconds(seconds) == text


def test_progress_line() -> None:
    """Done, failed, rate, and what is left when the total is known."""
    records = [Record(b"", None, 1.0, None)] * 19 + [Record(b"", None, 1.0, Failure("E", ""))]
    assert progress_line(summary_of(*records)) == "forkful: 20 done, 1 failed, 2.0/s"
    assert progress_line(summary_of(*records, total=60)) == "forkful: 20 of 60 done, 1 failed, 2.0/s, 20.0 s left"
    assert progress_line(summary_of(*records, total=20)) == "forkful: 20 of 20 done, 1 failed, 2.0/s"
    assert progress_line(summary_of(total=60)) == "forkful: 0 of 60 done, 0 failed, 0.0/s"


def test_room_beside_the_bar() -> None:
    """What matters least goes first, and the line is never longer than the terminal; bar and count stay."""
    summary = summary_of(*[Record(b"", None, 1.0, None)] * 1200, total=2400)
    shown = {columns: fit(columns, summary) for columns in range(20, 121)}
    assert shown[120] == (40, "1,200/2,400  0 failed  ETA 10.0 s  2 workers  120/s  10.0 s")
    assert shown[69] == (16, "1,200/2,400  0 failed  ETA 10.0 s  2 workers  120/s  10.0 s"[:-8])
    assert [shown[columns][1] for columns in (56, 45, 35, 24)] == [
        "1,200/2,400  0 failed  ETA 10.0 s  2 workers",
        "1,200/2,400  0 failed  ETA 10.0 s",
        "1,200/2,400  0 failed",
        "1,200/2,400",
    ]
    assert all(width >= 1 and width + 1 + len(text) <= columns for columns, (width, text) in shown.items())
    assert fit(1, summary) == (1, "1,200/2,400")
    assert fit(80, summary_of())[1].startswith("0/?  0 failed  2 workers")


def test_no_progress_where_nobody_looks(capfd: pytest.CaptureFixture[str]) -> None:
    """Without a terminal nothing is shown unless it is asked for."""
    with watching(None, records_on_stdout=False) as watcher:
        assert watcher is None
    with watching(False, records_on_stdout=False) as watcher:
        assert watcher is None
    assert capfd.readouterr() == ("", "")


def test_plain_lines(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on a terminal, a line now and then, also while nothing is done."""
    monkeypatch.setattr("forkful.cli._progress._LINE_EVERY", 0.001)
    with watching(True, records_on_stdout=True) as watcher:
        assert watcher is not None
        watcher(summary_of(Record(b"", None, 1.0, None), total=2))
        deadline = time.monotonic() + 30
        err = ""
        while err.count("\n") < 2 and time.monotonic() < deadline:
            err += capfd.readouterr().err
    assert err.startswith("forkful: 1 of 2 done, 0 failed, 0.1/s, 10.0 s left\n" * 2)


def test_help_does_not_import_rich() -> None:
    """What only a bar needs is not imported for anything else."""
    import subprocess

    program = "import sys, forkful.cli; forkful.cli.main(['map', '--help']); print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "False"
