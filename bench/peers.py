"""The pools under test, behind one protocol.

An adapter writes each operation as that pool's users write it, the loop over the tasks included, so that no pool pays
for a wrapper around each task.  Libraries are imported when their pool is opened: those that are not installed are
listed as such, and those that are do not disturb each other.

Three differences could not be written away, and are decided in the peers' favour:

- Executors have no chunks by default, which makes ``map`` hopeless; they get the chunks of ``multiprocessing.Pool``.
- Executors have no ``imap_unordered``; their users write ``submit`` and ``as_completed``.
- loky starts processes in its own way (fork and exec) or by ``spawn``; asked for another method it takes its own.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol

from .measure import US, Case

Function = Callable[[Any], Any]
CHUNKS_PER_PROCESS = 4  # as in multiprocessing.Pool.map


class Contender(Protocol):
    """What a measure may ask of an open pool."""

    def apply(self, function: Function, argument: Any) -> Any:
        """One round trip."""

    def start_all(self, function: Function, arguments: Iterable[Any]) -> list[Callable[[], Any]]:
        """A task for each argument; what returns each one's result, in the same order."""

    def map(self, function: Function, arguments: Sequence[Any]) -> list[Any]:
        """All results, in order."""

    def imap_unordered(self, function: Function, arguments: Iterable[Any]) -> Iterator[Any]:
        """Each result as it comes, tasks sent one by one."""

    def shutdown(self) -> None:
        """Leave nothing behind; whatever still runs may be killed."""


class PoolLike:
    """forkful, multiprocessing, billiard: the surface of ``multiprocessing.Pool``."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def apply(self, function: Function, argument: Any) -> Any:
        return self._pool.apply(function, (argument,))

    def start_all(self, function: Function, arguments: Iterable[Any]) -> list[Callable[[], Any]]:
        apply_async = self._pool.apply_async
        return [apply_async(function, (argument,)).get for argument in arguments]

    def map(self, function: Function, arguments: Sequence[Any]) -> list[Any]:
        results: list[Any] = self._pool.map(function, arguments)
        return results

    def imap_unordered(self, function: Function, arguments: Iterable[Any]) -> Iterator[Any]:
        results: Iterator[Any] = self._pool.imap_unordered(function, arguments)
        return results

    def shutdown(self) -> None:
        self._pool.terminate()
        self._pool.join()


class ExecutorLike:
    """ProcessPoolExecutor, loky: the surface of ``concurrent.futures``."""

    def __init__(self, executor: Any, processes: int, **shutdown: bool) -> None:
        self._executor = executor
        self._processes = processes
        self._shutdown = shutdown

    def apply(self, function: Function, argument: Any) -> Any:
        return self._executor.submit(function, argument).result()

    def start_all(self, function: Function, arguments: Iterable[Any]) -> list[Callable[[], Any]]:
        submit = self._executor.submit
        return [submit(function, argument).result for argument in arguments]

    def map(self, function: Function, arguments: Sequence[Any]) -> list[Any]:
        return list(self._executor.map(function, arguments, chunksize=chunk_size(len(arguments), self._processes)))

    def imap_unordered(self, function: Function, arguments: Iterable[Any]) -> Iterator[Any]:
        submit = self._executor.submit
        for future in as_completed([submit(function, argument) for argument in arguments]):
            yield future.result()

    def shutdown(self) -> None:
        self._executor.shutdown(**self._shutdown)


class PebbleLike:
    """pebble: futures like an executor's, but each task's process can be killed."""

    def __init__(self, pool: Any, processes: int) -> None:
        self._pool = pool
        self._processes = processes

    def apply(self, function: Function, argument: Any) -> Any:
        return self._pool.schedule(function, args=(argument,)).result()

    def start_all(self, function: Function, arguments: Iterable[Any]) -> list[Callable[[], Any]]:
        schedule = self._pool.schedule
        return [schedule(function, args=(argument,)).result for argument in arguments]

    def map(self, function: Function, arguments: Sequence[Any]) -> list[Any]:
        chunks = chunk_size(len(arguments), self._processes)
        return list(self._pool.map(function, arguments, chunksize=chunks).result())

    def imap_unordered(self, function: Function, arguments: Iterable[Any]) -> Iterator[Any]:
        schedule = self._pool.schedule
        for future in as_completed([schedule(function, args=(argument,)) for argument in arguments]):
            yield future.result()

    def shutdown(self) -> None:
        self._pool.stop()
        self._pool.join()


class MpireLike(PoolLike):
    """mpire: a Pool's methods, but chunks unless told otherwise."""

    def imap_unordered(self, function: Function, arguments: Iterable[Any]) -> Iterator[Any]:
        results: Iterator[Any] = self._pool.imap_unordered(function, arguments, chunk_size=1)
        return results

    def shutdown(self) -> None:
        self._pool.terminate()


def chunk_size(tasks: int, processes: int) -> int:
    """The chunks that ``multiprocessing.Pool.map`` would make."""
    return -(-tasks // (processes * CHUNKS_PER_PROCESS)) or 1


def open_forkful(processes: int, start_method: str) -> Contender:
    from forkful import Pool

    return PoolLike(Pool(processes, context=start_method))


def open_multiprocessing(processes: int, start_method: str) -> Contender:
    return PoolLike(get_context(start_method).Pool(processes))


def open_futures(processes: int, start_method: str) -> Contender:
    from concurrent.futures import ProcessPoolExecutor

    executor = ProcessPoolExecutor(processes, mp_context=get_context(start_method))
    return ExecutorLike(executor, processes, cancel_futures=True)


def open_loky(processes: int, start_method: str) -> Contender:
    import loky
    from loky.backend.context import get_context as loky_context

    executor = loky.ProcessPoolExecutor(processes, context=loky_context(start_method))
    return ExecutorLike(executor, processes, kill_workers=True)


def open_pebble(processes: int, start_method: str) -> Contender:
    import pebble

    return PebbleLike(pebble.ProcessPool(processes, context=get_context(start_method)), processes)


def open_billiard(processes: int, start_method: str) -> Contender:
    import billiard

    return PoolLike(billiard.get_context(start_method).Pool(processes))


def open_mpire(processes: int, start_method: str) -> Contender:
    import mpire

    return MpireLike(mpire.WorkerPool(processes, start_method=start_method, keep_alive=True))


@dataclass(frozen=True)
class Script:
    """The shortest program to a first result, in pieces; ``{method}`` stands for the start method's name."""

    imports: str
    pool: str
    call: str
    close: str


@dataclass(frozen=True)
class Peer:
    """A pool that can be measured."""

    name: str
    requires: str  # the module without which it is not installed
    open: Callable[[int, str], Contender]
    script: Script
    start_methods: tuple[str, ...] = ("forkserver", "fork", "spawn")  # its own choice first

    def installed(self) -> bool:
        """Whether it is there to be imported."""
        return importlib.util.find_spec(self.requires) is not None

    def version(self) -> str:
        """What was measured, for people."""
        import importlib.metadata  # slow, and the process that takes a sample has no use for it

        if self.requires.partition(".")[0] in sys.stdlib_module_names:
            return "Python's own"
        if not self.installed():
            return "—"
        try:
            return importlib.metadata.version(self.requires)
        except importlib.metadata.PackageNotFoundError:
            return "not packaged"  # found on the path, such as a source tree


POOL_SCRIPT = ("pool.apply(identity, (1,))", "pool.terminate()")

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            US,
            "forkful",
            open_forkful,
            Script("from forkful import Pool", "Pool(2, context={method!r})", *POOL_SCRIPT),
        ),
        Peer(
            "multiprocessing",
            "multiprocessing.pool",
            open_multiprocessing,
            Script("import multiprocessing.pool", "multiprocessing.get_context({method!r}).Pool(2)", *POOL_SCRIPT),
        ),
        Peer(
            "concurrent.futures",
            "concurrent.futures",
            open_futures,
            Script(
                "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor",
                "ProcessPoolExecutor(2, mp_context=multiprocessing.get_context({method!r}))",
                "pool.submit(identity, 1).result()",
                "pool.shutdown()",
            ),
        ),
        Peer(
            "loky",
            "loky",
            open_loky,
            Script(
                "import loky\nfrom loky.backend.context import get_context",
                "loky.ProcessPoolExecutor(2, context=get_context({method!r}))",
                "pool.submit(identity, 1).result()",
                "pool.shutdown(kill_workers=True)",
            ),
            ("loky", "spawn"),
        ),
        Peer(
            "pebble",
            "pebble",
            open_pebble,
            Script(
                "import multiprocessing\nimport pebble",
                "pebble.ProcessPool(2, context=multiprocessing.get_context({method!r}))",
                "pool.schedule(identity, args=(1,)).result()",
                "pool.stop()\npool.join()",
            ),
        ),
        Peer(
            "billiard",
            "billiard",
            open_billiard,
            Script("import billiard", "billiard.get_context({method!r}).Pool(2)", *POOL_SCRIPT),
        ),
        Peer(
            "mpire",
            "mpire",
            open_mpire,
            Script("import mpire", "mpire.WorkerPool(2, start_method={method!r}, keep_alive=True)", *POOL_SCRIPT),
        ),
    )
}


@contextmanager
def opened(case: Case, processes: int = 2) -> Iterator[Contender]:
    """The pool of a case, shut down afterwards."""
    contender = PEERS[case.contestant].open(processes, case.start_method)
    try:
        yield contender
    finally:
        contender.shutdown()
