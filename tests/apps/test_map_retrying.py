"""Names of exceptions that are worth another attempt."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from forkful.apps.functions import find_function
from forkful.apps.mapping.calls import Call, CallFailed
from forkful.apps.mapping.retrying import find_exceptions
from forkful.apps.problems import UsageProblem

WORK = """
import errors_of_work
import json as parser
class Own(Exception):
    class Inner(Exception): pass
def work(name): raise eval(name)
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with a function; it imports another, and a third can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "errors_of_work.py").write_text("class OfAnother(Exception): pass\n")
    (tmp_path / "imported_late.py").write_text("class Late(OSError): pass\n")
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    return f"{tmp_path / 'work.py'}:work"


@pytest.mark.parametrize(
    ("name", "raised"),
    [
        ("ConnectionError", "ConnectionResetError()"),
        ("builtins.OSError", "ConnectionResetError()"),
        ("IOError", "OSError()"),
        ("Own", "Own()"),
        ("Own.Inner", "Own.Inner()"),
        ("OfAnother", "errors_of_work.OfAnother()"),
        ("errors_of_work.OfAnother", "errors_of_work.OfAnother()"),
        ("JSONDecodeError", "parser.JSONDecodeError('', '', 0)"),
        ("parser.JSONDecodeError", "parser.JSONDecodeError('', '', 0)"),
        ("json.JSONDecodeError", "parser.JSONDecodeError('', '', 0)"),
        ("imported_late.Late", "__import__('imported_late').Late()"),
    ],
)
def test_known(work: str, name: str, raised: str) -> None:
    """Builtins, what FUNC's module knows, what a module of a full name holds: each is what is raised, or a base of it."""
    target = find_function(work)
    call = Call(target, retries=find_exceptions([name], target))
    with pytest.raises(CallFailed):
        call(("id", raised))
    assert call(("id", "KeyError()"))[3] is not None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ConnectionErr", r"'ConnectionErr' is no exception that is known here; did you mean 'ConnectionError'"),
        ("Onw", r"'Onw' is no exception .*; did you mean 'Own'"),
        ("builtins.OSErorr", r"'builtins.OSErorr' is no exception .*; did you mean 'OSError'"),
        ("Zzzzqqqq", "is no exception that is known here; write its full name, as in json.JSONDecodeError"),
        ("broken_module.Error", "cannot import broken_module: ZeroDivisionError: division by zero; mend it"),
        ("print", "'print' is no exception, but a builtin_function_or_method; name"),
        ("work", "'work' is no exception, but a function; name"),
        ("parser", "'parser' is no exception, but a module; name"),
        ("", "an exception has no name"),
        ("a..b", "is no exception that is known here"),
    ],
)
def test_unknown(work: str, name: str, message: str) -> None:
    """Each would never match: it is refused, with what was perhaps meant."""
    target = find_function(work)
    with pytest.raises(UsageProblem, match=f"--retry-on: .*{message}"):
        find_exceptions(["OSError", name], target)


def test_function_of_python() -> None:
    """Its module is looked at too."""
    assert "Own" in find_exceptions(["Own"], raise_own)
    assert not hasattr(sys.modules["builtins"], "Own")


class Own(Exception):
    """Known here only."""


def raise_own(_text: str) -> None:
    """A task function."""
    raise Own
