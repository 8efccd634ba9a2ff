"""Where records go: whole lines or none."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkful.apps.mapping.inputs import find_sources
from forkful.apps.mapping.output import Output, check_output
from forkful.apps.problems import JobStopped, OutputClosed, UsageProblem


def test_lines_are_written_at_once(tmp_path: Path) -> None:
    """A line is in the file when write() returns, and an older content is not."""
    path = tmp_path / "out.jsonl"
    path.write_text("old and longer\n")
    with Output(str(path)) as output:
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
        ("full.jsonl", "full.jsonl: has records in it already; remove it, or say --overwrite"),
        ("in.txt", "in.txt: is an input too; write the records elsewhere"),
        (".", ".: is a directory; name a file in it, such as ./out.jsonl"),
        ("no/out.jsonl", "no/out.jsonl: there is no directory no; make it first"),
        ("in.txt/out.jsonl", "in.txt/out.jsonl: cannot be written: Not a directory; choose another place"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str) -> None:
    """Each mistake has its own line, and nothing is changed."""
    monkeypatch.chdir(tmp_path)
    Path("full.jsonl").write_text("{}\n")
    Path("in.txt").write_text("x\n")
    with pytest.raises(UsageProblem) as raised:
        check_output(path, find_sources(["in.txt"]), overwrite=path == "in.txt")
    assert str(raised.value) == message
    assert sorted(os.listdir()) == ["full.jsonl", "in.txt"]
    assert Path("full.jsonl").read_text() == "{}\n"


def test_output_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or directory that may not be written is found before anything starts."""
    (tmp_path / "old.jsonl").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    for name in ("new.jsonl", "old.jsonl"):
        with pytest.raises(UsageProblem, match=r"cannot be written.*; change its mode, or choose another"):
            check_output(str(tmp_path / name), [], overwrite=False)


def test_output_that_cannot_be_made() -> None:
    """What only an attempt can tell is a usage problem too: nothing was started yet."""
    with pytest.raises(UsageProblem, match=r"/proc/out.jsonl: cannot be written: "):
        Output("/proc/out.jsonl")


def test_outputs_that_can_be(tmp_path: Path) -> None:
    """A new file, an empty one, a device, one to overwrite: all fine, and none is touched by the check."""
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_text("{}\n")
    for path, overwrite in [("new", False), ("empty", False), ("full", True), ("/dev/null", False)]:
        check_output(str(tmp_path / path), [], overwrite=overwrite)
    check_output(None, [], overwrite=False)
    assert sorted(os.listdir(tmp_path)) == ["empty", "full"]
    assert (tmp_path / "full").read_text() == "{}\n"
