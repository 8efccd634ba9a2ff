"""The check of conftest.py against tests that leak, and against tests that only look as if they did."""

from __future__ import annotations

from pathlib import Path

import pytest

SUITE = """
import ctypes, os, subprocess, sys, threading, unittest
import tests.leaks

never = threading.Event()
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_clean():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with open(os.devnull):
        pass


def test_ending_by_itself():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.2)"], stdout=subprocess.PIPE)
    threading.Thread(target=child.communicate).start()


def test_garbage():
    cycle = [open(os.devnull)]
    cycle.append(cycle)


def test_child():
    tests.leaks.GRACE = tests.leaks.SETTLE = 0.1  # from here on there is nothing to wait for
    global child
    child = subprocess.Popen(SLEEP)
    print("pid", child.pid)


def test_zombie():
    if os.fork() == 0:
        os._exit(0)


def test_orphan():
    program = f"import subprocess; print('pid', subprocess.Popen({SLEEP}, stdout=subprocess.DEVNULL).pid)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_thread():
    threading.Thread(target=never.wait, name="forgotten", daemon=True).start()


def test_descriptor():
    os.open(os.devnull, os.O_RDONLY)


def test_shm():
    with open("/dev/shm/NAME", "w"):
        pass


class TestOfClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.held, cls.leaked = os.pipe()

    @classmethod
    def tearDownClass(cls):
        os.close(cls.held)

    def test_one(self):
        pass

    def test_two(self):
        type(self).later = os.dup(self.leaked)


def test_clean_again():
    pass
"""
"""GRACE is short here, since most of these wait for nothing."""


@pytest.fixture
def shm_file(tmp_path: Path) -> Path:
    # The folder's name is this test's own, also when two suites run on one machine.
    return Path("/dev/shm") / f"forkful-leak-check-{'-'.join(tmp_path.parts[-3:])}"


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="this system has no /dev/shm")
def test_each_kind_of_leak_fails_the_test_that_leaks(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, shm_file: Path
) -> None:
    pytester.makepyfile(test_suite=SUITE.replace("/dev/shm/NAME", str(shm_file)))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    monkeypatch.setenv("COLUMNS", "500")  # so that the summary's lines are whole
    try:
        result = pytester.runpytest_subprocess("-p", "tests.conftest", "-p", "no:cacheprovider", "-rA", "-s")
    finally:
        shm_file.unlink(missing_ok=True)

    result.assert_outcomes(passed=12, errors=7)
    result.stdout.fnmatch_lines_random(
        [
            "ERROR test_suite.py::test_child - Failed: this test left behind: process *time.sleep(600)",
            "ERROR test_suite.py::test_zombie - Failed: this test left behind: process *: has ended, but nobody has waited *",
            "ERROR test_suite.py::test_orphan - Failed: this test left behind: process *time.sleep(600)",
            "ERROR test_suite.py::test_thread - Failed: this test left behind: thread 'forgotten' (daemon)",
            "ERROR test_suite.py::test_descriptor - Failed: this test left behind: descriptor *: /dev/null",
            f"ERROR test_suite.py::test_shm - Failed: this test left behind: {shm_file}",
            "ERROR test_suite.py::TestOfClass::test_two - Failed: this class left behind: descriptor *: pipe:*",
        ]
    )
    pids = [line.split()[-1] for line in result.outlines if "pid " in line]
    assert len(pids) == 2
    assert not [pid for pid in pids if is_running(pid)]
    assert "the whole run left behind" not in result.stdout.str()


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_module_leaves_fails_the_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile("""
        import os
        import pytest

        @pytest.fixture(scope="module", autouse=True)
        def pipe():
            yield os.pipe()

        def test_passes():
            pass
    """)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    result = pytester.runpytest_subprocess("-p", "tests.conftest", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["the whole run left behind: descriptor *: pipe:*"])
