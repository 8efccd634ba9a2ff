"""Files, patterns and pipes as streams of inputs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkful.apps.mapping.identity import Identities
from forkful.apps.mapping.inputs import Item, Unreadable, count_inputs, decode, read_items, show
from forkful.apps.mapping.sources import find_sources
from forkful.apps.problems import JobStopped, UsageProblem


@pytest.fixture
def items_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Item]]:
    """Writes files (name to bytes) into an empty directory, goes there, and reads the inputs that names stand for."""
    monkeypatch.chdir(tmp_path)

    def read(files: dict[str, bytes], *names: str) -> list[Item]:
        for name, data in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        return list(read_items(find_sources(names or list(files))))

    return read


Reader = Callable[..., list[Item]]


def value_of(item: Item) -> Any:
    """What the function would get."""
    return decode(item.raw)[0]


def problem_of(item: Item) -> tuple[str, str]:
    """Why it gets nothing."""
    with pytest.raises(Unreadable) as raised:
        decode(item.raw)
    kind, message = raised.value.args
    return kind, message


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\n\n b \n", ["a", "", " b "]),
        (b"\xef\xbb\xbfa\n", ["a"]),
        (b"a\x0bb\x85\n", ["a\x0bb\udc85"]),
        ("ü\u2028x\n".encode(), ["ü\u2028x"]),
    ],
)
def test_lines_of_text(items_of: Reader, data: bytes, arguments: list[str]) -> None:
    """A line without its newline is an argument, a blank one too; nothing but a newline ends a line."""
    assert [value_of(item) for item in items_of({"in.txt": data})] == arguments


def test_lines_of_json(items_of: Reader) -> None:
    """In a .jsonl file the value is the argument, whatever it is; blank lines are none."""
    items = items_of({"in.jsonl": b'{"a": [1, 2.5]}\n\n"x"\n  \nnull\n\xef\xbb\xbf1\n'})
    assert [value_of(item) for item in items[:3]] == [{"a": [1, 2.5]}, "x", None]
    assert [show(item.raw) for item in items[:3]] == ['{"a": [1, 2.5]}', '"x"', "null"]
    assert problem_of(items[3])[0] == "InputNotJSON"  # a byte order mark belongs at the beginning of a file


@pytest.mark.parametrize(
    "line", [b"{", b"nan", b"NaN", b"-Infinity", b"1e999", b"'x'", b"\xff", b"[" * 100_000, b"1 2"]
)
def test_line_that_is_no_json(items_of: Reader, line: bytes) -> None:
    """A malformed line is an input that fails, with its place, and the lines around it are read."""
    first, bad, last = items_of({"in.jsonl": b"1\n" + line + b"\n3\n"})
    assert (value_of(first), value_of(last)) == (1, 3)
    kind, message = problem_of(bad)
    assert (kind, bad.source, bad.line) == ("InputNotJSON", "in.jsonl", 2)
    assert message.startswith("is not JSON: ")
    assert isinstance(json.loads(show(bad.raw)), str)


def test_names_of_files_in_any_bytes(items_of: Reader) -> None:
    """A line that is not UTF-8 becomes what os functions take for those bytes, and its record can be written."""
    (item,) = items_of({"in.txt": b"caf\xe9\n"})
    assert os.fsencode(value_of(item)) == b"caf\xe9"
    assert show(item.raw).isascii()


def test_several_files_and_patterns(items_of: Reader) -> None:
    """Inputs come in the order of the arguments, a pattern's files sorted, a file's name before the pattern it may be."""
    files = {"d/2.txt": b"two\n", "d/1.txt": b"one\n", "z.txt": b"z\n", "in[1].txt": b"bracket\n", "in1.txt": b"no\n"}
    items = items_of(files, "z.txt", "d/*.txt", "in[1].txt")
    assert [value_of(item) for item in items] == ["z", "one", "two", "bracket"]


def test_ids_are_of_the_content(items_of: Reader) -> None:
    """The same line has the same id in any file and place; a repeated line's says so, and no two are the same."""
    items = items_of({"a.txt": b"x\ny\nx\n", "b.txt": b"x\n"})
    x = "2d711642b726b044"  # the first 16 digits of the SHA-256 of "x"
    assert [item.id for item in items] == [x, "a1fce4363854ff88", f"{x}-2", f"{x}-3"]


def test_ids_of_many_lines() -> None:
    """The table of ids grows without losing one."""
    identities = Identities()
    names = [identities.name(b"%d" % (number % 5000)) for number in range(10_000)]
    assert len(set(names)) == 10_000
    assert [name and name.removesuffix("-2") for name in names[5000:]] == names[:5000]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.txt", "gone.txt: cannot be read: No such file or directory; check the path"),
        ("*.csv", "*.csv: no file matches; check the pattern"),
        (".", ".: is a directory; name its files, such as './*.txt'"),
    ],
)
def test_inputs_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    """Each has its own line, before anything is read."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageProblem) as raised:
        find_sources([name])
    assert str(raised.value) == message


def test_standard_input_twice() -> None:
    """It can be read once."""
    with pytest.raises(UsageProblem, match="standard input is named twice; write - once"):
        find_sources(["-", "-"])


def test_input_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is found before anything starts."""
    path = tmp_path / "in.txt"
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(UsageProblem, match="cannot be read: Permission denied; "):
        find_sources([str(path)])


def test_input_that_vanishes(tmp_path: Path) -> None:
    """A file that was there at the start and is gone later stops the job with its name."""
    path = tmp_path / "in.txt"
    path.write_text("a\n")
    items = read_items(find_sources([str(path)]))
    path.unlink()
    with pytest.raises(JobStopped, match=r"cannot read .*in\.txt: No such file or directory; see to it"):
        next(items)


def test_files_are_read_as_a_stream(tmp_path: Path) -> None:
    """The first input of a pipe is there before the second is written: nothing waits for the end."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    keeps_open = os.open(path, os.O_RDWR)
    items = read_items(find_sources([str(path)]))
    os.write(keeps_open, b"a\n")
    assert value_of(next(items)) == "a"
    os.write(keeps_open, b"b\n")
    assert value_of(next(items)) == "b"
    items.close()  # type: ignore[attr-defined]  # it is a generator; the pipe is closed with it
    os.close(keeps_open)


def test_total(tmp_path: Path) -> None:
    """The total counts what will be inputs; with a pipe among them there is none."""
    (tmp_path / "a.txt").write_text("1\n\n3")
    (tmp_path / "b.jsonl").write_text("1\n\n\n2\n")
    names = [str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")]
    assert count_inputs(find_sources(names)) == 5
    assert [count_inputs(find_sources(names), most) for most in (1, 4, 5, 9)] == [1, 4, 5, 5]
    os.mkfifo(tmp_path / "pipe")
    assert count_inputs(find_sources([*names, str(tmp_path / "pipe")])) is None
