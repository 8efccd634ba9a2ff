"""What a server is asked to do: numbers, checked once.  Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from forkful._core.quantities import check_duration, check_memory, check_whole

__all__ = ["Settings", "check_seconds", "check_settings"]

MOST = 1_000_000
"""Of whatever is counted: what is more is a mistake."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Numbers of a server; times are seconds.

    Attributes:
        least: worker processes that are always there.
        most: worker processes under load; the same as `least` for a fixed number.
        threads: seats of one worker: connections that it serves at the same time.
        spare: idle seats in all the server, below which another worker is started.
        idle_timeout: how long seats must have been idle before the workers that could be done without leave.
        timeout: how long one request (one connection, for a raw handler) may take; None: as long as it likes.
        drain_timeout: how long a worker that is to leave may go on with what it serves.
        ready_timeout: how long a new worker may take to load the handler.
        max_requests: after how many requests a worker is replaced; None: never.
        max_requests_jitter: up to how many requests later, by chance, so that workers do not leave together.
        max_memory: bytes, resident, above which a worker is replaced; None: never.
    """

    least: int = 1
    most: int = 1
    threads: int = 1
    spare: int = 1
    idle_timeout: float = 10.0
    timeout: float | None = None
    drain_timeout: float = 30.0
    ready_timeout: float = 60.0
    max_requests: int | None = None
    max_requests_jitter: int = 0
    max_memory: int | None = None


def check_settings(
    *,
    processes: Any = 1,
    threads: Any = 1,
    spare: Any = 1,
    idle_timeout: Any = 10.0,
    timeout: Any = None,
    drain_timeout: Any = 30.0,
    ready_timeout: Any = 60.0,
    max_requests: Any = None,
    max_requests_jitter: Any = 0,
    max_memory: Any = None,
) -> Settings:
    """The settings that a user means.

    Raises:
        TypeError, ValueError: one of them cannot be; the message is one line.
    """
    least, most = _check_processes(processes)
    return Settings(
        least=least,
        most=most,
        threads=_check_count("threads", threads),
        spare=_check_count("spare", spare),
        idle_timeout=check_seconds("idle_timeout", idle_timeout),
        timeout=None if timeout is None else check_seconds("timeout", timeout),
        drain_timeout=check_seconds("drain_timeout", drain_timeout),
        ready_timeout=check_seconds("ready_timeout", ready_timeout),
        max_requests=None if max_requests is None else _check_count("max_requests", max_requests),
        max_requests_jitter=_check_count("max_requests_jitter", max_requests_jitter, least=0),
        max_memory=None if max_memory is None else check_memory("max_memory", max_memory),
    )


def _check_processes(processes: Any) -> tuple[int, int]:
    if not isinstance(processes, tuple):
        number = _check_count("processes", processes)
        return number, number
    if len(processes) != 2:
        raise TypeError(f"processes must be a number, or (least, most), not {processes!r}")
    least, most = (_check_count("processes", number) for number in processes)
    if least > most:
        raise ValueError(f"processes: the least, {least}, is more than the most, {most}; write ({most}, {least})?")
    return least, most


def _check_count(name: str, number: Any, least: int = 1) -> int:
    number = check_whole(name, number)
    if not least <= number <= MOST:
        raise ValueError(f"{name} must be {least} to {MOST}, not {number}")
    return int(number)


def check_seconds(name: str, seconds: Any) -> float:
    """A time, for the argument *name*.

    Raises:
        TypeError, ValueError: it is none, or not more than zero.
    """
    nanoseconds = check_duration(name, seconds)
    return math.inf if nanoseconds is None else nanoseconds / 1e9
