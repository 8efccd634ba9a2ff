"""Functions named in text."""

from __future__ import annotations

import importlib.machinery
import pickle
import sys
from pathlib import Path

import pytest

from forkful.apps.functions import FunctionRef, find_function, make_directory_importable
from forkful.apps.problems import UsageProblem

PROGRAM = """\
import functools
import helper_beside_it
counter = []
NUMBER = 3
def double(text): return text * 2
def set_up(): counter.append(helper_beside_it.ONE)
def count(_): return len(counter)
async def later(_): pass
async def later_and_later(_): yield
def in_parts(_): yield
def two(a, b): pass
def none(): pass
def named(*, text): pass
def many(first, second=None, *others, **more): pass
class Later:
    async def __call__(self, text): pass
class InParts:
    def __call__(self, text): yield
class Two:
    def __call__(self, a, b): pass
class Made:
    def __init__(self, text): pass
class MadeOfTwo:
    def __init__(self, a, b): pass
later_object, in_parts_object, two_object = Later(), InParts(), Two()
two_bound = functools.partial(two, 1)
@functools.wraps(two)
def wrapped(*args): return two(1, *args)
class Tools:
    @staticmethod
    def triple(text): return text * 3
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with functions, and a module beside it; what loading it does to this process is undone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "helper_beside_it.py").write_text("ONE = 1\n")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_function_of_a_file(program: Path) -> None:
    """A function is found by path, survives pickling as a reference, and can import what stands beside its file."""
    ref = find_function(f"{program}:double")
    assert pickle.loads(pickle.dumps(ref)) == ref
    assert ref.load()("ab") == "abab"


def test_relative_path_is_kept_absolute(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker in another directory finds the same file."""
    monkeypatch.chdir(program.parent)
    assert find_function("program.py:double").source == str(program)
    assert find_function("./program.py:double").source == str(program)


def test_functions_of_one_file_share_their_globals(program: Path) -> None:
    """What --init sets, the function sees: the file is loaded once."""
    find_function(f"{program}:set_up", arguments=0).load()()
    assert find_function(f"{program}:count").load()(None) == 1


def test_function_of_a_module(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed modules can be named, and those of the working directory."""
    monkeypatch.chdir(program.parent)
    make_directory_importable()
    assert find_function("json:loads").load()("[1]") == [1]
    assert find_function("os.path:basename").load()("a/b") == "b"
    assert find_function("program:Tools.triple").load()("a") == "aaa"


def test_module_named_like_one_of_the_standard_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the working directory it stands for nothing but itself; what is installed stands behind it."""
    for name in ("colorsys", "click"):
        (tmp_path / f"{name}.py").write_text("def own(): pass", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    make_directory_importable()
    found = {name: importlib.machinery.PathFinder.find_spec(name) for name in ("colorsys", "click")}
    assert found["colorsys"] is not None
    assert found["colorsys"].origin != str(tmp_path / "colorsys.py")
    assert found["click"] is not None
    assert found["click"].origin == str(tmp_path / "click.py")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("double", "'double' names no function; write module:function or path/to/file.py:function"),
        (":double", "':double' names no function; write"),
        ("program.py:", "'program.py:' names no function; write"),
        ("program.py:a b", "'a b' is not the name of a function; write"),
        ("gone.py:double", "gone.py: no such file; check the path before the ':' of gone.py:double"),
        ("program.py:dubble", "program.py has no 'dubble'; did you mean 'double'?"),
        ("program.py:qqqqqq", "program.py has no 'qqqqqq'; check the name after the ':'"),
        ("program.py:Tools.tripel", "program.py has no 'tripel'; did you mean 'triple'?"),
        ("program.py:NUMBER", "program.py:NUMBER is a value of type 'int'; name a function"),
        ("program.py:later", "program.py:later is async; name a plain function"),
        ("program.py:later_and_later", "program.py:later_and_later is async; name a plain function"),
        ("program.py:later_object", "program.py:later_object is async; name a plain function"),
        ("program.py:in_parts", "program.py:in_parts is a generator, and a call of it runs nothing; name a function"),
        ("program.py:in_parts_object", "program.py:in_parts_object is a generator, and a call of it runs nothing; "),
        (
            "program.py:two",
            "program.py:two cannot be called with one argument, the input: missing a required argument: 'b'; name a",
        ),
        ("program.py:two_object", "program.py:two_object cannot be called with one argument, the input: missing"),
        ("program.py:MadeOfTwo", "program.py:MadeOfTwo cannot be called with one argument, the input: missing"),
        ("program.py:none", "program.py:none cannot be called with one argument, the input: too many positional"),
        ("program.py:named", "program.py:named cannot be called with one argument, the input: "),
        ("os:getpid", "os:getpid cannot be called with one argument, the input: too many positional arguments; "),
        ("no_such_module_anywhere:f", "no module named 'no_such_module_anywhere'; check the spelling"),
        ("broken.py:f", "cannot import broken.py: ZeroDivisionError: division by zero; mend it (`python broken.py`"),
        ("leaves.py:f", "cannot import leaves.py: SystemExit: 3; mend it"),
        ("needs.py:f", "cannot import needs.py: ModuleNotFoundError: No module named 'not_there'; mend it"),
        ("wrong.py:f", "cannot import wrong.py: SyntaxError: invalid syntax"),
    ],
)
def test_what_cannot_be_used(program: Path, monkeypatch: pytest.MonkeyPatch, spec: str, message: str) -> None:
    """Each mistake has its own line: what is wrong, and what to do."""
    monkeypatch.chdir(program.parent)
    for name, text in {
        "broken": "1 / 0",
        "leaves": "import sys; sys.exit(3)",
        "needs": "import not_there",
        "wrong": "def",
    }.items():
        program.with_name(f"{name}.py").write_text(text)
    with pytest.raises(UsageProblem) as raised:
        find_function(spec)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["many", "Made", "two_bound", "wrapped"])
def test_what_can_be_called_with_an_input(program: Path, name: str) -> None:
    """Classes, partial functions, what has more arguments with defaults, and whatever a decorator made."""
    assert callable(find_function(f"{program}:{name}").load())


def test_builtins_that_do_not_tell_their_arguments() -> None:
    """They are taken at their word."""
    assert find_function("builtins:int").load() is int


def test_what_can_be_called_without_arguments(program: Path) -> None:
    """The function of --init gets none."""
    for name in ("none", "set_up", "Tools"):
        assert callable(find_function(f"{program}:{name}", arguments=0).load())
    with pytest.raises(UsageProblem, match=r"double cannot be called without arguments: missing .*'text'; name a"):
        find_function(f"{program}:double", arguments=0)


def test_what_a_module_prints_is_not_a_record(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to the records: what an import prints goes to standard error."""
    program.write_text("print('hello')\ndef f(x): return x\n")
    find_function(f"{program}:f")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_reference_is_small() -> None:
    """A reference is two names, so it can be a key and can be sent to any process."""
    assert {FunctionRef("json", "loads"): 1}[FunctionRef("json", "loads")] == 1
