"""Objects to bytes and back; above all what cannot make that journey."""

from __future__ import annotations

import functools
import os
import pickle
import re
import sys
import threading
import traceback
import types
from collections.abc import Callable
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]  # typeshed has forgotten it
from pathlib import Path
from typing import Any

import pytest

from forkful._core import codec
from forkful._core.messages import CALL, EACH, STAR
from forkful.errors import RemoteError, UnpicklableError


def double(number: int) -> int:
    """A function that a worker can import."""
    return 2 * number


class Named:
    """A class that a worker can import."""

    def method(self) -> None:
        """A method."""

    @classmethod
    def make(cls) -> Named:
        """A class method."""
        return cls()


def make_main(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> types.ModuleType:
    """A ``__main__`` that has a function ``f``, and *facts* on where it comes from."""
    main = types.ModuleType("__main__")
    for name, fact in facts.items():
        setattr(main, name, fact)
    exec("N = 5\ndef f(x):\n    return x + N\nclass Point(tuple):\n    pass\n", main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main


# Calls and functions.


def test_plain_pickle_wherever_it_serves() -> None:
    """What pickle can do is left to it."""
    for value in (1, [double, {"a": (None, 2.5)}], Named.method, len):
        assert codec.encode(value) == pickle.dumps(value, 5)


def test_lambdas_travel_by_value() -> None:
    """With what they hold on to."""
    factor = 3
    function = codec.loads(codec.encode(lambda number: factor * double(number)))
    assert function(7) == 42


def test_local_functions_travel_by_value() -> None:
    """Closures and classes of a function's own."""

    class Local:
        def __call__(self, number: int) -> int:
            return number + 1

    assert codec.loads(codec.encode(functools.partial(Local(), 41)))() == 42


def test_error_of_what_cannot_travel_at_all() -> None:
    """It is pickle's own, which names the object, not that of the second try."""
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        codec.encode([threading.Lock()])


def test_too_deep_to_travel() -> None:
    """There is no second try, which could only go deeper."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        codec.encode(deep)


def test_main_by_reference_when_workers_can_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is enough."""
    main = make_main(monkeypatch, __file__=__file__)
    assert codec.encode(main.f) == pickle.dumps(main.f, 5)


def test_main_by_value_when_workers_cannot_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a prompt, or in a notebook; also what is only mentioned in the arguments."""
    main = make_main(monkeypatch)
    blob = codec.encode(([main.f], {}))
    assert blob != pickle.dumps(([main.f], {}), 5)
    main.__dict__.clear()
    (function,), _ = codec.loads(blob)
    assert function(1) == 6


def test_how_workers_find_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its module's name, else by its file, made absolute; not when it has neither, or the file is none."""
    here = Path(__file__)
    monkeypatch.chdir(here.parent)
    make_main(monkeypatch, __file__=here.name)
    assert codec.main_reference() == {"init_main_from_path": str(here)}
    make_main(monkeypatch, __file__=here.name, __spec__=types.SimpleNamespace(name="package.__main__"))
    assert codec.main_reference() == {"init_main_from_name": "package.__main__"}
    make_main(monkeypatch, __file__="<stdin>")
    assert codec.main_reference() == {}
    make_main(monkeypatch)
    assert codec.main_reference() == {}
    monkeypatch.delitem(sys.modules, "__main__")
    assert codec.main_reference() == {}


class Bound:
    """A bound method's `__self__` has a state that a name cannot carry."""

    def method(self) -> None:
        """A method."""


class Meta(type):
    """A metaclass can do anything."""


class Odd(metaclass=Meta):
    """A class of it."""


def test_functions_by_reference() -> None:
    """Module-level functions and classes: their bytes are only a name."""
    for function in (double, len, os.path.join, os.stat, Named, int, Named.method, functools.reduce):
        assert codec.is_by_reference(function), function


def test_functions_that_are_more_than_a_name() -> None:
    """Their bytes may be others the next time."""
    bound = [Bound().method, Named.make, [].append, "x".join]
    for function in (lambda: None, functools.partial(double, 1), *bound, Odd, object(), functools.lru_cache(double)):
        assert not codec.is_by_reference(function), function


def test_local_functions_are_more_than_a_name() -> None:
    """Also those that say what they are called."""

    def local() -> None:
        pass

    class Local:
        pass

    assert not codec.is_by_reference(local)
    assert not codec.is_by_reference(Local)


def test_function_of_a_prompt_is_more_than_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """It travels by value, with the globals that it uses: those may have changed the next time."""
    main = make_main(monkeypatch)
    blob = codec.encode(main.f)
    main.__dict__["N"] = 7
    assert codec.encode(main.f) != blob
    assert not codec.is_by_reference(main.f)


def test_names_for_messages() -> None:
    """Short, and always there."""
    functions = [double, Named.method, Named, len, functools.partial(double, 1)]
    assert [codec.describe(function) for function in functions] == ["double", "Named.method", "Named", "len", "partial"]
    assert codec.describe(types.SimpleNamespace(__qualname__=5)) == "SimpleNamespace"
    assert codec.describe(types.SimpleNamespace(__name__="x")) == "x"


class Mute:
    """What cannot say what it is."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


def test_short_repr() -> None:
    """It cannot fail, and is never long."""
    assert codec.short_repr([1]) == "[1]"
    assert codec.short_repr(Mute()) == "<Mute whose repr raises ZeroDivisionError>"
    assert codec.short_repr("x" * 198) == repr("x" * 198)
    assert codec.short_repr("x" * 199) == "'" + "x" * 198 + "…"
    assert len(codec.short_repr("x" * 10**6)) == 200


def test_what_a_payload_holds() -> None:
    """In words, for messages."""
    assert [codec.name_payload(style) for style in (CALL, EACH, STAR)] == ["arguments", "items", "items"]


# Results.


def test_results_by_plain_pickle() -> None:
    """A lambda as a result is an error, as it is with ``multiprocessing``."""
    assert codec.encode_result([1]) == pickle.dumps([1], 5)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        codec.encode_result(lambda: None)


def test_results_by_value_where_functions_came_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was defined in a ``__main__`` that cannot be imported goes back the way it came."""
    monkeypatch.setattr(codec, "by_value", True)
    assert codec.loads(codec.encode_result(lambda: 5))() == 5
    with pytest.raises(TypeError, match="cannot pickle"):
        codec.encode_result(threading.Lock())


def test_result_that_cannot_be_pickled() -> None:
    """The message has the result, cut short, the reason, and what to do."""
    error = codec.unpicklable_result(Mute(), TypeError("no"))
    assert isinstance(error, UnpicklableError)
    assert str(error) == (
        "the result <Mute whose repr raises ZeroDivisionError> cannot be pickled (TypeError: no); "
        "return plain data instead"
    )
    assert (error.exc, error.value) == ("TypeError('no')", "<Mute whose repr raises ZeroDivisionError>")


def test_result_that_cannot_be_rebuilt() -> None:
    """The message has the task, the worker, the reason, and what to do."""
    error = codec.unreadable_result("task f[3]", 77, ValueError("bad"))
    assert isinstance(error, UnpicklableError)
    assert "task f[3]: its result, from worker 77, cannot be rebuilt in this process (ValueError: bad)" in str(error)
    assert "__reduce__ or __setstate__" in str(error)
    assert (error.task, error.pid, error.exc) == ("task f[3]", 77, "ValueError('bad')")


# Exceptions.


def caught(raise_it: Callable[[], object]) -> BaseException:
    """What *raise_it* raises, with its traceback."""
    try:
        raise_it()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def round_trip(error: BaseException) -> BaseException:
    """*error* as the master gets it."""
    return codec.decode_error(codec.encode_error(error, skip_frames=0), "task f", 77)


def throw(error: BaseException) -> BaseException:
    """*error*, raised and caught."""

    def raise_it() -> None:
        raise error

    return caught(raise_it)


class NeedsTwo(Exception):
    """Its ``args`` do not fit its ``__init__``: the classic exception that breaks pools."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


class HoldsALock(Exception):
    """It holds what cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class BecomesAnother(Exception):
    """Its pickle is that of something else."""

    def __reduce__(self) -> Any:
        return str, ("surprise",)


class BecomesAnotherError(Exception):
    """Its pickle is that of another exception, which would hide what it was."""

    def __reduce__(self) -> Any:
        return ValueError, ("surprise",)


class LeavesWhenPickled(Exception):
    """Its pickling ends the program."""

    def __reduce__(self) -> Any:
        raise SystemExit(3)


class LeavesWhenRebuilt(Exception):
    """Its rebuilding ends the program."""

    def __init__(self, *args: Any) -> None:
        if args == ("again",):
            raise SystemExit(3)
        super().__init__("again")


class MuteError(Exception):
    """It cannot say what it is."""

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __str__(self) -> str:
        raise ZeroDivisionError


class RichError(LookupError):
    """It has attributes."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.detail = [1, 2]


@pytest.mark.parametrize(
    "error", [ValueError("bad"), KeyError(3), SystemExit(4), KeyboardInterrupt(), OSError(2, "no"), StopIteration(5)]
)
def test_errors_arrive_as_they_were(error: BaseException) -> None:
    """Class and arguments, the remote traceback as the cause."""
    arrived = round_trip(throw(error))
    assert type(arrived) is type(error)
    assert arrived.args == error.args
    assert isinstance(arrived.__cause__, RemoteTraceback)
    assert "in raise_it" in str(arrived.__cause__)
    assert type(error).__name__ in str(arrived.__cause__)


def test_attributes_arrive() -> None:
    """Whatever pickle carries."""
    arrived = round_trip(throw(RichError("x")))
    assert isinstance(arrived, RichError)
    assert (arrived.detail, arrived.args) == ([1, 2], ("x",))


def test_causes_arrive_as_text() -> None:
    """The traceback tells what led to the error."""

    def fail() -> None:
        try:
            raise LookupError("the first")
        except LookupError as error:
            raise ValueError("the second") from error

    text = str(round_trip(caught(fail)).__cause__)
    assert text.index("LookupError: the first") < text.index("direct cause") < text.index("ValueError: the second")
    assert text.startswith('\n"""\n')
    assert text.endswith('"""')


def test_frames_of_ours_are_left_out() -> None:
    """The traceback begins at the user's function; there is always one frame left."""
    error = throw(ValueError("bad"))
    arrived = codec.decode_error(codec.encode_error(error), "task f", 77)
    assert "in caught" not in str(arrived.__cause__)
    assert "in raise_it" in str(arrived.__cause__)
    for skip in (0, 5):
        text = str(codec.decode_error(codec.encode_error(error, skip_frames=skip), "task f", 77).__cause__)
        assert ("in caught" in text) is (skip == 0)
        assert "in raise_it" in text


def test_error_that_was_never_raised() -> None:
    """It has no traceback, and arrives all the same."""
    assert isinstance(round_trip(ValueError("bad")), ValueError)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NeedsTwo("leak", "the tap"), "leak at the tap"),
        (HoldsALock("locked"), "locked"),
        (BecomesAnother("x"), "x"),
        (BecomesAnotherError("x"), "x"),
        (LeavesWhenPickled("x"), "x"),
        (LeavesWhenRebuilt("x"), "again"),
    ],
)
def test_errors_that_cannot_arrive_as_they_were(error: Exception, message: str) -> None:
    """A ``RemoteError`` with all there is to say, and what to do about it."""
    arrived = round_trip(throw(error))
    assert type(arrived) is RemoteError
    name = f"{__name__}.{type(error).__name__}"
    assert (arrived.task, arrived.pid, arrived.type_name, arrived.message) == ("task f", 77, name, message)
    assert str(arrived) == (
        f"task f: {name}: {message} (raised in worker 77; this exception cannot be rebuilt from its pickle, "
        f"give it a __reduce__ or an __init__ that takes its args)"
    )
    assert "in raise_it" in arrived.traceback
    assert isinstance(arrived.__cause__, RemoteTraceback)
    assert arrived.traceback in str(arrived.__cause__)


def test_local_errors_cannot_arrive() -> None:
    """A class that only the worker has: its name and text arrive."""

    class Local(Exception):
        pass

    arrived = round_trip(Local("here"))
    assert isinstance(arrived, RemoteError)
    assert arrived.type_name.endswith("<locals>.Local")
    assert arrived.message == "here"


def test_local_errors_arrive_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where functions came by value the error class may too."""
    monkeypatch.setattr(codec, "by_value", True)

    class Local(Exception):
        pass

    arrived = round_trip(Local("here"))
    assert type(arrived).__name__ == "Local"
    assert arrived.args == ("here",)


def test_error_that_cannot_say_what_it_is() -> None:
    """A broken ``__str__`` and ``__repr__`` must not hide the error."""
    arrived = round_trip(throw(MuteError("x")))
    assert type(arrived) is MuteError

    class LocalMute(MuteError):
        pass

    arrived = round_trip(throw(LocalMute("x")))
    assert isinstance(arrived, RemoteError)
    assert re.fullmatch(r"<test_\w+\.<locals>\.LocalMute whose repr raises ZeroDivisionError>", arrived.message)


class LeavesWhenAsked(Exception):
    """To say what it is ends the program."""

    def __str__(self) -> str:
        raise SystemExit(3)


def test_error_that_leaves_when_it_is_asked() -> None:
    """Its text is user code too: whatever that raises is no reason to lose the worker."""
    assert type(round_trip(throw(LeavesWhenAsked()))) is LeavesWhenAsked
    assert codec.describe_error(LeavesWhenAsked(5)) == "LeavesWhenAsked: LeavesWhenAsked(5)"


def test_error_whose_class_has_gone() -> None:
    """It could be rebuilt there, and cannot be here."""
    blob = pickle.dumps((b"cno_such_module\nGone\n.", "no_such_module.Gone", "lost", "Traceback…"), 5)
    arrived = codec.decode_error(memoryview(blob), "task f", None)
    assert isinstance(arrived, RemoteError)
    assert (arrived.type_name, arrived.message, arrived.pid) == ("no_such_module.Gone", "lost", None)


def test_pickle_of_something_else() -> None:
    """What is rebuilt here must be an exception."""
    blob = pickle.dumps((pickle.dumps("text"), "builtins.X", "lost", ""), 5)
    assert isinstance(codec.decode_error(blob, "task f", 1), RemoteError)


def test_names_of_builtin_errors() -> None:
    """Without the module, as tracebacks have them."""

    class Hidden(ValueError):
        pass

    Hidden.__module__ = "builtins"
    Hidden.__qualname__ = "Hidden"
    arrived = round_trip(Hidden("x"))
    assert isinstance(arrived, RemoteError)
    assert arrived.type_name == "Hidden"


def test_error_whose_traceback_cannot_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """To show one, Python imports modules as it goes: where that fails the exception itself still arrives."""

    def fail(*_args: object) -> None:
        raise ImportError("no tokenize")

    monkeypatch.setattr(traceback, "format_exception", fail)
    arrived = round_trip(ValueError("bad"))
    assert (type(arrived), arrived.args) == (ValueError, ("bad",))
    assert "ValueError: bad\n(its traceback cannot be shown: ImportError: no tokenize)" in str(arrived.__cause__)
