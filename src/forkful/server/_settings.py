"""What a server is asked to do: numbers, checked once.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


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

    @property
    def is_elastic(self) -> bool:
        """Whether the number of workers follows the load."""
        return self.least < self.most
