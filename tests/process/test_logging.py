"""Log records of workers reach the handlers of the parent: all of them, once, with the task in them."""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forkful
from forkful.errors import WorkerDied

from . import logging_tasks as tasks
from .support import WATCHDOG, Program


class Kept(logging.Handler):
    """Keeps what it handles."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def texts(self) -> list[str]:
        """The messages."""
        return [record.getMessage() for record in self.records]


@pytest.fixture
def kept() -> Iterator[Kept]:
    """A handler of the logger ``tasks``, which wants all from INFO up."""
    handler = Kept()
    logger = logging.getLogger("tasks")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def test_records_arrive(kept: Kept, start_method: str) -> None:
    """In order, once each, before the task's result, with the task, the worker, and where they were logged."""
    with forkful.Pool(1, start_method=start_method) as pool:
        assert pool.apply(tasks.say, (7,)) == 7
        assert kept.texts() == ["first 7", "second 7"]
        record = kept.records[0]
        assert record.task == "task say"
        assert record.worker == record.process == pool._pool[0].pid != os.getpid()
        assert re.fullmatch(r"(Fork|ForkServer|Spawn)PoolWorker-\d+", record.processName)
        assert (record.name, record.levelname, record.funcName) == ("tasks.of.tests", "INFO", "say")
        assert record.pathname == tasks.__file__
        assert record.args == (7,)


@pytest.mark.parametrize("how", ["block", "chunks", "lazy", "calls"])
def test_each_record_names_its_element(how: str, kept: Kept) -> None:
    """Also where the results of those before it have not been sent."""
    numbers = list(range(40))
    with forkful.Pool(2) as pool:
        if how == "block":
            assert pool.map(tasks.say, numbers) == numbers
        elif how == "chunks":
            assert pool.map(tasks.say, numbers, chunksize=7) == numbers
        elif how == "lazy":
            assert list(pool.imap(tasks.say, numbers)) == numbers
        else:
            assert [pool.apply(tasks.say, (number,)) for number in numbers] == numbers
    found = sorted((record.args[0], record.msg[:5], record.task) for record in kept.records)
    name = "task say" if how == "calls" else "task say[{}]"
    assert found == sorted((number, msg, name.format(number)) for number in numbers for msg in ("first", "secon"))
    for worker in {record.worker for record in kept.records}:
        mine = [record for record in kept.records if record.worker == worker]
        assert [record.created for record in mine] == sorted(record.created for record in mine)


def test_before_the_result(kept: Kept) -> None:
    """Whatever a task has logged was handled when its result is there."""
    with forkful.Pool(2) as pool:
        for position, _ in enumerate(pool.imap(tasks.say, range(50)), 1):
            assert len(kept.records) >= 2 * position


def test_last_words(kept: Kept, start_method: str) -> None:
    """Of a task that kills its process, or raises."""
    with forkful.Pool(1, start_method=start_method) as pool:
        with pytest.raises(WorkerDied):
            pool.apply(tasks.say_and_die, (1,))
        assert kept.texts() == ["last words of 1"]
        assert kept.records[0].task == "task say_and_die"
        with pytest.raises(ValueError, match="2"):
            pool.apply(tasks.say_and_fail, (2,))
        assert kept.texts()[1:] == ["before failing 2"]


def test_what_travels(kept: Kept, start_method: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Plain arguments as they are, others in the text; attributes where they pickle; tracebacks as text."""
    with forkful.Pool(1, start_method=start_method) as pool:
        pool.apply(tasks.say_much)
    *records, wrong, after = kept.records
    assert [record.getMessage().partition(" <built")[0] for record in records] == [
        "plain text 3 (1.5, None)",
        "a dict [1]",
        "objects own 1",
        "own 2",
        "extra",
        "caught",
    ]
    assert records[0].args == ("text", 3, (1.5, None))
    extra = records[4]
    assert (extra.own, extra.plain, extra.worker) == (tasks.Own(3), {"x": (1,)}, "mine")
    assert not hasattr(extra, "lock")
    assert not hasattr(extra, "unreadable")
    assert records[5].exc_info is None
    assert "KeyError: 'a key'" in records[5].exc_text
    assert "in say_much" in records[5].stack_info
    assert wrong.args == ("text",)  # the parent's handler is to complain
    assert after.msg == "after"
    assert "--- Logging error ---" in capfd.readouterr().err  # of the argument that raises: the worker's


def test_other_threads_of_a_worker(kept: Kept) -> None:
    """Their records are of the element that runs."""
    with forkful.Pool(1) as pool:
        assert pool.map(tasks.say_from_thread, range(5)) == list(range(5))
    assert [(record.threadName, record.task) for record in kept.records] == [
        ("own thread", f"task say_from_thread[{number}]") for number in range(5)
    ]


def test_tasks_of_several_threads(kept: Kept, start_method: str) -> None:
    """Each record is of the task of its thread; what a task's own thread logs is of none."""
    with forkful.Pool(1, threads=4, start_method=start_method) as pool:
        pool.map(tasks.slow_after_saying, range(12), chunksize=1)
        pool.apply(tasks.say_from_thread, (3,))
    *records, last = kept.records
    assert sorted(record.task for record in records) == sorted(f"task slow_after_saying[{n}]" for n in range(12))
    assert all(record.task == f"task slow_after_saying[{record.args[0]}]" for record in records)
    assert len({record.threadName for record in records}) > 1
    assert (last.getMessage(), last.task) == ("of a thread 3", "")


def test_levels(start_method: str, kept: Kept) -> None:
    """The worker knows the parent's as of its start; what has changed since is asked on arrival."""
    named = logging.getLogger("tasks.quiet")
    named.setLevel(logging.ERROR)
    try:
        with forkful.Pool(1, start_method=start_method) as pool:
            assert not pool.apply(tasks.say_at, ("tasks.quiet", logging.WARNING))
            assert not pool.apply(tasks.say_at, ("tasks.x", logging.DEBUG))
            assert pool.apply(tasks.say_at, ("tasks.x", logging.INFO, "wanted"))
            assert pool.apply(tasks.say_at, ("tasks.quiet", logging.ERROR, "wanted"))
            named.setLevel(logging.CRITICAL)
            logging.getLogger("tasks").setLevel(logging.ERROR)
            assert pool.apply(tasks.say_at, ("tasks.quiet", logging.ERROR, "not wanted any more"))
            assert pool.apply(tasks.say_at, ("tasks.x", logging.INFO, "not wanted any more"))
            logging.disable(logging.CRITICAL)
            assert pool.apply(tasks.say_at, ("tasks.x", logging.CRITICAL, "disabled"))
        with forkful.Pool(1, start_method=start_method) as pool:
            assert not pool.apply(tasks.say_at, ("tasks.x", logging.CRITICAL, "disabled"))
    finally:
        logging.disable(logging.NOTSET)
        named.setLevel(logging.NOTSET)
    assert kept.texts() == ["wanted", "wanted"]


def test_handlers_of_the_parent_do_not_run_in_a_worker(kept: Kept) -> None:
    """A fork has copied them; they are gone there, and all here."""
    with forkful.Pool(1, start_method="fork") as pool:
        assert pool.apply(tasks.bare_handlers) == []
    assert kept in logging.getLogger("tasks").handlers


def test_filters_and_propagation(kept: Kept) -> None:
    """A record goes the way that it would go if it had been logged here."""
    other = Kept()
    logger = logging.getLogger("tasks.of")
    logger.addHandler(other)
    other.addFilter(lambda record: record.levelno >= logging.WARNING)
    try:
        with forkful.Pool(1) as pool:
            pool.apply(tasks.say, (1,))
            logger.propagate = False
            pool.apply(tasks.say, (2,))
    finally:
        logger.removeHandler(other)
        logger.propagate = True
    assert other.texts() == ["second 1", "second 2"]
    assert kept.texts() == ["first 1", "second 1"]


def test_a_handler_that_a_worker_adds(start_method: str, kept: Kept, tmp_path: Path) -> None:
    """Works as well, from the initializer on."""
    path = tmp_path / "log"
    with forkful.Pool(1, tasks.add_file, (str(path),), start_method=start_method) as pool:
        pool.apply(tasks.say, (1,))
    assert path.read_text(encoding="utf-8") == "initialized\nfirst 1\nsecond 1\n"
    assert [(record.getMessage(), record.task) for record in kept.records] == [
        ("initialized", ""),
        ("first 1", "task say"),
        ("second 1", "task say"),
    ]


def test_warnings(start_method: str) -> None:
    """Those of a worker too, with ``captureWarnings``."""
    handler = Kept()
    logger = logging.getLogger("py.warnings")
    logging.captureWarnings(capture=True)
    logger.addHandler(handler)
    try:
        with forkful.Pool(1, start_method=start_method) as pool:
            assert pool.apply(tasks.warn, (3,)) == 3
    finally:
        logger.removeHandler(handler)
        logging.captureWarnings(capture=False)
    assert len(handler.records) == 1
    assert "UserWarning: careful 3" in handler.texts()[0]
    assert handler.records[0].task == "task warn"


def test_a_flood(kept: Kept) -> None:
    """Takes its time, and no more memory than the pipe; the other worker's results come all the same."""
    with forkful.Pool(2) as pool:
        flood = pool.apply_async(tasks.flood, (3000, 1000))
        assert pool.apply(tasks.has_logging)
        assert flood.get(WATCHDOG) == 3000
    assert [record.args[0] for record in kept.records] == list(range(3000))


def test_large_records(kept: Kept) -> None:
    """Of many times what a pipe holds."""
    with forkful.Pool(1) as pool:
        assert pool.apply(tasks.flood, (3, 1_000_000)) == 3
    assert [len(record.args[1]) for record in kept.records] == [1_000_000] * 3


def test_logging_in_the_midst_of_logging(kept: Kept) -> None:
    """A signal handler of the task's: whole records, none lost."""
    with forkful.Pool(1) as pool:
        assert pool.apply(tasks.say_in_a_signal_handler, (500,)) == 500
    texts = kept.texts()
    assert [text for text in texts if text != "handler"] == [f"task {number}" for number in range(500)]
    assert "handler" in texts


class Raising(logging.Handler):
    """Raises whatever it is given."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self._error


@pytest.mark.parametrize("error", [ValueError("own"), SystemExit(3)])
def test_a_handler_that_raises(error: BaseException, kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    """Hurts nobody, and is heard of."""
    raising = Raising(error)
    logger = logging.getLogger("tasks.of")
    logger.addHandler(raising)
    try:
        with forkful.Pool(1) as pool:
            assert pool.apply(tasks.say, (1,)) == 1
            assert pool.map(tasks.say, range(3)) == [0, 1, 2]
    finally:
        logger.removeHandler(raising)
    assert type(error).__name__ in capsys.readouterr().err
    assert kept.records == []  # it came after the one that raises


class Calling(logging.Handler):
    """Uses the pool that the record came from."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self._pool = pool
        self.results: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.args != (99,):
            self.results.append(self._pool.apply(tasks.say, (99,)))


def test_a_handler_that_uses_the_pool(kept: Kept) -> None:
    """May, like a callback.  What ends while it waits is handed over then, so a result may be there before it is done."""
    with forkful.Pool(2) as pool:
        calling = Calling(pool)
        logging.getLogger("tasks").addHandler(calling)
        try:
            assert pool.apply_async(tasks.say, (1,)).get(WATCHDOG) == 1
            assert pool.map_async(tasks.say, range(3)).get(WATCHDOG) == [0, 1, 2]
            pool.close()
            pool.join()
        finally:
            logging.getLogger("tasks").removeHandler(calling)
    assert calling.results == [99] * 8


def test_several_threads_wait(kept: Kept) -> None:
    """Each finds the records of its own task handled when it has its result."""
    failures: list[str] = []

    def work(pool: Any, base: int) -> None:
        for number in range(base, base + 50):
            pool.apply(tasks.say, (number,))
            mine = [record for record in list(kept.records) if record.args == (number,)]
            if len(mine) != 2:
                failures.append(f"{number}: {mine}")

    with forkful.Pool(2) as pool:
        threads = [threading.Thread(target=work, args=(pool, base)) for base in (0, 1000, 2000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_after_terminate(kept: Kept) -> None:
    """What had arrived is handled."""
    with forkful.Pool(1) as pool:
        for _ in range(3):
            pool.apply_async(tasks.slow_after_saying, (1,))
        pool.apply(tasks.say, (2,))
    pool.join()
    assert kept.texts()[:3] == ["started 1"] * 3


def test_a_child_of_a_task(kept: Kept, start_method: str, tmp_path: Path) -> None:
    """Does not speak for the worker; its own handlers work."""
    with forkful.Pool(1, start_method=start_method) as pool:
        pool.apply(tasks.fork_and_say, (str(tmp_path / "log"),))
        pool.apply(tasks.say, (1,))
    assert (tmp_path / "log").read_text(encoding="utf-8") == "of a child\n"
    assert kept.texts() == ["first 1", "second 1"]


@pytest.mark.parametrize("inner", ["fork", "forkserver"])
def test_a_pool_in_a_task(inner: str, start_method: str, kept: Kept) -> None:
    """Its workers' records come all the way up, once, and name the task that logged."""
    with forkful.Pool(1, start_method=start_method) as pool:
        worker = pool.apply(os.getpid)
        assert pool.apply(tasks.nested, (inner,)) == 5
    assert [(record.getMessage(), record.task) for record in kept.records] == [
        ("first 5", "task say"),
        ("second 5", "task say"),
    ]
    assert kept.records[0].worker not in {worker, os.getpid()}


def test_multiprocessing_s_own_recipe(start_method: str) -> None:
    """A program that sends records through a queue of its own, as the logging cookbook has it, gets each once."""
    handler = Kept()
    context: Any = multiprocessing.get_context(start_method)
    queue = context.Queue()
    listener = logging.handlers.QueueListener(queue, handler)
    logging.getLogger("tasks").setLevel(logging.INFO)
    root = Kept()
    logging.getLogger().addHandler(root)
    listener.start()
    try:
        with forkful.Pool(1, tasks.configure_queue, (queue,), context=context) as pool:
            assert pool.apply(tasks.say, (1,)) == 1
            pool.close()
            pool.join()
    finally:
        listener.stop()
        logging.getLogger().removeHandler(root)
        logging.getLogger("tasks").setLevel(logging.NOTSET)
        queue.close()
        queue.join_thread()
    assert handler.texts() == ["first 1", "second 1"]
    assert root.texts() == []


CONFIGURED = """
import logging, sys
import forkful
from tests.process import logging_tasks as tasks
{top}

def f(x):
    logging.info("f %d", x)

class Needed:
    pass

def g(x, kind=Needed):
    logging.info("g %d", x)

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="parent %(message)s")
    with forkful.Pool(1, {options}start_method=sys.argv[1]) as pool:
        pool.map(f, [1])
        pool.map(g, [1])
        pool.map(tasks.say, [1])
"""


@pytest.mark.parametrize("case", ["plainly", "at the top", "in the initializer"])
def test_each_line_once(case: str, start_method: str, tmp_path: Path) -> None:
    """Also where running the script, or the initializer, gives a worker handlers that write to the same place."""
    top = 'logging.basicConfig(level=logging.INFO, format="parent %(message)s")' if case == "at the top" else ""
    options = "initializer=tasks.configure_stderr, " if case == "in the initializer" else ""
    (tmp_path / "given.py").write_text(CONFIGURED.format(top=top, options=options), encoding="utf-8")
    with Program(str(tmp_path / "given.py"), start_method, cwd=tmp_path) as running:
        assert running.finish()[0] == 0, running.stderr()
        lines = running.stderr().splitlines()
    who = "worker" if case == "in the initializer" else "parent"
    assert lines == [f"{who} {text}" for text in ("f 1", "g 1", "first 1", "second 1")]


def test_a_program_that_does_not_log(start_method: str, tmp_path: Path) -> None:
    """Is spared the import; what its tasks log all the same comes out as it always did."""
    code = f"""
import sys
import forkful

def loaded(number):
    return "logging" in sys.modules

def warn(number):
    import logging
    logging.getLogger("a").warning("careful")
    logging.getLogger("a").info("not wanted")

def warn_plainly(number):
    import logging
    logging.warning("careful")

if __name__ == "__main__":
    with forkful.Pool(1, start_method={start_method!r}) as pool:
        print(pool.map(loaded, [1]), "logging" in sys.modules)
        pool.apply(warn, (1,))
        pool.apply(warn_plainly, (1,))
        print(pool.map(loaded, [1]), "logging" in sys.modules)
"""
    with Program(cwd=tmp_path, code=code) as running:
        returncode, output = running.finish()
        assert returncode == 0, running.stderr()
        assert output == "[False] False\n[True] True\n"
        assert running.stderr() == "careful\nWARNING:root:careful\n"
