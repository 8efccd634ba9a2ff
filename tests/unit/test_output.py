"""What is kept of what tasks write, and who gets it."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from forkful._core import output
from forkful._core.output import LIMIT, ThreadedOutput, _Bounded, create_file, pack, read, unpack
from forkful.errors import TaskTimeout
from forkful.pool._printed import Printed


@pytest.fixture(params=["memory", "file"])
def fd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """An output file, of both kinds."""
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    made = create_file()
    yield made
    os.close(made)


def test_all_who_write_append(fd: int) -> None:
    """Also after it was emptied."""
    other = os.dup(fd)
    os.write(fd, b"one ")
    os.write(other, b"two ")
    assert read(fd) == b"one two "
    os.ftruncate(fd, 0)
    os.write(other, b"three")
    os.close(other)
    assert read(fd) == b"three"


def test_the_end_is_kept(fd: int) -> None:
    """After a line that says how much is not."""
    os.write(fd, b"a" * 100 + b"b" * LIMIT)
    assert read(fd) == b"[100 bytes left out]\n" + b"b" * LIMIT
    os.ftruncate(fd, 0)
    os.write(fd, b"b" * LIMIT)
    assert read(fd) == b"b" * LIMIT


def test_python_code_is_cut_as_it_writes(fd: int) -> None:
    """The file never holds much more than is kept, and the count is right however often it was cut."""
    stream = io.TextIOWrapper(_Bounded(fd), encoding="utf-8", write_through=True)
    line = "x" * 1023 + "\n"
    most = 0
    for _ in range(10_000):
        stream.write(line)
        most = max(most, os.fstat(fd).st_size)
    assert most < 4 * LIMIT
    kept = read(fd)
    first, _, rest = kept.partition(b"\n")
    left_out = int(first.removeprefix(b"[").partition(b" ")[0])
    assert left_out + len(rest) == 10_000 * 1024
    assert LIMIT <= len(rest) < 3 * LIMIT
    stream.detach()


def test_bytes_that_are_no_text() -> None:
    """They do not get in the way."""
    assert unpack(pack(b"\xff\xe4b", "ä".encode())) == ("\N{REPLACEMENT CHARACTER}" * 2 + "b", "ä")


# By thread.


def test_each_thread_its_own() -> None:
    """What other threads write goes where it did before."""
    real = io.StringIO()
    kept = ThreadedOutput()
    taken: dict[str, bytes] = {}

    def work(name: str) -> None:
        kept.begin()
        assert kept.take() == b""
        print(name)
        print(name, file=sys.stderr)
        sys.stdout.flush()
        taken[name] = kept.take()
        assert kept.take() == b""

    with contextlib.redirect_stdout(real), contextlib.redirect_stderr(io.StringIO()):
        kept.start()
        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("nobody's")
        assert sys.stdout.writable()
        assert sys.stdout.encoding == "utf-8"
        kept.stop()
        print("after")
    assert real.getvalue() == "nobody's\nafter\n"
    assert {name: unpack(content) for name, content in taken.items()} == {
        name: (f"{name}\n", f"{name}\n") for name in "ab"
    }


def test_by_thread_the_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a file."""
    monkeypatch.setattr(output, "LIMIT", 5)
    kept = ThreadedOutput()
    kept.start()
    kept.begin()
    try:
        print("a" * 10, end="")
    finally:
        kept.stop()
    assert unpack(kept.take()) == ("[5 bytes left out]\naaaaa", "")


# Who gets it.


def test_of_each_element() -> None:
    """Put together within an attempt; a new attempt begins anew."""
    printed = Printed()
    printed.add(3, 0, "a", "")
    printed.add(3, 0, "b", "c")
    assert printed.of(3) == ("ab", "c")
    printed.add(3, 1, "d", "")
    assert printed.of(3) == ("d", "")
    assert printed.of(4) == ("", "")
    printed.drop(3)
    printed.drop(3)
    assert printed.of(3) == ("", "")


class Frozen(Exception):
    """Takes no attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


def test_on_the_error() -> None:
    """Where it takes attributes, and has none of that name."""
    printed = Printed()
    printed.add(0, 0, "out", "err")
    for error in (ValueError(), TaskTimeout("late"), subprocess.CalledProcessError(1, "x")):
        printed.attach(0, error)
        assert (getattr(error, "stdout", None), getattr(error, "stderr", None)) == ("out", "err")
    own = subprocess.CalledProcessError(1, "x", output="own")
    printed.attach(0, own)
    assert (own.stdout, own.stderr) == ("own", "err")
    frozen = Frozen()
    printed.attach(0, frozen)
    assert not hasattr(frozen, "stdout")
