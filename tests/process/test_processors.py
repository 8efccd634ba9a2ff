"""The number of processors in a control group with a real quota."""

from __future__ import annotations

from pathlib import Path

import pytest

import forkful

from .cgroups import Group
from .support import Program

CODE = """
import os
os.environ.pop("FORKFUL_CPU_COUNT", None)
import forkful
print(forkful.cpu_count())
"""


@pytest.mark.skipif(forkful.cpu_count() < 2, reason="there is one processor to be had")
def test_quota_of_a_real_group(tmp_path: Path) -> None:
    """Half a processor is one."""
    v1 = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}
    with Group("cpu", v1, {"cpu.max": "50000 100000"}) as group:
        with Program(cwd=tmp_path, code=group.join_code() + CODE) as program:
            assert program.line() == "1"
            assert program.finish() == (0, "")
