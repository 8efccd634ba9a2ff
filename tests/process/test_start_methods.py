"""One program, three start methods: the same results."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import forkful

from . import tasks
from .support import ROOT, WATCHDOG, Program

OF_MAIN = """
import functools, os, sys
import forkful

METHOD = {method!r}

def double(number):
    return number * 2

class Point:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return type(other) is Point and other.x == self.x
    def scaled(self, factor):
        return Point(self.x * factor)
    __hash__ = None

class OwnError(Exception):
    pass

def fail(number):
    raise OwnError(number)

def point(number):
    return Point(number)

{guard}
    factor = 3
    with forkful.Pool(2, context=METHOD) as pool:
        print(pool.map(double, range(3)))
        print(pool.map(lambda number: number * factor, range(3)))
        print(pool.apply(functools.partial(lambda a, b: a - b, 10), (3,)))
        print(pool.map(point, [1, 2]) == [Point(1), Point(2)])
        print(pool.apply(Point(2).scaled, (5,)) == Point(10))
        print([p.x for p in pool.imap(Point(2).scaled, [1, 2])])
        try:
            pool.apply(fail, (7,))
        except OwnError as error:
            print(repr(error))
"""

EXPECTED = "[0, 2, 4]\n[0, 3, 6]\n7\nTrue\nTrue\n[2, 4]\nOwnError(7)\n"
GUARD = 'if __name__ == "__main__":'


def run_python(*arguments: str, folder: Path, stdin: str | None = None) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    path = os.pathsep.join([str(Path(forkful.__file__).parents[1]), str(ROOT)])
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("way", ["script", "module", "-c", "stdin"])
def test_functions_of_main(way: str, start_method: str, tmp_path: Path) -> None:
    """Functions, classes, lambdas and closures of ``__main__``, however the program is given to Python."""
    guard = GUARD if way in {"script", "module"} else "if True:"
    code = OF_MAIN.format(method=start_method, guard=guard)
    (tmp_path / "given.py").write_text(code, encoding="utf-8")
    arguments = {"script": ["given.py"], "module": ["-m", "given"], "-c": ["-c", code], "stdin": ["-"]}[way]

    ended = run_python(*arguments, folder=tmp_path, stdin=code if way == "stdin" else None)

    assert ended == (0, EXPECTED, "")


SIDE_EFFECT = """
import os, sys
with open("imports", "a") as file:
    file.write(f"{{os.getpid()}}\\n")
import forkful
from tests.process import tasks

def own(number):
    return number

class Own:
    pass

def of_class(number):
    return number, Own

if __name__ == "__main__":
    with forkful.Pool(2, context={method!r}) as pool:
        print(pool.map({function}, range(4)))
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_main_is_imported_when_needed(method: str, tmp_path: Path) -> None:
    """By the workers that run a function of it which cannot travel by value, once each, and by no others."""
    imports = tmp_path / "imports"
    for function, most in (("tasks.double", 1), ("own", 1), ("of_class", 3)):
        imports.unlink(missing_ok=True)
        code = SIDE_EFFECT.format(method=method, function=function)
        with Program(cwd=tmp_path, code=code) as running:
            assert running.finish()[0] == 0, running.stderr()
        pids = imports.read_text(encoding="ascii").split()
        assert len(pids) == len(set(pids))
        assert 1 <= len(pids) <= most
        assert (function == "of_class") == (len(pids) > 1)


def test_environment_of_a_worker(start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directory, arguments, name, authkey and path are the parent's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["a name", "an argument"])
    (tmp_path / "only_here.py").write_text("def answer(): return 42\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]  # written just now

    with forkful.Pool(1, context=start_method) as pool:
        assert pool.apply(tasks.environment_of_worker) == (str(tmp_path), ["a name", "an argument"])
        assert pool.apply(only_here.answer) == 42
        name, daemon, authkey = pool.apply(_describe_process)
        assert re.fullmatch(r"(Fork|ForkServer|Spawn)PoolWorker-\d+", name)
        assert not daemon
        assert authkey == bytes(multiprocessing.current_process().authkey)
    sys.modules.pop("only_here")


def _describe_process() -> tuple[str, bool, bytes]:
    this = multiprocessing.current_process()
    return this.name, this.daemon, bytes(this.authkey)


def test_set_start_method_is_honoured(start_method: str, tmp_path: Path) -> None:
    """As ``multiprocessing.Pool`` does."""
    code = f"""
import multiprocessing
import forkful

if __name__ == "__main__":
    multiprocessing.set_start_method({start_method!r})
    with forkful.Pool(1) as pool:
        print(repr(pool).split()[2])
        print(pool.apply(multiprocessing.get_start_method))
"""
    with Program(cwd=tmp_path, code=code) as running:
        assert running.finish() == (0, f"{start_method}\n{start_method}\n"), running.stderr()


def test_context_objects(start_method: str) -> None:
    """A context of ``multiprocessing`` names its start method."""
    context = multiprocessing.get_context(start_method)
    with forkful.Pool(1, context=context) as pool:
        assert f" {start_method} " in repr(pool)
        assert pool.map(tasks.double, range(3)) == [0, 2, 4]


def test_forkserver_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless somebody has chosen: any lock or queue of ``multiprocessing`` made before, in this process, is a choice."""
    monkeypatch.setattr(
        multiprocessing.context._default_context, "_actual_context", None
    )  # there is no public way to take it back
    assert multiprocessing.get_start_method(allow_none=True) is None
    with forkful.Pool(1) as pool:
        assert " forkserver " in repr(pool)


def test_unknown_start_method() -> None:
    """The error names those there are."""
    with pytest.raises(ValueError, match=r"'threads'.*forkserver, spawn, fork"):
        forkful.Pool(1, context="threads")


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_lock_in_initargs(kind: str, start_method: str, tmp_path: Path) -> None:
    """A lock of ``multiprocessing`` reaches the workers through *initargs*, and excludes."""
    counter = tmp_path / "counter"
    counter.write_text("0", encoding="ascii")
    context: Any = multiprocessing.get_context(start_method)
    lock = getattr(context, kind)()
    with forkful.Pool(2, tasks.keep, (lock,), context=start_method) as pool:
        pool.map(tasks.add_under_lock, [str(counter)] * 200, chunksize=5)
    assert counter.read_text(encoding="ascii") == "200"


def test_lock_of_the_default_context_in_initargs(tmp_path: Path) -> None:
    """With no start method chosen anywhere, as in the programs of ``multiprocessing``'s documentation."""
    counter = tmp_path / "counter"
    code = f"""
import multiprocessing
import forkful
from tests.process import tasks

if __name__ == "__main__":
    open({str(counter)!r}, "w").write("0")
    with forkful.Pool(2, tasks.keep, (multiprocessing.Lock(),)) as pool:
        pool.map(tasks.add_under_lock, [{str(counter)!r}] * 100, chunksize=5)
"""
    with Program(cwd=tmp_path, code=code) as running:
        assert running.finish() == (0, ""), running.stderr()
    assert counter.read_text(encoding="ascii") == "100"


def test_lambda_as_initializer() -> None:
    """Under ``fork`` it is inherited, as with ``multiprocessing``."""
    factor = 5
    with forkful.Pool(1, lambda value: tasks.keep(value * factor), (5,), context="fork") as pool:
        assert pool.apply(tasks.kept) == [25]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to a processor")
def test_workers_bound_to_processors(start_method: str) -> None:
    """One each; who takes the place of another takes its processor."""
    processors = sorted(os.sched_getaffinity(0))[:2]
    with forkful.Pool(len(processors), start_method=start_method, cpu_ids=processors) as pool:

        def bound() -> list[set[int]]:
            """Of each of two workers, as tasks there see it."""
            seen: dict[int, set[int]] = {}
            while len(seen) < len(processors):
                seen |= dict(pool.map(tasks.bound_to, [0.01] * 4, chunksize=1))
            return sorted(seen.values(), key=min)

        assert bound() == [{number} for number in processors]
        with pytest.raises(forkful.errors.WorkerDied):
            pool.apply(tasks.kill_own_process)
        assert bound() == [{number} for number in processors]
