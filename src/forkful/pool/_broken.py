"""The errors of an executor: ours, and the standard library's for the same thing, at once.

Programs written for ``ProcessPoolExecutor`` catch ``BrokenProcessPool``, ``RuntimeError`` and ``PicklingError``; those
written for `Pool` catch what `forkful.errors` has.  Here is one class for each that is both, under the name of ours.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from pickle import PicklingError

from .. import errors
from .._core import codec


class WorkerDied(errors.WorkerDied, BrokenProcessPool):
    """The worker process ended while it ran this call.  Unlike with the standard library, the executor goes on."""


class InitializerError(errors.InitializerError, BrokenProcessPool):
    """The initializer failed in a worker, so that no call can run."""


class PoolTerminated(errors.PoolTerminated, BrokenProcessPool):
    """The pool was terminated before this call was done."""


class TaskCancelled(errors.TaskCancelled, BrokenProcessPool):
    """``kill_workers()`` ended the call while it ran.  (One that had not started is cancelled: ``CancelledError``.)"""


class PoolClosed(errors.PoolClosed, RuntimeError):
    """A call was given to an executor, or to a pool, that takes none any more."""


class UnpicklableError(errors.UnpicklableError, PicklingError):
    """The arguments or the result of a call cannot be pickled."""


_BOTH: dict[type[errors.ForkfulError], type[errors.ForkfulError]] = {
    errors.WorkerDied: WorkerDied,
    errors.InitializerError: InitializerError,
    errors.PoolTerminated: PoolTerminated,
    errors.TaskCancelled: TaskCancelled,
    errors.PoolClosed: PoolClosed,
    errors.UnpicklableError: UnpicklableError,
}


def as_both(error: BaseException) -> BaseException:
    """*error* in the class here that it belongs to, with all it has to tell; itself where there is none.

    A remote traceback is of the class that ``ProcessPoolExecutor`` gives it, for those who look.
    """
    codec.recast_traceback(error, _RemoteTraceback)
    for ours, both in _BOTH.items():
        if isinstance(error, ours) and not isinstance(error, both):
            twin = both(*error.args, **vars(error))
            twin.__cause__ = error.__cause__
            return twin
    return error
