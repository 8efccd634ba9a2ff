"""A file that many change: each change whole or not at all, whoever dies, and none of them lost."""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import errno
import json
import os
import pickle
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from forkful.errors import DeadlockError, LockError, LockLost
from forkful.locks import SharedFile, SharedJSON, _json_text, _shared_file

from .support import end_of, forked, run


@pytest.fixture(autouse=True)
def _own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of locks go where nobody else's are."""
    folder = tmp_path_factory.mktemp("locks")
    folder.chmod(0o700)
    monkeypatch.setenv("FORKFUL_LOCK_DIR", str(folder))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the classroom, in a directory of its own."""
    path = tmp_path / "a.txt"
    path.write_text('{"count": 1}')
    return path


def beside(path: Path) -> list[str]:
    """What else is in its directory, but for the lock."""
    return sorted(set(os.listdir(path.parent)) - {path.name, f".{path.name}.lock"})


def program(text: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """An unrelated program."""
    command = [*prefix, sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# What a block does.


def test_block_changes_the_file(path: Path) -> None:
    with SharedJSON(path) as doc:
        doc["count"] -= 1
    assert path.read_text() == '{"count": 0}'
    assert beside(path) == []


def test_exception_leaves_the_file(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), SharedJSON(path) as doc:
        doc["count"] = 1 / 0
    assert path.read_text() == '{"count": 1}'
    with SharedJSON(path, timeout=0) as doc:  # and gives the lock back
        assert doc == {"count": 1}


def test_unchanged_content_is_not_rewritten(path: Path) -> None:
    """However it is laid out."""
    path.write_text('{ "count":1,\n\t"x" : [ ] }')
    before = path.stat()
    with SharedJSON(path) as doc:
        doc["count"] += 1
        doc["count"] -= 1
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', '{"a": 2}'),
        ('{"a":1,"b":[1,2]}\n', '{"a":2,"b":[1,2]}\n'),
        ('{\n  "a": 1,\n  "b": [\n    1\n  ]\n}\n', '{\n  "a": 2,\n  "b": [\n    1\n  ]\n}\n'),
        ('{\n\t"a": 1\n}', '{\n\t"a": 2\n}'),
        ('{\r\n    "a": 1\r\n}\r\n', '{\r\n    "a": 2\r\n}\r\n'),
        ('{"a": 1}\n\n\n', '{"a": 2}\n\n\n'),
        ('{"a":1,"b":"x, y: z"}', '{"a":2,"b":"x, y: z"}'),
        ('{"a":1,"b":"\\"x, y: z\\\\"}', '{"a":2,"b":"\\"x, y: z\\\\"}'),
        ('{"a": 1, "b": "C:\\\\users", "é": 1}', '{"a": 2, "b": "C:\\\\users", "é": 1}'),
        ('{"a": 1, "é": "ß"}', '{"a": 2, "é": "ß"}'),
        ('{"a": 1, "x": "\\u00e9"}', '{"a": 2, "x": "\\u00e9"}'),
        ('{"a": 1, "x": "é\\ud800"}', '{"a": 2, "x": "\\u00e9\\ud800"}'),
        ('\ufeff{"a": 1}', '\ufeff{"a": 2}'),
    ],
)
def test_layout_is_kept(path: Path, text: str, expected: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
    with SharedJSON(path) as doc:
        doc["a"] += 1
    assert path.read_bytes().decode() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"p": "C:\\\\users"}', '{"p": "C:\\\\users", "é": 1}'),
        ('{"p": "\\u0007"}', '{"p": "\\u0007", "é": 1}'),
        ('{"p": "\\u00e8"}', '{"p": "\\u00e8", "\\u00e9": 1}'),
    ],
)
def test_new_letters_are_written_as_those_that_were_there(path: Path, text: str, expected: str) -> None:
    path.write_text(text)
    with SharedJSON(path) as doc:
        doc["é"] = 1
    assert path.read_bytes().decode() == expected


def test_empty_document_gets_the_usual_layout(path: Path) -> None:
    path.write_text("{}\n")
    with SharedJSON(path) as doc:
        doc["a"] = 1
    assert path.read_text() == '{\n  "a": 1\n}\n'


@pytest.mark.parametrize(("text", "expected"), [("1", 2), ("1\n", 2), ('"a"', "ab"), ("null", None), ("[1]", [1, 2])])
def test_documents_that_are_no_dict(path: Path, text: str, expected: Any) -> None:
    """A list changes in place; what cannot, by way of `value`."""
    path.write_text(text)
    shared = SharedJSON(path)
    with shared as doc:
        assert shared.value == doc
        if isinstance(doc, list):
            doc.append(2)
        elif isinstance(doc, str):
            shared.value += "b"
        elif doc is not None:
            shared.value += 1
    assert shared.read() == expected
    assert path.read_text().endswith("\n") == text.endswith("\n")


def test_value_belongs_to_the_block(path: Path) -> None:
    shared = SharedJSON(path)
    with pytest.raises(RuntimeError, match="only inside a `with` block"):
        _ = shared.value
    with shared:
        shared.value = ["another"]
    with pytest.raises(RuntimeError, match="only inside a `with` block"):
        shared.value = 1
    assert shared.read() == ["another"]


def test_default_begins_a_file(tmp_path: Path) -> None:
    """Each time with a copy of it; also when the block changes nothing."""
    default: dict[str, list[int]] = {"sold": []}
    for name in ("one", "two"):
        shared = SharedJSON(tmp_path / name, default=default)
        assert shared.read() == {"sold": []}
        assert not (tmp_path / name).exists()
        with shared as doc:
            doc["sold"].append(1)
        assert (tmp_path / name).read_text() == '{\n  "sold": [\n    1\n  ]\n}\n'
    with SharedJSON(tmp_path / "three", default=None):
        pass
    assert (tmp_path / "three").read_text() == "null\n"


def test_bytes_and_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\n")
    raw = SharedFile(path)
    with raw as content:
        raw.value = content + b"b\n"
    lines = SharedFile(path, load=bytes.splitlines, dump=b"\n".join)
    with lines as found:
        found.append(b"c")
    assert (raw.read(), lines.read()) == (b"a\nb\nc", [b"a", b"b", b"c"])
    with pytest.raises(TypeError, match=r"lines was left as it is: the value is a str; it must be bytes"), raw:
        raw.value = "text"
    bad = SharedFile(path, load=bytes.decode, dump=str)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="what dump returned is a str"), bad:
        pass
    with pytest.raises(TypeError, match="belong together"):
        SharedFile(path, load=bytes.decode)
    assert raw.read() == b"a\nb\nc"


def test_it_is_a_value(path: Path) -> None:
    """What is held does not travel."""
    shared = SharedJSON(path, default={"a": 1}, timeout=5)
    with shared:
        copy = pickle.loads(pickle.dumps(shared))
        with pytest.raises(RuntimeError):
            _ = copy.value
    with copy as doc:
        doc["count"] += 1
    assert shared.read() == {"count": 2}
    assert pickle.loads(pickle.dumps(SharedJSON(path)))._default is _shared_file.MISSING


def test_mode_and_owner_are_kept(path: Path) -> None:
    path.chmod(0o4664)
    owner = (12345, 54321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(path, *owner)
    path.chmod(0o4664)
    with contextlib.suppress(OSError):  # not every file system has them
        os.setxattr(path, "user.origin", b"here")
    names = os.listxattr(path)
    with SharedJSON(path) as doc:
        doc["count"] = 5
    after = path.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o4664, *owner)
    assert os.listxattr(path) == names
    assert stat.S_IMODE((path.parent / ".a.txt.lock").stat().st_mode) == 0o664  # for whoever may write the file


def test_await_in_a_block(path: Path) -> None:
    """Whoever would stop the loop for ever is told instead."""

    async def main() -> None:
        entered, told = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            with SharedJSON(path) as doc:
                entered.set()
                await told.wait()
                doc["count"] += 1

        holder = asyncio.create_task(hold())
        await entered.wait()
        with pytest.raises(DeadlockError, match="another task of the event loop"), SharedJSON(path):
            pass
        told.set()
        await holder

    asyncio.run(main())
    assert path.read_text() == '{"count": 2}'


# Where the lock is.


def test_spellings_of_one_file(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to its directory, a link to the file, a relative path: one lock, and the links stay links."""
    (tmp_path / "door").symlink_to(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    spellings = [SharedJSON(path), SharedJSON("a.txt"), SharedJSON("door/a.txt"), SharedJSON(Path("elsewhere/link"))]
    monkeypatch.chdir("elsewhere")
    for outer in spellings:
        with outer as doc:
            doc["count"] += 1
            for inner in spellings:
                with pytest.raises(DeadlockError), inner:
                    pass
    assert json.loads(path.read_text()) == {"count": 5}
    assert os.readlink("link") == str(path)
    assert os.listdir() == ["link"]


def test_link_to_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    with SharedJSON(tmp_path / "link", default=1):
        pass
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "1\n"


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "-n", " ", "~", "a\nb"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    with SharedJSON(tmp_path / name, default=1):
        pass
    with SharedJSON(tmp_path / name) as doc:
        assert doc == 1
    assert len(os.listdir(tmp_path)) == 2


def test_nested_in_one_thread(path: Path) -> None:
    """At once, though other threads run."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with SharedJSON(path) as doc:
            with pytest.raises(DeadlockError, match="is open in this thread already"), SharedJSON(path):
                pass
            doc["count"] = 7
        assert SharedJSON(path).read() == {"count": 7}
    finally:
        stop.set()
        thread.join()


def test_flock_excludes_us(path: Path) -> None:
    command = ["flock", ".a.txt.lock", "sh", "-c", "echo locked; read _"]
    with subprocess.Popen(command, cwd=path.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(TimeoutError, match=rf"a.txt was not free within 0 s: pid {holder.pid} \(flock"):
            SharedJSON(path, timeout=0).__enter__()
        with pytest.raises(LockError):
            SharedJSON(path, timeout=0.01).__enter__()
        assert SharedJSON(path).read() == {"count": 1}  # who only reads need not wait
        holder.communicate(b"\n")
    with SharedJSON(path):
        pass


def test_we_exclude_flock(path: Path) -> None:
    command = ["flock", "--nonblock", ".a.txt.lock", "true"]
    with SharedJSON(path):
        assert subprocess.run(command, cwd=path.parent, check=False).returncode == 1
    assert subprocess.run(command, cwd=path.parent, check=False).returncode == 0


INCREMENT = """
import os, sys, threading
from forkful.locks import SharedJSON
def work():
    for _ in range(20):
        with SharedJSON(sys.argv[1]) as doc:
            doc["count"] += 1
child = os.fork()
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if not child: os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_threads_children_and_programs_exclude_each_other(path: Path) -> None:
    programs = [program(INCREMENT, path) for _ in range(2)]
    ends = [(running.communicate()[1], running.returncode) for running in programs]
    assert ends == [("", 0)] * 2
    assert SharedJSON(path).read() == {"count": 1 + 2 * 2 * 2 * 20}
    assert beside(path) == []


def test_reader_sees_whole_files_only(path: Path) -> None:
    path.write_text('["a"]')

    def write() -> None:
        for letter in "bcdefgh" * 10:
            with SharedJSON(path) as doc:
                doc[:] = [letter] * 5000

    with forked(write) as pid:
        seen = 0
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            assert len(set(SharedJSON(path).read())) == 1
            seen += 1
        assert end_of(pid) == 0
    assert seen


def test_forked_child_does_not_end_its_parents_block(path: Path) -> None:
    def leave(shared: SharedJSON) -> None:
        with pytest.raises(LockError, match="a child that was forked inside the block must not end it"):
            shared.__exit__(None, None, None)
        shared.__exit__(ValueError, ValueError(), None)

    shared = SharedJSON(path)
    with shared as doc:
        doc["count"] = 2
        assert run(lambda: leave(shared)) == 0
        assert path.read_text() == '{"count": 1}'
        command = ["flock", "--nonblock", ".a.txt.lock", "true"]
        assert subprocess.run(command, cwd=path.parent, check=False).returncode == 1
    assert shared.read() == {"count": 2}


# Deaths.


@pytest.mark.parametrize("step", ["write", "fchmod", "fsync", "replace", "done"])
def test_killed_at_each_step(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The file has the old content or, once it is in its place, the new; the next writer removes what was left."""
    with SharedJSON(path) as doc:
        doc["count"] = 10
    replace = os.replace

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def replace_and_die(*names: str) -> None:
        replace(*names)
        die()

    def change() -> None:
        with SharedJSON(path) as doc:
            doc["count"] += 1
            monkeypatch.setattr(os, *(("replace", replace_and_die) if done else (step, die)))

    done = step == "done"
    (path.parent / ".a.txt.new").write_text("somebody's")
    (path.parent / ".a.txt.0.new").write_text("somebody's")
    assert run(change) == -signal.SIGKILL
    assert SharedJSON(path).read() == {"count": 11 if done else 10}
    assert len(beside(path)) == 2 + (not done)
    (path.parent / ".a.txt.lock").write_bytes(b"")  # as by ``9>.a.txt.lock`` in a shell
    with SharedJSON(path, timeout=0) as doc:
        doc["count"] += 1
    assert SharedJSON(path).read() == {"count": 12 if done else 11}
    assert beside(path) == [".a.txt.0.new", ".a.txt.new"]


def test_killed_at_any_moment(path: Path) -> None:
    """Sixty deaths: the file is always whole, and no completed change is lost."""
    chance = random.Random(7)
    shared = SharedJSON(path)

    def count(out: int) -> None:
        while True:
            with shared as doc:
                doc["count"] += 1
            os.write(out, b".")

    done = 1
    for _ in range(60):
        source, out = os.pipe()
        with forked(lambda out=out: count(out)) as pid:  # type: ignore[misc]
            os.close(out)
            done += len(os.read(source, 1))
            time.sleep(chance.random() / 500)  # not for something to happen: so that the moment is any
            os.kill(pid, signal.SIGKILL)
            assert end_of(pid) == -signal.SIGKILL
        while dots := os.read(source, 1000):
            done += len(dots)
        os.close(source)
        found = json.loads(path.read_text())["count"]
        assert found in {done, done + 1}  # the last may have been killed before it could say so
        done = found
    with shared as doc:
        doc["count"] += 1
    assert beside(path) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_no_error_once_it_is_done(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Whoever was told of one would do it again.  And a directory may be written though it may not be read."""
    opened, synced = os.open, os.fsync

    def may_not_read(name: str, *arguments: int, **options: int) -> int:
        if os.path.isdir(name) and number == errno.EACCES:
            raise PermissionError(number, os.strerror(number))
        return opened(name, *arguments, **options)

    def fail_for_directories(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        synced(fd)

    monkeypatch.setattr(os, "open", may_not_read)
    monkeypatch.setattr(os, "fsync", fail_for_directories)
    with SharedJSON(path) as doc:
        doc["count"] += 1
    assert path.read_text() == '{"count": 2}'


def test_directory_that_cannot_be_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is found out before anything is written."""
    opened = os.open

    def fail_for_directories(name: str, *arguments: int, **options: int) -> int:
        if os.path.isdir(name):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opened(name, *arguments, **options)

    with pytest.raises(OSError, match="Too many open files; the file is as it was"), SharedJSON(path) as doc:
        doc["count"] += 1
        monkeypatch.setattr(os, "open", fail_for_directories)
    assert path.read_text() == '{"count": 1}'
    assert beside(path) == []


# What can be wrong.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n  "a": 1,\n  "b" 2\n}', r"Expecting ':' delimiter: line 3 column 7 \(char 18\)"),
        (b"", r"Expecting value: line 1 column 1 \(char 0\)"),
        (b'{"a": 1}\n{"a": 2}\n', "Extra data: line 2 column 1"),
        (b'{\n"a": "\xff"}', "line 2 column 7"),
        (b'{"NaN":\n"\\"NaN", "b":\nNaN}', "NaN on line 3; write null"),
        (b'{"-Infinity":\n-Infinity}', "-Infinity on line 2; write null"),
        (b'{"1e999":\n1e999}', "1e999 on line 2; write null"),
    ],
)
def test_broken_json(path: Path, content: bytes, message: str) -> None:
    """The message names the file, the line and the column; the file stays."""
    path.write_bytes(content)
    for attempt in (SharedJSON(path).read, SharedJSON(path).__enter__):
        with pytest.raises(ValueError, match=rf"a\.txt is not (JSON|UTF-8), so it was left as it is: {message}"):
            attempt()
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' is there twice in one object; remove one of them"),
        (b"9" * 5000, "Exceeds the limit .4300 digits."),
        (b"[" * 20_000 + b"]" * 20_000, "its lists and dicts are nested too deeply for Python; make it flatter"),
    ],
)
def test_json_that_cannot_be_changed(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    for attempt in (SharedJSON(path).read, SharedJSON(path).__enter__):
        with pytest.raises(ValueError, match=rf"a\.txt was left as it is: {message}"):
            attempt()
    assert path.read_bytes() == content


def test_what_cannot_be_written(path: Path) -> None:
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    for value, message in ((10**5000, "Exceeds the limit"), (deep, "nested too deeply")):
        with pytest.raises(ValueError, match=message), SharedJSON(path) as doc:
            doc["a"] = value
    assert path.read_text() == '{"count": 1}'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, r"doc\['a'\]\[1\] is a set, which is not JSON; make it"),
        (b"x", r"doc\['a'\]\[1\] is a bytes"),
        ({"b": {"c": object()}}, r"doc\['a'\]\[1\]\['b'\]\['c'\] is a object"),
        ({3: 1}, r"doc\['a'\]\[1\] has the key 3, which is not a str; write '3'"),
        (float("nan"), r"doc\['a'\]\[1\] is nan, which is not JSON"),
        ({"k" * 90: 1j}, r"doc\['a'\]\[1\]\['k{38}…\] is a complex"),
    ],
)
def test_what_is_no_json(path: Path, value: object, message: str) -> None:
    with pytest.raises(TypeError, match=rf"a\.txt was left as it is: {message}"), SharedJSON(path) as doc:
        doc["a"] = [0, value]
    assert path.read_text() == '{"count": 1}'
    assert beside(path) == []


def test_document_that_holds_itself(path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.txt was left as it is: Circular"), SharedJSON(path) as doc:
        doc["self"] = doc
    assert path.read_text() == '{"count": 1}'


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, kind, message in [
        ("", IsADirectoryError, "is a directory; name a file in it"),
        ("pipe", OSError, "is not a regular file"),
        ("loop", OSError, "symbolic links"),
        ("missing", FileNotFoundError, "there is no such file; make it, or say default="),
        ("no/where", FileNotFoundError, "there is no (directory .*/no; make it first|such file)"),
    ]:
        for attempt in (SharedJSON(tmp_path / name).__enter__, SharedJSON(tmp_path / name).read):
            with pytest.raises(kind, match=message):
                attempt()
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        SharedJSON(tmp_path / "no" / "where", default={}).__enter__()
    assert sorted(os.listdir(tmp_path)) == ["loop", "pipe"]
    for error, what, wrong in [
        (TypeError, "a file is named by a str or a Path, not by b'bytes'", b"bytes"),
        (TypeError, "a file is named by a str or a Path, not by None", None),
        (TypeError, "a file is named by a str or a Path, not by 5", 5),
        (ValueError, "a file's name must not be empty", ""),
        (ValueError, "nor hold a null character: 'a", "a\0b"),
    ]:
        with pytest.raises(error, match=what):
            SharedJSON(wrong)  # type: ignore[arg-type]


TRY = """
import sys
from forkful.locks import SharedJSON
print(SharedJSON(sys.argv[1]).read())
with SharedJSON(sys.argv[1]) as doc:
    doc["count"] = 2
"""
# Root may do anything, unless it has given that up.
PLAIN = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


@pytest.mark.skipif(bool(PLAIN) and shutil.which("setpriv") is None, reason="root without setpriv may do anything")
@pytest.mark.parametrize(
    ("which", "mode", "message"),
    [
        ("file", 0o444, "PermissionError: [Errno 13] it may not be written; read() does not need to: "),
        ("directory", 0o555, "PermissionError: [Errno 13] its directory may not be written, where "),
        ("file", 0o200, "PermissionError: [Errno 13] Permission denied: "),
    ],
)
def test_no_permission(path: Path, which: str, mode: int, message: str) -> None:
    """A file that may not be written is not replaced, either."""
    place = path if which == "file" else path.parent
    before = place.stat().st_mode
    place.chmod(mode)
    out, err = program(TRY, path, prefix=PLAIN).communicate()
    place.chmod(before)
    assert message in err.splitlines()[-1]
    assert out == ("" if mode == 0o200 else "{'count': 1}\n")
    assert path.read_text() == '{"count": 1}'
    assert beside(path) == []


FILL = """
import os, resource, sys
from forkful.locks import SharedJSON
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
with SharedJSON(sys.argv[1]) as doc:
    doc["count"] = 2
try:
    with SharedJSON(sys.argv[1]) as doc:
        doc["more"] = "x" * 100_000
except OSError as error:
    print(error)
print(len(os.listdir(os.path.dirname(sys.argv[1]))))
with SharedJSON(sys.argv[1], timeout=0) as doc:
    doc["count"] += 1
"""


def test_full_disk(path: Path) -> None:
    """No file may grow beyond 8 kB here: the old content stays, what was begun is removed, the lock is given back."""
    running = program(FILL, path)
    assert running.communicate() == (f"[Errno 27] File too large; the file is as it was: '{path}'\n2\n", "")
    assert path.read_text() == '{"count": 3}'
    assert beside(path) == []


@pytest.mark.parametrize("again", [False, True])
def test_lock_file_that_is_taken_away(path: Path, again: bool) -> None:
    """Others may have changed the file meanwhile: it is not overwritten."""
    guard = path.parent / ".a.txt.lock"
    with pytest.raises(LockLost) as caught, SharedJSON(path) as doc:
        doc["count"] = 2
        guard.unlink()
        if again:
            guard.touch()
    assert "was not written" in str(caught.value)
    assert path.read_text() == '{"count": 1}'
    with SharedJSON(path) as doc:
        doc["count"] = 3
    assert SharedJSON(path).read() == {"count": 3}


def test_directory_that_is_moved(path: Path) -> None:
    with pytest.raises(LockLost, match="was not written"), SharedJSON(path) as doc:
        doc["count"] = 2
        path.parent.rename(path.parent.with_name("elsewhere"))


def test_lock_file_that_is_taken_away_in_the_last_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the new content is written."""
    guard = path.parent / ".a.txt.lock"
    with pytest.raises(LockLost) as caught, SharedJSON(path) as doc:
        doc["count"] = 2
        monkeypatch.setattr(os, "fsync", lambda _: guard.unlink())
    assert "was not written" in str(caught.value)
    assert path.read_text() == '{"count": 1}'
    assert beside(path) == []


def test_content_of_the_lock_file_is_nothing_to_us(path: Path) -> None:
    guard = path.parent / ".a.txt.lock"
    guard.write_text("somebody's notes\n")
    with SharedJSON(path) as doc:
        doc["count"] = 2
    assert (path.read_text(), guard.read_text()) == ('{"count": 2}', "somebody's notes\n")


@pytest.mark.parametrize("module", [_shared_file, _json_text])
def test_examples_in_docstrings(module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    outcome = doctest.testmod(module)
    assert outcome.attempted
    assert not outcome.failed
