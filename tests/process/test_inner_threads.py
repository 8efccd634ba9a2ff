"""Workers and their libraries' threads do not outnumber the processors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import forkful
from forkful._core.inner_threads import VARIABLES

from .support import WATCHDOG, Program


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing that the user has set."""
    monkeypatch.setenv("FORKFUL_CPU_COUNT", "8")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("processes", "each"), [(2, 4), (3, 2), (8, 1), (100, 1), ((1, 4), 2)])
def test_processors_are_shared(processes: int | tuple[int, int], each: int) -> None:
    """Rounded down, and one at least."""
    with forkful.Pool(processes, context="fork") as pool:
        assert pool.apply_async(os.getenv, ("OMP_NUM_THREADS",)).get(WATCHDOG) == str(each)


def test_environment_of_a_worker(start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own settings stay, also those made since the mold started; this process's are as they were."""
    before = dict(os.environ)
    with forkful.Pool(2, context=start_method, maxtasksperchild=1) as pool:
        told = {name: pool.apply_async(os.getenv, (name,)).get(WATCHDOG) for name in VARIABLES}
        assert told == dict.fromkeys(VARIABLES, "4")
        assert dict(os.environ) == before
        monkeypatch.setenv("MKL_NUM_THREADS", "7")
        pool.apply_async(os.getpid).get(WATCHDOG)  # by a worker that may have started before
        pool.apply_async(os.getpid).get(WATCHDOG)
        assert pool.apply_async(os.getenv, ("MKL_NUM_THREADS",)).get(WATCHDOG) == "7"


CODE = """
import numpy, threadpoolctl
import forkful
def threads(_=None):
    return [library["num_threads"] for library in threadpoolctl.threadpool_info()]
if __name__ == "__main__":
    for method in ("fork", "forkserver", "spawn"):
        with forkful.Pool(2, context=method) as pool:
            print(pool.apply(threads), flush=True)
"""


def test_threads_of_a_real_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's, loaded before the fork or after it."""
    pytest.importorskip("numpy")
    pytest.importorskip("threadpoolctl")
    monkeypatch.setenv("FORKFUL_CPU_COUNT", "2")
    with Program(cwd=tmp_path, code=CODE) as program:
        for _ in range(3):
            assert set(program.line()) <= set("[1, ]")
        assert program.finish() == (0, "")
