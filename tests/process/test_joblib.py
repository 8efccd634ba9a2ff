"""The joblib backend: ``Parallel`` with everything it offers, and scikit-learn on top of it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forkful import errors

from . import executor_tasks, tasks
from .support import WATCHDOG, Program, wait_for_ends
from .test_executor import Gate

joblib = pytest.importorskip("joblib")

import forkful.joblib  # noqa: E402  # not before it is known that there is a joblib

from . import joblib_tasks  # noqa: E402  # likewise

delayed = joblib.delayed


@pytest.fixture(autouse=True)
def backend() -> Iterator[None]:
    """Every call of ``Parallel`` runs on forkful, and keeps no worker for the next test."""
    with joblib.parallel_config(backend="forkful", n_jobs=2):
        yield
    forkful.joblib.release()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def squares(count: int, **options: Any) -> list[int]:
    """What ``Parallel`` makes of the first numbers."""
    results: list[int] = joblib.Parallel(**options)(delayed(pow)(number, 2) for number in range(count))
    return results


EXPECTED = [number**2 for number in range(100)]


@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
@pytest.mark.parametrize("pre_dispatch", ["all", "2*n_jobs", 3])
def test_results_are_in_order(batch_size: Any, pre_dispatch: Any) -> None:
    assert squares(100, batch_size=batch_size, pre_dispatch=pre_dispatch) == EXPECTED


def test_the_start_method_may_be_chosen(start_method: str) -> None:
    with joblib.parallel_config(backend="forkful", n_jobs=2, start_method=start_method):
        assert squares(20) == EXPECTED[:20]
    assert squares(20, backend="forkful", n_jobs=2, start_method=start_method) == EXPECTED[:20]


def test_calls_run_in_other_processes_of_this_pool() -> None:
    pids = set(joblib.Parallel(batch_size=1)(delayed(os.getpid)() for _ in range(20)))
    assert pids
    assert os.getpid() not in pids
    assert len(pids) <= 2


@pytest.mark.parametrize(("n_jobs", "workers"), [(1, 1), (3, 3), (-1, 4), (-2, 3), (-4, 1), (-9, 1), (None, 1)])
def test_n_jobs(n_jobs: int | None, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORKFUL_CPU_COUNT", "4")
    assert forkful.joblib.ForkfulBackend().effective_n_jobs(n_jobs) == workers
    assert squares(5, n_jobs=n_jobs) == EXPECTED[:5]


def test_no_jobs_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="n_jobs == 0"):
        squares(5, n_jobs=0)


def test_one_job_is_this_process() -> None:
    assert joblib.Parallel(n_jobs=1)([delayed(os.getpid)()]) == [os.getpid()]
    assert forkful.joblib._kept is None  # nor was a pool made


def test_workers_that_are_kept_may_be_dropped_without_a_warning() -> None:
    """Warnings are errors here."""
    executor = forkful.joblib._executor(2, None, {})
    pid = executor.submit(os.getpid).result(WATCHDOG)
    del executor
    forkful.joblib.release()
    assert wait_for_ends([pid]) == []


def test_workers_are_kept_for_the_next_call_of_the_same_kind() -> None:
    def pids(**options: Any) -> set[int]:
        return set(joblib.Parallel(pre_dispatch="all", **options)(delayed(os.getpid)() for _ in range(50)))

    first = pids(n_jobs=2)
    with joblib.Parallel(n_jobs=2) as parallel:
        assert squares(5) == EXPECTED[:5]
        assert parallel(delayed(pow)(number, 2) for number in range(5)) == EXPECTED[:5]
        assert parallel(delayed(pow)(number, 2) for number in range(5)) == EXPECTED[:5]
    assert pids(n_jobs=2) & first
    other = pids(n_jobs=3)
    assert not other & first
    assert wait_for_ends(first) == []
    forkful.joblib.release()
    assert wait_for_ends(other) == []


@pytest.mark.parametrize("how", ["generator", "generator_unordered"])
def test_results_may_be_had_as_they_come(how: str, gate: Gate, tmp_path: Path) -> None:
    """The second before the first, where the order does not matter."""
    log = str(tmp_path / "log")
    results = joblib.Parallel(return_as=how, batch_size=1)(
        delayed(joblib_tasks.stand_or_note)(gate.path, log, number) for number in range(10)
    )
    gate.await_arrival()
    if how == "generator":
        gate.open()
        assert list(results) == list(range(10))
    else:
        assert next(results) == 1
        gate.open()
        assert sorted(results) == [0, *range(2, 10)]


def test_a_generator_that_is_closed_gives_up_the_rest(gate: Gate, tmp_path: Path) -> None:
    log = tmp_path / "log"
    results = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=4)(
        delayed(joblib_tasks.stand_or_note)(gate.path, str(log), number) for number in range(1000)
    )
    gate.await_arrival()
    assert next(results) == 1
    with pytest.warns(UserWarning, match="still being processed by the workers have been cancelled"):
        results.close()
    gate.forget()
    assert len(log.read_text().split()) < 999
    assert squares(5) == EXPECTED[:5]


def test_an_exception_keeps_its_type_and_remote_traceback() -> None:
    with pytest.raises(LookupError, match="gone") as caught:
        joblib.Parallel()(delayed(executor_tasks.fail)("gone") for _ in range(5))
    assert "raise LookupError(what)" in str(caught.value.__cause__)
    assert squares(5) == EXPECTED[:5]


def test_a_worker_that_dies_is_an_error_and_the_next_call_works() -> None:
    with pytest.raises(errors.WorkerDied, match="was killed by SIGKILL"):
        joblib.Parallel()(delayed(executor_tasks.die)(number) for number in range(5))
    assert squares(5) == EXPECTED[:5]


def test_with_retries_a_batch_whose_worker_died_runs_again(tmp_path: Path) -> None:
    with joblib.parallel_config(backend="forkful", n_jobs=2, retries=1):
        assert joblib.Parallel()([delayed(executor_tasks.die_at_first)(str(tmp_path / "once"))]) == ["second"]


def test_a_call_that_takes_too_long_is_ended() -> None:
    """By joblib's own limit, or by that of the pool for each batch."""
    with pytest.raises(multiprocessing.TimeoutError):
        joblib.Parallel(timeout=0.1)(delayed(tasks.wait_for_ever)() for _ in range(3))
    with joblib.parallel_config(backend="forkful", n_jobs=2, timeout=0.1), pytest.raises(errors.TaskTimeout):
        joblib.Parallel()(delayed(tasks.wait_for_ever)() for _ in range(3))
    assert squares(5) == EXPECTED[:5]


def test_what_cannot_be_pickled_plainly_crosses_by_value() -> None:
    offset = 5
    assert joblib.Parallel()(delayed(lambda number: number + offset)(number) for number in range(3)) == [5, 6, 7]


def test_parallel_inside_parallel_uses_threads_and_then_nothing() -> None:
    outcomes = joblib.Parallel(batch_size=1)(delayed(joblib_tasks.square_all)([1, 2, 3]) for _ in range(4))
    for pid, backend, results in outcomes:
        assert pid != os.getpid()
        assert backend == "ThreadingBackend"
        assert results == [1, 4, 9]


def test_workers_may_have_workers_of_their_own() -> None:
    outcomes = joblib.Parallel()(delayed(joblib_tasks.use_own_workers)(4) for _ in range(2))
    for pids in outcomes:
        assert len(pids) >= 2


def test_threads_of_numerical_libraries_are_limited() -> None:
    with joblib.parallel_config(backend="forkful", n_jobs=2, inner_max_num_threads=3):
        assert set(joblib.Parallel()(delayed(joblib_tasks.threads_allowed)() for _ in range(4))) == {"3"}
    with (
        joblib.parallel_config(backend="forkful", n_jobs=2, inner_max_num_threads=3, initializer=abs),
        pytest.raises(ValueError, match="inner_max_num_threads and an initializer cannot be given together"),
    ):
        squares(2)


def test_several_threads_may_call_parallel() -> None:
    """Of one kind or of several; and an error of one is nothing to the others."""
    outcomes: dict[int, Any] = {}

    def call(number: int) -> None:
        with joblib.parallel_config(backend="forkful", n_jobs=2 + number % 2):
            if number == 3:
                try:
                    joblib.Parallel()(delayed(executor_tasks.die)(number) for number in range(50))
                except errors.WorkerDied as error:
                    outcomes[number] = type(error)
            else:
                outcomes[number] = squares(100, batch_size=1)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WATCHDOG)
    assert issubclass(outcomes.pop(3), errors.WorkerDied)
    assert outcomes == dict.fromkeys((0, 1, 2, 4), EXPECTED)


def test_shared_memory_is_left_to_threads() -> None:
    seen: list[int] = []
    joblib.Parallel(n_jobs=2, require="sharedmem")(delayed(seen.append)(number) for number in range(5))
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_an_option_that_the_pool_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        squares(2, backend="forkful", n_jobs=2, colour="red")


def test_a_fork_of_a_thread_that_makes_a_pool_can_make_one() -> None:
    with forkful.joblib._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if squares(3) == EXPECTED[:3] else 1)
    assert wait_for_ends([child]) == []
    assert os.waitpid(child, 0)[1] == 0


# scikit-learn.


SEARCH = """
import sys
import forkful.joblib, joblib
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

if __name__ == "__main__":
    inputs, classes = make_classification(n_samples=150, n_features=8, random_state=3)
    grid = {"n_estimators": [3, 7], "max_depth": [2, None]}
    with joblib.parallel_config(backend=sys.argv[1]):
        search = GridSearchCV(RandomForestClassifier(random_state=5), grid, cv=3, n_jobs=2).fit(inputs, classes)
    for name, values in search.cv_results_.items():
        if "time" not in name:
            print(name, list(values))
    print(search.best_params_, search.best_score_, list(search.predict(inputs)))
"""


def test_a_grid_search_finds_what_it_finds_on_loky(tmp_path: Path) -> None:
    """All but how long it took.  In programs of their own, because loky leaves processes behind."""
    pytest.importorskip("sklearn")
    found = []
    script = tmp_path / "search.py"
    script.write_text(SEARCH, encoding="ascii")
    environment = {**os.environ, "JOBLIB_TEMP_FOLDER": str(tmp_path)}  # loky's files, which stand in /dev/shm else
    for backend in ("forkful", "loky"):
        command = [sys.executable, str(script), backend]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert "mean_test_score" in found[0]
    assert found[0] == found[1]


# Programs.

INTERRUPTED = """
import os
import joblib
import forkful.joblib
from tests.process.tasks import wait_for_ever
def note_and_wait():
    os.write(1, b"running\\n")
    wait_for_ever()
if __name__ == "__main__":
    with joblib.parallel_config(backend="forkful", n_jobs=2):
        joblib.Parallel()(joblib.delayed(note_and_wait)() for _ in range(5))
"""


def test_ctrl_c_ends_a_program_that_waits_for_parallel(tmp_path: Path) -> None:
    with Program(cwd=tmp_path, code=INTERRUPTED) as program:
        assert program.line() == "running"
        program.interrupt()
        program.finish()
        assert "KeyboardInterrupt" in program.stderr()
        assert "in note_and_wait" not in program.stderr()


KEPT = """
import warnings; warnings.simplefilter("error")
import joblib
import forkful.joblib
if __name__ == "__main__":
    with joblib.parallel_config(backend="forkful", n_jobs=2):
        print(joblib.Parallel()(joblib.delayed(abs)(-number) for number in range(3)))
"""


def test_workers_that_are_kept_end_with_the_program(tmp_path: Path) -> None:
    with Program(cwd=tmp_path, code=KEPT) as program:
        assert program.finish() == (0, "[0, 1, 2]\n")
        assert program.stderr() == ""


def test_without_joblib_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['joblib'] = None; import forkful.joblib"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "EngineUnavailable: forkful.joblib needs joblib" in done.stderr
    assert "pip install 'forkful[joblib]'" in done.stderr
