"""How a map is to run, checked in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from forkful.apps.problems import UsageProblem
from forkful.apps.spellings import MOST_JOBS, parse_duration

from .halting import Halt
from .output import FSYNC

__all__ = ["Settings", "Share", "read_duration", "read_timeout"]

_SHARE = re.compile(r"(\d{1,6}(?:\.\d*)?)\s*%", re.ASCII)


class Share(NamedTuple):
    """A time-out that is a share of the median."""

    percent: float

    @classmethod
    def parse(cls, text: str) -> Share:
        """``300%``.  Raises `UsageProblem`."""
        match = _SHARE.fullmatch(text.strip())
        if match is None or float(match[1]) <= 0:
            raise UsageProblem(f"{text!r} is no time-out; write 30s, or a share of the median such as 300%")
        return cls(float(match[1]))


def read_timeout(text: str) -> float | Share:
    """``30s``, or a share of the median.  Raises `UsageProblem`."""
    if text.strip().endswith("%"):
        return Share.parse(text)
    return read_duration(text)


def read_duration(text: str) -> float:
    """``30s``.  Raises `UsageProblem`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageProblem(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Settings:
    """See `map_file`, whose words these are, but for `by_keyword`, which is its ``kwargs``."""

    processes: int = 1
    threads: int = 1
    timeout: float | Share | None = None
    retries: int = 0
    backoff: float | None = None
    retry_on: tuple[str, ...] | None = None
    halt: Halt | None = None
    max_memory: int | str | None = None
    by_keyword: bool = False
    id_field: str | None = None
    resume: bool = False
    retry_failed: bool = False
    force: bool = False
    overwrite: bool = False
    keep_order: bool = False
    sample: int | None = None
    shuffle: bool = False
    seed: int | None = None
    with_input: bool = True
    joblog: str | None = None
    trace: str | None = None
    logs: str | None = None
    fsync: str = "end"

    def check(self) -> None:
        """Raises `UsageProblem` for what cannot be."""
        for name in ("processes", "threads", "retries", "sample", "seed"):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
                raise UsageProblem(f"{name}={number!r} is not a whole number; write one such as 2")
        for name in ("timeout", "backoff"):
            number = getattr(self, name)
            if number is not None and not isinstance(number, int | float | Share):
                raise UsageProblem(f"{name}={number!r} is not a number of seconds; write one such as 30.0")
        if self.halt is not None and not isinstance(self.halt, Halt):
            raise UsageProblem(f"halt={self.halt!r} is no way to halt; write 'now,fail=1' or 'soon,fail=10%'")
        if self.processes < 1:
            raise UsageProblem(f"processes={self.processes} is too few; ask for 1 or more")
        if self.processes > MOST_JOBS:
            raise UsageProblem(f"processes={self.processes} is too many; ask for {MOST_JOBS} or fewer")
        if not 1 <= self.threads <= 240:
            raise UsageProblem(f"threads={self.threads} cannot be; ask for 1 to 240")
        if isinstance(self.timeout, float | int) and not self.timeout > 0:
            raise UsageProblem(f"timeout={self.timeout} is no time to wait for; give more than 0 seconds, or None")
        if self.retries < 0:
            raise UsageProblem(f"retries={self.retries} is less than none; give 0 or more")
        if self.backoff is not None and not self.backoff > 0:
            raise UsageProblem(f"backoff={self.backoff} is no time to wait for; give more than 0 seconds, or None")
        if not self.retries and (self.backoff is not None or self.retry_on is not None):
            option = "--backoff" if self.retry_on is None else "--retry-on"
            raise UsageProblem(f"{option} says how to try again, and nothing is; add --retries 2")
        if self.sample is not None and self.sample < 1:
            raise UsageProblem(f"sample={self.sample} is nothing to run; ask for 1 or more")
        if self.seed is not None and not self.shuffle and self.sample is None:
            raise UsageProblem("--seed is of a choice by chance; add --shuffle or --sample")
        if self.overwrite and self.resume:
            raise UsageProblem("--overwrite begins anew, and --resume goes on; say one of them")
        if self.force and not self.resume:
            raise UsageProblem("--force is for --resume; add that, or say --overwrite to begin anew")
        if self.fsync not in FSYNC:
            raise UsageProblem(f"fsync={self.fsync!r} is not known; say one of {', '.join(FSYNC)}")

    def count_up_to(self, shown: bool) -> int | None:
        """How many inputs are worth counting: all where somebody looks, else as many as there are hands."""
        return None if shown or self.sample is not None else self.processes * self.threads

    def count(self, total: int | None) -> int | None:
        """How many inputs there are to run, of *total*."""
        if self.sample is None:
            return total
        return self.sample if total is None else min(total, self.sample)
