"""Rows of tables, fields as names, compressed files."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from forkful.apps.mapping.inputs import Item, Problem, Unreadable, count_inputs, decode, find_columns, read_items, show
from forkful.apps.mapping.jsontext import to_json
from forkful.apps.mapping.sources import find_sources
from forkful.apps.problems import JobStopped, UsageProblem


def items_of(path: Path, data: bytes, id_field: str | None = None, form: str | None = None) -> list[Item]:
    """The inputs of a file that holds *data*."""
    path.write_bytes(data)
    return list(read_items(find_sources([str(path)], form), id_field=id_field))


def values(items: Sequence[Item]) -> list[Any]:
    """What the function would get."""
    return [decode(item.raw)[0] for item in items]


def problem_of(item: Item) -> tuple[str, str]:
    """Why the function gets nothing."""
    with pytest.raises(Unreadable) as raised:
        decode(item.raw)
    kind, message = raised.value.args
    return kind, message


def test_rows(tmp_path: Path) -> None:
    """Each row is a dict by column; quotes hold commas and newlines; a blank line is no row."""
    data = b'\xef\xbb\xbfname,price\r\ntea,3\r\n"a, b","4\n5"\n\n"say ""hi""",6'
    items = items_of(tmp_path / "in.csv", data)
    assert values(items) == [
        {"name": "tea", "price": "3"},
        {"name": "a, b", "price": "4\n5"},
        {"name": 'say "hi"', "price": "6"},
    ]
    assert [item.line for item in items] == [2, 4, 6]


def test_tabs(tmp_path: Path) -> None:
    """A .tsv file is parted by tabs."""
    assert values(items_of(tmp_path / "in.tsv", b"a\tb\n1,5\t2\n")) == [{"a": "1,5", "b": "2"}]


def test_format_by_name_or_by_word(tmp_path: Path) -> None:
    """What is said goes before what the name says."""
    assert values(items_of(tmp_path / "in.csv", b"a\nb\n", form="text")) == ["a", "b"]
    assert values(items_of(tmp_path / "in.txt", b"1\n2\n", form="jsonl")) == [1, 2]
    assert values(items_of(tmp_path / "in.ndjson", b"[1]\n")) == [[1]]
    with pytest.raises(UsageProblem, match="'xml' is no format of inputs; write one of text, jsonl, csv, tsv"):
        find_sources([str(tmp_path / "in.csv")], "xml")


def test_rows_of_other_lengths(tmp_path: Path) -> None:
    """Such a row is an input that fails, and says how many columns it has; those around it are read."""
    items = items_of(tmp_path / "in.csv", b"a,b\n1,2\n3\n4,5,6\n7,8\n")
    assert problem_of(items[1]) == ("InputNotTable", "has 1 column, and the first line names 2: a, b; mend it")
    assert problem_of(items[2])[1].startswith("has 3 columns")
    assert show(items[2].raw) == '"4,5,6"'
    assert values([items[0], items[3]]) == [{"a": "1", "b": "2"}, {"a": "7", "b": "8"}]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b'1,"2', "a quote in it is never closed"),
        (b'1,"two" he said', "',' expected after '\"'"),
        (b'"a" b,"c', "',' expected after '\"'"),
        (b"1,a\rb", "new-line character"),
    ],
)
@pytest.mark.parametrize("after", [b"", b'"5",6\n', b'"5\n6",7\n8,"9\n'])
def test_quotes_that_are_wrong(tmp_path: Path, row: bytes, why: str, after: bytes) -> None:
    """Such a row is an input that fails, with the number of its line; those around it are read."""
    items = items_of(tmp_path / "in.csv", b"a,b\n0,0\n" + row + b"\n3,4\n" + after)
    assert [item.line for item in items[:3]] == [2, 3, 4]
    assert values([items[0], items[2]]) == [{"a": "0", "b": "0"}, {"a": "3", "b": "4"}]
    kind, message = problem_of(items[1])
    assert kind == "InputNotTable"
    assert message.startswith("is no row: ")
    assert why in message or after
    assert message.endswith("; mend its quotes")
    assert show(items[1].raw) == to_json(row.decode())
    if b"7" in after:
        assert values([items[3]]) == [{"a": "5\n6", "b": "7"}]
        assert (problem_of(items[4])[0], items[4].line) == ("InputNotTable", 7)
    assert len({item.id for item in items}) == len(items)


def test_many_wrong_quotes(tmp_path: Path) -> None:
    """Each is found, and nothing is read so often that it takes long."""
    items = items_of(tmp_path / "in.csv", b"a,b\n" + b'1,"2\n3,4\n5,6\n' * 10_000)
    assert len(items) == 30_000
    assert sum(isinstance(item.raw, Problem) for item in items) == 10_000
    assert [item.line for item in items] == list(range(2, 30_002))


@pytest.mark.parametrize("rows", [b'a,b"\n"1" x,2\n', b'"a,b\n1,2\n'])
def test_first_line_that_is_no_row(tmp_path: Path, rows: bytes) -> None:
    """Of a header nothing can be made: the job is refused, or, when others have been run, stops."""
    path = tmp_path / "in.csv"
    path.write_bytes(rows.partition(b"\n")[2] if rows.startswith(b"a") else rows)
    with pytest.raises(UsageProblem, match=r"in\.csv: its first line is no row of a table: .*; mend its quotes"):
        find_columns(find_sources([str(path)])[0])
    with pytest.raises(JobStopped, match=r"in\.csv: its first line is no row of a table: .*; mend its quotes"):
        list(read_items(find_sources([str(path)])))


@pytest.mark.parametrize(
    ("row", "values_"),
    [
        (b'1\t"hello" he said', ["1", '"hello" he said']),
        (b'"1\t2', ['"1', "2"]),
        (b'1\t"', ["1", '"']),
        (b"5' 6\"\ttall", ["5' 6\"", "tall"]),
        (b'1\t"say ""hi"""', ["1", 'say "hi"']),
        (b'1\t"a\tb"', ["1", "a\tb"]),
        (b'1\t"a\nb"', ["1", "a\nb"]),
        (b'"a\nb"\t1', ["a\nb", "1"]),
        (b'1\t"a\r', ["1", '"a']),
    ],
)
@pytest.mark.parametrize("after", [b"", b'7\t8"\n', b'7\t"8\n', b'"7"\t8\n'])
def test_quotes_among_tabs(tmp_path: Path, row: bytes, values_: list[str], after: bytes) -> None:
    """They are quotes where a field begins and ends with one, and part of the text elsewhere."""
    items = items_of(tmp_path / "in.tsv", b"a\tb\n" + row + b"\n3\t4\n" + after)
    first, second, *rest = values(items)
    assert list(first.values()) == values_
    assert second == {"a": "3", "b": "4"}
    assert [one["a"] for one in rest] == (["7"] if after else [])


def test_header_with_quotes_among_tabs(tmp_path: Path) -> None:
    """The same holds for the names of columns."""
    assert values(items_of(tmp_path / "in.tsv", b'"a\t"b"\n1\t2\n')) == [{'"a': "1", "b": "2"}]


def test_columns_with_one_name(tmp_path: Path) -> None:
    """One of them would be lost."""
    path = tmp_path / "in.csv"
    path.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(UsageProblem, match="two columns are named 'a'"):
        find_columns(find_sources([str(path)])[0])


def test_rows_know_their_id_wherever_columns_stand(tmp_path: Path) -> None:
    """A column that is moved changes no id; a value that changes does."""
    (one,) = items_of(tmp_path / "1.csv", b"a,b\n1,2\n")
    (two,) = items_of(tmp_path / "2.csv", b"b,a\n2,1\n")
    (other,) = items_of(tmp_path / "3.csv", b"b,a\n1,2\n")
    assert one.id == two.id != other.id


def test_field_as_id(tmp_path: Path) -> None:
    """Texts and whole numbers name inputs, of objects and of rows."""
    items = items_of(tmp_path / "in.jsonl", b'{"k": "x/1"}\n{"k": 7, "a": 0}\n', id_field="k")
    assert [item.id for item in items] == ["x/1", "7"]
    assert [item.id for item in items_of(tmp_path / "in.csv", b"a,k\n1,x\n", id_field="k")] == ["x"]


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (b'{"a": 1}', "InputWithoutId", "has no field 'k'"),
        (b'{"k": null}', "InputWithoutId", "its field 'k' is null, which is no id"),
        (b'{"k": true}', "InputWithoutId", "its field 'k' is true"),
        (b'{"k": 1.5}', "InputWithoutId", "its field 'k' is 1.5"),
        (b'{"k": ""}', "InputWithoutId", "its field 'k' is \"\""),
        (b"[1]", "InputWithoutId", "is no object with a field 'k'"),
        (b"{", "InputNotJSON", "is not JSON"),
        (b'{"k": "same"}', "DuplicateId", "has the k 'same' of an input before it"),
        (b'{"k": "same", "more": 1}', "DuplicateId", "has the k 'same' of an input before it"),
    ],
)
def test_fields_that_name_nothing(tmp_path: Path, line: bytes, kind: str, message: str) -> None:
    """Each is an input that fails with an id of its own, and the others are read."""
    items = items_of(tmp_path / "in.jsonl", b'{"k": "same"}\n' + line + b'\n{"k": "last"}\n', id_field="k")
    assert problem_of(items[1])[0] == kind
    assert message in problem_of(items[1])[1]
    assert len({item.id for item in items}) == 3
    assert values([items[2]]) == [{"k": "last"}]


def test_long_fields(tmp_path: Path) -> None:
    """Longer than the csv module takes unless told."""
    assert values(items_of(tmp_path / "in.csv", b"a\n" + b"x" * 200_000 + b"\n")) == [{"a": "x" * 200_000}]


def test_later_table_with_columns_of_one_name(tmp_path: Path) -> None:
    """By then others may have been run: the job stops."""
    with pytest.raises(JobStopped, match="two columns are named 'a'"):
        items_of(tmp_path / "in.csv", b"a,a\n1,2\n")


def test_compressed_files(tmp_path: Path) -> None:
    """Unpacked as they are read; the name before .gz tells what they hold."""
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress(b"1\n2\n") + gzip.compress(b"3\n"))
    sources = find_sources([str(path)])
    assert values(list(read_items(sources))) == [1, 2, 3]
    assert count_inputs(sources) == 3


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"1\n2\n" * 10_000, mtime=0)[:-20]])
def test_compressed_files_that_are_broken(tmp_path: Path, data: bytes) -> None:
    """The job stops and names the file."""
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(JobStopped, match=r"cannot read .*in\.jsonl\.gz: .*; see to it and start again"):
        list(read_items(find_sources([str(path)])))


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_files_of_no_bytes(tmp_path: Path, suffix: str) -> None:
    """No compressor writes such a file: whoever was to write it has not."""
    if suffix == "zst":
        pytest.importorskip("zstandard")
    path = tmp_path / f"in.txt.{suffix}"
    path.touch()
    with pytest.raises(JobStopped, match=r"cannot read .*in\.txt\.\w+: it has no bytes, .*; see to it and start again"):
        list(read_items(find_sources([str(path)])))


def test_zstandard_that_was_cut_off(tmp_path: Path) -> None:
    """Wherever that was, the job stops: inputs are missing."""
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "in.txt.zst"
    whole = zstandard.ZstdCompressor().compress(b"".join(b"line %d\n" % number for number in range(20_000)))
    for kept in (3, 10, len(whole) // 2, len(whole) - 1):
        for before in (b"", whole):
            path.write_bytes(before + whole[:kept])
            with pytest.raises(JobStopped, match=r"cannot read .*in\.txt\.zst: Compressed file ended before"):
                list(read_items(find_sources([str(path)])))


def test_zstandard_in_frames(tmp_path: Path) -> None:
    """One behind the other, as `cat` puts them and parallel compressors write them, with some to be skipped."""
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "in.jsonl.zst"
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"
    frames = [zstandard.ZstdCompressor().compress(b"%d\n" % number * 1000) for number in range(3)]
    path.write_bytes(frames[0] + skipped + frames[1] + zstandard.ZstdCompressor().compress(b"") + frames[2])
    items = list(read_items(find_sources([str(path)])))
    assert values(items) == [number for number in range(3) for _ in range(1000)]


def test_zstandard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a library for it; without, the message names the extra, before anything is started."""
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "in.txt.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(b"a\nb\n"))
    assert values(list(read_items(find_sources([str(path)])))) == ["a", "b"]
    path.write_bytes(b"no zstandard")
    with pytest.raises(JobStopped, match="cannot read"):
        list(read_items(find_sources([str(path)])))

    def none_of_them(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", none_of_them)
    with pytest.raises(UsageProblem, match=r"install forkful\[zstd\], or unpack it first"):
        find_sources([str(path)])
