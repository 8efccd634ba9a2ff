"""The example: its counts, and its ways to be checked."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "census.py"

MODULE = '''\
"""Docstring."""
import os

class A:
    def method(self, x):
        if x and x > 1 or not x:
            for y in [z for z in x if z]:
                while y:
                    pass
        elif x == 2:
            return lambda: 1
        elif x == 3:
            with os: pass
        else:
            try: pass
            except ValueError: pass
            except TypeError: pass

async def f(x):
    match x:
        case 1: pass
        case _: pass
    return 1 if x else 2
'''


@pytest.fixture(scope="module")
def census() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("census_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_counts(census: ModuleType, tmp_path: Path) -> None:
    """Each count, by hand: an elif is no deeper than its if, and a case that catches all adds no way."""
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    result = census.census(str(path))
    assert result["parsed"] is True
    assert (result["lines"], result["functions"], result["classes"]) == (23, 2, 1)
    assert result["nesting"] == 5  # class, def, if, for, while
    # module, method, if, and, or, for, comprehension 2, while, elif 2, lambda, except 2, f, case, conditional expression
    assert result["complexity"] == 17
    assert len(result["sha256"]) == 64


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"print 1\n", "SyntaxError: Missing parentheses"),
        (b"x = '\xff'\n", "SyntaxError: (unicode error)"),
        (b"x = 1\0\n", "source code"),
        (b"# coding: nonsense\n", "SyntaxError: "),
        (b"(" * 1000 + b")" * 1000, ""),
        (b"-" * 100_000 + b"1", ""),
        (b"x" + b".a" * 100_000, ""),
    ],
)
def test_what_is_no_python(census: ModuleType, tmp_path: Path, source: bytes, reason: str) -> None:
    """A file that cannot be parsed has a record that says so."""
    path = tmp_path / "bad.py"
    path.write_bytes(source)
    result = census.census(str(path))
    assert result["parsed"] is False
    assert reason in result["reason"]
    assert result["lines"] == 1


def test_deep_nesting(census: ModuleType, tmp_path: Path) -> None:
    """What Python parses, the census walks."""
    path = tmp_path / "deep.py"
    path.write_text(
        "x = " + " + ".join(["1"] * 900) + "\n" + "".join(f"{' ' * n}if x:\n" for n in range(90)) + " " * 90 + "1"
    )
    result = census.census(str(path))
    assert result["parsed"] is True
    assert result["nesting"] == 90


def test_no_warning(census: ModuleType, tmp_path: Path) -> None:
    """An odd escape in the counted file is not shown (here, a warning is an error)."""
    path = tmp_path / "escape.py"
    path.write_text("x = '\\d'\nassert (x, 1)\n1 is 1\n")
    assert census.census(str(path))["parsed"] is True


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the example as a program."""
    command = [sys.executable, str(EXAMPLE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_list() -> None:
    """Every source file of the standard library, sorted, and nothing that was installed."""
    names = run("--list").stdout.splitlines()
    assert names == sorted(names)
    assert len(names) > 500
    assert any(name.endswith("/json/decoder.py") for name in names)
    assert not any("site-packages" in name for name in names)


def test_serial_compare_and_report(tmp_path: Path) -> None:
    """The modes fit together: a serial census has a report, equals itself in any order, and differs when it differs."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.py").write_text(f"def {name}(): pass\n")
    files = tmp_path / "files.txt"
    files.write_text("".join(f"{tmp_path}/{name}.py\n" for name in "abc"))
    serial, other = tmp_path / "serial.jsonl", tmp_path / "other.jsonl"
    assert run("--serial", serial, files).returncode == 0
    lines = serial.read_text().splitlines()
    assert [json.loads(line)["result"]["functions"] for line in lines] == [1, 1, 1]

    other.write_text("\n".join(reversed(lines)))
    same = run("--compare", serial, other)
    assert (same.returncode, same.stdout) == (0, "the same: 3 records, 3 records\n")
    other.write_text("\n".join(lines[:2]))
    assert run("--compare", serial, other).returncode == 1
    other.write_text("\n".join([*lines, lines[0]]))
    assert run("--compare", serial, other).returncode == 1

    report = run("--report", serial).stdout
    assert "3 modules" in report
    assert report.splitlines()[1].split()[:2] == ["a.py", "2"]
