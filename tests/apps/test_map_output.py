"""Where records go: whole lines or none."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkful.apps.mapping.output import Output, check_output
from forkful.apps.mapping.sources import find_sources
from forkful.apps.problems import JobStopped, OutputClosed, UsageProblem


def test_lines_are_written_at_once(tmp_path: Path) -> None:
    """A line is in the file when write() returns, and an older content is not."""
    path = tmp_path / "out.jsonl"
    path.write_text("old and longer\n")
    with Output(str(path), overwrite=True) as output:
        output.write(b"1\n")
        assert path.read_bytes() == b"1\n"
        output.write(b"2\n")
    assert path.read_bytes() == b"1\n2\n"


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk with room for *size* bytes a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("before", [b"", b"what was there\n"])
def test_full_disk_leaves_no_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes) -> None:
    """The line that does not fit is taken back whole, also from a file that is appended to."""
    path = tmp_path / "out.jsonl"
    path.write_bytes(before)
    if before:  # as in `forkful map … >> out.jsonl`
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        monkeypatch.setattr("forkful.apps.mapping.output._STDOUT", fd)
        output = Output(None)
    else:
        output = Output(str(path))
        fd = output._fd
    with file_size_limit(25):
        output.write(b"12345\n")
        with pytest.raises(JobStopped, match="File too large; what it holds is whole"):
            output.write(b"1234567890123456789\n")
    os.close(fd)
    assert path.read_bytes() == before + b"12345\n"


def test_device_that_is_full() -> None:
    """What cannot be cut is not cut."""
    with Output("/dev/full") as output, pytest.raises(JobStopped, match="No space left on device"):
        output.write(b"1\n")


def test_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that went away has an error of its own: it is nobody's fault."""
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr("forkful.apps.mapping.output._STDOUT", writer)
    with Output(None) as output, pytest.raises(OutputClosed):
        output.write(b"1\n")
    os.close(writer)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("in.txt", "in.txt: is an input too; write the records elsewhere"),
        (".", ".: is a directory; name a file in it, such as ./out.jsonl"),
        ("no/out.jsonl", "no/out.jsonl: there is no directory no; make it first"),
        ("in.txt/out.jsonl", "in.txt/out.jsonl: cannot be written: Not a directory; choose another place"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str) -> None:
    """Each mistake has its own line, and nothing is changed."""
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("x\n")
    with pytest.raises(UsageProblem) as raised:
        check_output(path, find_sources(["in.txt"]))
    assert str(raised.value) == message
    assert os.listdir() == ["in.txt"]
    assert Path("in.txt").read_text() == "x\n"


def test_output_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or directory that may not be written is found before anything starts."""
    (tmp_path / "old.jsonl").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    for name in ("new.jsonl", "old.jsonl"):
        with pytest.raises(UsageProblem, match=r"cannot be written.*; change its mode, or choose another"):
            check_output(str(tmp_path / name), [])


def test_output_that_cannot_be_made() -> None:
    """What only an attempt can tell is a usage problem too: nothing was started yet."""
    with pytest.raises(UsageProblem, match=r"/proc/out.jsonl: cannot be written: "):
        Output("/proc/out.jsonl")


def test_outputs_that_can_be(tmp_path: Path) -> None:
    """A new file, an old one, a device: all fine, and none is touched by the check."""
    (tmp_path / "old").write_text("{}\n")
    for path in ("new", "old", "/dev/null"):
        check_output(str(tmp_path / path), [])
    check_output(None, [])
    assert os.listdir(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "{}\n"


def test_output_that_holds_something(tmp_path: Path) -> None:
    """It is refused, and left alone; an empty file is as good as none."""
    path = tmp_path / "out.jsonl"
    path.write_text("{}\n")
    with pytest.raises(
        UsageProblem, match=r"out\.jsonl: is not empty; go on with it by --resume, replace it by --overwrite"
    ):
        Output(str(path))
    assert path.read_text() == "{}\n"
    path.write_text("")
    with Output(str(path)) as output:
        output.write(b"1\n")
    assert path.read_text() == "1\n"


def test_a_run_that_writes_nothing_changes_nothing(tmp_path: Path) -> None:
    """What was there stays until the first line; a file that was made for the run is removed."""
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text("old\n")
    (tmp_path / "link").symlink_to("new.jsonl")
    for name in ("old.jsonl", "new.jsonl", "link"):
        with Output(str(tmp_path / name), overwrite=True):
            pass
    assert sorted(os.listdir(tmp_path)) == ["link", "old.jsonl"]
    assert old.read_text() == "old\n"
    for path in (old, new):
        with Output(str(path), overwrite=True) as output:
            output.complete()
        assert path.read_bytes() == b""


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """A second run into the same file is refused, whether there is something in it yet or not."""
    path = str(tmp_path / "out.jsonl")
    for line in (b"", b"1\n"):
        with Output(path, overwrite=True) as output:
            output.write(line)
            for overwrite in (False, True):
                with pytest.raises(UsageProblem, match=r"another run is writing to it; wait for its end"):
                    Output(path, overwrite=overwrite)
    assert Path(path).read_bytes() == b"1\n"


def test_file_that_is_removed_while_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on what no longer has the name protects nothing: the file that has it now is taken."""
    path = tmp_path / "out.jsonl"
    lock, removals = fcntl.flock, iter([None])

    def remove_and_lock(fd: int, operation: int) -> None:
        for _ in removals:
            path.unlink()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", remove_and_lock)
    with Output(str(path)) as output:
        output.write(b"1\n")
    assert path.read_bytes() == b"1\n"
    assert next(removals, "all used") == "all used"


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There it is written all the same."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Output(str(tmp_path / "out.jsonl")) as output:
        output.write(b"1\n")
    assert (tmp_path / "out.jsonl").read_bytes() == b"1\n"


def test_file_that_is_emptied_meanwhile(tmp_path: Path) -> None:
    """`: > out` during a run leaves no hole of zero bytes in front of what follows."""
    path = tmp_path / "out.jsonl"
    with Output(str(path)) as output:
        output.write(b"1\n")
        os.truncate(path, 0)
        output.write(b"2\n")
    assert path.read_bytes() == b"2\n"


def test_lines_of_others_are_not_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another program appends to the same file, a line that fails may stay torn; none of the other's is cut."""
    path = tmp_path / "all.jsonl"
    write = os.write

    def write_a_part(fd: int, data: memoryview) -> int:
        write(fd, data[:3])
        with open(path, "ab") as other:
            other.write(b"other's\n")
        raise OSError(errno.ENOSPC, "No space left on device")

    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    monkeypatch.setattr("forkful.apps.mapping.output._STDOUT", fd)
    with monkeypatch.context() as patch, Output(None) as output, pytest.raises(JobStopped):
        patch.setattr(os, "write", write_a_part)
        output.write(b"12345\n")
    os.close(fd)
    assert path.read_bytes() == b"123other's\n"
