"""How times and numbers of processes are written, in options and in files."""

from __future__ import annotations

import math
import re

__all__ = ["MOST_JOBS", "parse_duration", "parse_jobs"]

MOST_JOBS = 4096  # processes: more than any machine has use for, fewer than bring one down

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+\.?\d*|\.\d+)\s*"
_PLAIN = re.compile(_PART, re.ASCII)
_DURATION = re.compile(rf"(?:{_PART}(?:ms|s|m|h|d)\s*)+", re.ASCII)
_PARTS = re.compile(rf"{_PART}(ms|s|m|h|d)", re.ASCII)
_JOBS = re.compile(r"([+-]?)0*(\d+)(\s*%)?", re.ASCII)


def parse_duration(text: str) -> float:
    """A time in seconds, more than zero: ``30s``, ``5m``, ``1h30m``, ``250ms``, or plain seconds.

    Raises ValueError with what is wrong and what to write.

    >>> parse_duration("5m"), parse_duration("1.5")
    (300.0, 1.5)
    """
    written = text.strip()
    if _PLAIN.fullmatch(written):
        seconds = float(written)
    elif _DURATION.fullmatch(written):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PARTS.findall(written))
    else:
        raise ValueError(f"{text!r} is not a time; write 30s, 5m, 1h30m or plain seconds")
    if seconds <= 0 or not math.isfinite(seconds):
        raise ValueError(f"{text!r} is no time to wait for; write more than zero, such as 30s or 5m")
    return seconds


def parse_jobs(text: str, cpus: int) -> int:
    """A number of processes, 1 to `MOST_JOBS`: ``4``, or a share of *cpus*: ``50%``, rounded, and never below one.

    Raises ValueError with what is wrong and what to write.

    >>> parse_jobs("4", cpus=8), parse_jobs("50%", cpus=8)
    (4, 4)
    """
    match = _JOBS.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a number of processes; write one such as 4, or a share of the CPUs such as 50%"
        )
    number = int(match[2][:10])  # of more digits, ten say enough
    if match[1] == "-" or number < 1:
        raise ValueError(f"{text!r} is too few processes; write 1 or more, or a share of the CPUs such as 50%")
    jobs = max(1, round(cpus * number / 100)) if match[3] else number
    if jobs > MOST_JOBS:
        raise ValueError(f"{text[:20]!r} is too many processes; write {MOST_JOBS} or fewer, or a share such as 50%")
    return jobs
