"""What a reader must know of the machine to judge the numbers."""

from __future__ import annotations

import os
import platform
import sysconfig
from datetime import UTC, datetime
from pathlib import Path


def describe_machine() -> dict[str, str]:
    """Facts by name, for people; nothing in them identifies the machine."""
    return {
        "CPU": f"{cpu_model()}, {usable_cpus()} of {os.cpu_count()} CPUs usable",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}"
        + ("" if sysconfig.get_config_var("PGO_PROF_USE_FLAG") else ", no profile-guided optimisation"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def cpu_model() -> str:
    """The processor's name as the kernel has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def usable_cpus() -> int:
    """How many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float:
    """Runnable processes, on average over the last minute: other people's work, before a run begins."""
    return os.getloadavg()[0]
