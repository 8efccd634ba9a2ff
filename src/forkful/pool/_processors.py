"""How many processors there are to use: what is bound, what is allotted, what the user says."""

from __future__ import annotations

import os

from .._core import cgroups


def cpu_count() -> int:
    """How many processors this process may use.

    ``FORKFUL_CPU_COUNT`` in the environment overrides what the system says.  Else it is the smaller of two: the processors
    that this process is bound to (its affinity, not all those of the machine), and the time that it is allotted: the CPU
    quota of its control group and of those above it (``docker run --cpus=1.5``), rounded up.

    Raises:
        ValueError: ``FORKFUL_CPU_COUNT`` is not a positive whole number.

    >>> cpu_count() >= 1
    True
    """
    override = os.environ.get("FORKFUL_CPU_COUNT")
    if override:
        if not override.isdecimal() or int(override) < 1:
            raise ValueError(f"FORKFUL_CPU_COUNT is {override!r}; set it to a whole number from 1 up, or unset it")
        return int(override)
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if bound == 1:
        return 1
    version, folders = cgroups.chain("cpu")
    quotas = [quota for folder in folders if (quota := read_quota(version, folder)) is not None]
    return max(1, min([bound, *quotas]))


def read_quota(version: int, folder: str) -> int | None:
    """The processors that the control group in *folder* is allotted, rounded up; None for as many as there are."""
    if version == 2:
        quota, _, period = cgroups.read(f"{folder}/cpu.max").partition(" ")
    else:
        quota, period = cgroups.read(f"{folder}/cpu.cfs_quota_us"), cgroups.read(f"{folder}/cpu.cfs_period_us")
    return parse_quota(quota.strip(), period.strip())


def parse_quota(quota: str, period: str) -> int | None:
    """How many processors *quota* microseconds in each *period* are, rounded up; None where there is no such limit.

    Version 2 says ``max`` for no limit, version 1 ``-1``, and a group that cannot be limited has no file.

    >>> parse_quota("150000", "100000"), parse_quota("max", "100000"), parse_quota("", "")
    (2, None, None)
    """
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return -(-int(quota) // int(period))
