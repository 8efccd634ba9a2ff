"""System V semaphores, through the C library: the one counter in the kernel that a dead process gives back.

``SEM_UNDO`` has the kernel undo, at the end of a process, what that process has done and not undone; a forked child has
nothing to undo.  Waits are in the kernel, first come first served, with a time-out of its own.

Source: semop(2), semctl(2).  No binding that is kept up has these, and it is three calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time

_UNDO = 0x1000
_NOWAIT = 0o4000
_PRIVATE = 0
_REMOVE, _GET_VALUE, _SET_VALUE = 0, 12, 16  # as Linux has them
MOST = 32767  # SEMVMX

_libc = ctypes.CDLL(None, use_errno=True)


class _Operation(ctypes.Structure):
    _fields_ = (("number", ctypes.c_ushort), ("change", ctypes.c_short), ("flags", ctypes.c_short))


class _Duration(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def create(value: int) -> int:
    """A new semaphore of *value*; its number, by which every process of this user finds it until it is removed.

    Raises:
        OSError: the system has no more of them.
    """
    number: int = _libc.semget(_PRIVATE, 1, 0o600)
    if number < 0:
        raise _error()
    if _libc.semctl(number, 0, _SET_VALUE, ctypes.c_int(value)) < 0:
        raise _error()
    return number


def value_of(number: int) -> int:
    """How many permits are left."""
    value: int = _libc.semctl(number, 0, _GET_VALUE)
    if value < 0:
        raise _error()
    return value


def take(number: int, timeout: float | None) -> bool:
    """Take a permit, waiting for at most *timeout* seconds (0: not at all; None: as long as it takes); whether it was had."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        flags = _UNDO | (_NOWAIT if left == 0 else 0)
        operation = _Operation(0, -1, flags)
        if left is None:
            failed = _libc.semop(number, ctypes.byref(operation), 1)
        else:
            duration = _Duration(int(left), int(left % 1 * 1e9))
            failed = _libc.semtimedop(number, ctypes.byref(operation), 1, ctypes.byref(duration))
        if not failed:
            return True
        code = ctypes.get_errno()
        if code == errno.EAGAIN:  # also where the time is up
            return False
        if code != errno.EINTR:  # a signal, whose handler has run by now: go on waiting
            raise OSError(code, os.strerror(code))


def give_back(number: int) -> None:
    """Give a permit back."""
    operation = _Operation(0, 1, _UNDO)
    while _libc.semop(number, ctypes.byref(operation), 1) < 0:
        if ctypes.get_errno() != errno.EINTR:
            raise _error()


def remove(number: int) -> None:
    """There is no such semaphore any more; whoever waits for it gets an error."""
    if _libc.semctl(number, 0, _REMOVE) < 0:
        raise _error()


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
