"""The joblib backend ``"forkful"``: scikit-learn, and whatever else uses joblib, on a `forkful.Pool`.

Importing this module registers it::

    import joblib
    import forkful.joblib

    with joblib.parallel_config(backend="forkful", n_jobs=4):
        search.fit(X, y)

Options of `forkful.Pool` may be given beside the backend's name: ``parallel_config(backend="forkful", retries=1,
max_memory_per_worker="2GB")``.  *timeout* and *retries* are then for each batch of joblib's; without *retries* a call
whose worker dies raises `forkful.errors.WorkerDied` out of ``Parallel``.

Workers are started by ``forkserver``, or ``spawn`` where ``multiprocessing.set_start_method`` was told so; by ``fork``
only with ``start_method="fork"``.  They are kept for the next call of ``Parallel`` with the same options, and leave when they have had nothing to do for
five minutes (*idle_timeout*); `release` ends them now.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from .errors import EngineUnavailable, PoolClosed
from .pool import Pool, cpu_count
from .pool._options import start_method_of

try:
    from joblib.parallel import (
        AutoBatchingMixin,
        FallbackToBackend,
        ParallelBackendBase,
        SequentialBackend,
        register_parallel_backend,
    )
except ModuleNotFoundError as missing:
    raise EngineUnavailable(
        f"forkful.joblib needs joblib ({missing}); install it with: pip install 'forkful[joblib]'"
    ) from missing

__all__ = ["ForkfulBackend", "release"]

_IDLE_S = 300.0  # as long as joblib's own workers wait
# Arguments that Parallel passes to every backend: about memory-mapped files, which are not needed here, and hints that
# joblib has acted on already.
_OTHERS = frozenset({"context", "max_nbytes", "mmap_mode", "prefer", "require", "temp_folder", "verbose"})


class ForkfulBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no annotations
    """Runs the batches of a ``joblib.Parallel`` in a `forkful.Pool`."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self, *, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **options: Any
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._options = options
        self._wanted: tuple[int, int | None, dict[str, Any]] = (1, None, {})  # the pool of the newest call
        self._executor: Any = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches run at once: *n_jobs*, where -1 is `cpu_count`, -2 one less, and so on."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning; -1 is all processors")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(1, cpu_count() + 1 + n_jobs)

    def configure(self, n_jobs: int | None = 1, parallel: Any = None, **options: Any) -> int:
        """The beginning of a call of ``Parallel``, or of its ``with`` block: have a pool."""
        workers = self.effective_n_jobs(n_jobs)
        if workers == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        mine = {name: value for name, value in options.items() if name not in _OTHERS}
        self._wanted = workers, self.inner_max_num_threads, self._options | mine
        self._executor = _executor(*self._wanted)
        return workers

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None) -> Any:
        """Have the batch *func* run; *callback* is called with its future when it is done."""
        executor = self._executor
        if executor is None:  # a call that shares this backend has ended: inside a `with` block, beside a generator
            executor = self._executor = _executor(*self._wanted)
        future = executor.submit(_call, func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, out: Any) -> Any:
        """The result of a batch whose future *out* is done."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A batch has failed, or nobody wants the rest: end what this call has under way."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.kill_workers()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel, **self.parallel._backend_kwargs)

    def terminate(self) -> None:
        """The end of a call: the workers are kept for the next."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        self.reset_batch_stats()


def _call(batch: Callable[[], Any]) -> Any:
    """In the worker: not the batch itself is the function, because functions are kept there for the next call."""
    return batch()


# The pool that is kept, and what it was made with.
_lock = threading.Lock()
_kept: tuple[Any, Pool] | None = None


def _renew_lock() -> None:
    """In a forked child: a thread that was not copied may have held it, such as the one that was making a pool."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def _executor(workers: int, inner_threads: int | None, options: dict[str, Any]) -> Any:
    """An executor over the pool that is kept, if that is of this kind, else over a new one, which is kept instead.

    A pool that is replaced ends when the last call that uses it does: nothing but those then holds it.
    """
    global _kept
    kind = (workers, inner_threads, sorted(options.items(), key=lambda item: item[0]))
    with _lock:
        if _kept is not None and _kept[0] == kind:
            try:
                return _kept[1].executor()
            except PoolClosed:  # it was interrupted, or this is a fork of the program that made it
                pass
        pool = _make_pool(workers, inner_threads, options)
        pool._let_go()
        _kept = kind, pool
        return pool.executor()


def _make_pool(workers: int, inner_threads: int | None, options: dict[str, Any]) -> Pool:
    defaults: dict[str, Any] = {"idle_timeout": _IDLE_S, "start_method": _start_method()}
    options = defaults | options
    if inner_threads is not None:
        if "initializer" in options:
            raise ValueError(
                "inner_max_num_threads and an initializer cannot be given together: set the limit in the latter"
            )
        options |= {"initializer": _limit_inner_threads, "initargs": (inner_threads,)}
    return Pool(workers, **options)


def _start_method() -> str:
    """What the program has chosen, unless that is ``"fork"``: joblib asks ``multiprocessing`` for its context before each
    call, and where fork is its default it then looks as if the program had chosen that.
    """
    method, _ = start_method_of(None)
    return "forkserver" if method == "fork" else method


def _limit_inner_threads(count: int) -> None:
    """In the worker, before it imports numpy."""
    for name in ForkfulBackend.MAX_NUM_THREADS_VARS:
        os.environ[name] = str(count)


def release() -> None:
    """End the workers that are kept for the next call of ``Parallel``, once no call under way needs them."""
    global _kept
    with _lock:
        _kept = None


register_parallel_backend("forkful", ForkfulBackend)
