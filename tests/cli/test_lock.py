"""``forkful lock``: one at a time, beside ``flock(1)``, whoever is killed; and how its end and its signals are the command's."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from forkful.cli import main
from forkful.locks import Lock

from .conftest import Shell

HOLD = ("--", "sh", "-c", "echo begun; read line; exit 4")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The locks of each test are nobody else's."""
    folder = tmp_path_factory.mktemp("locks")
    folder.chmod(0o700)
    monkeypatch.setenv("FORKFUL_LOCK_DIR", str(folder))


@contextmanager
def held(shell: Shell, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """``forkful lock`` once its command has printed a line; the command ends when it gets one, or none any more."""
    with shell.start("lock", *arguments, stdin=subprocess.PIPE, **options) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
            process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise


def flock(shell: Shell, *arguments: str) -> int:
    """The exit code of the system's own."""
    return subprocess.run(["flock", *arguments], cwd=shell.directory, check=False, timeout=60).returncode


def listed(shell: Shell) -> list[dict[str, Any]]:
    """What `--list --json` shows."""
    done = shell.run("lock", "--list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


# The command.


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["sh", "-c", "test $# = 2 && test $2 = --timeout", "x", "-n", "--timeout"], 0),  # its options are its own
        (["sh", "-c", 'test "$1" = --', "x", "--"], 0),
        (["./plain", "5"], 5),  # a script without #!
        (["./missing"], 127),
        (["no-such-command"], 127),
        ([""], 127),
        (["."], 126),
        (["./data"], 126),
        (["./odd"], 126),
    ],
)
def test_exit_codes(shell: Shell, words: list[str], code: int) -> None:
    (shell.directory / "plain").write_text("exit $1\n")
    (shell.directory / "plain").chmod(0o755)
    (shell.directory / "data").write_text("exit 0\n")
    (shell.directory / "odd").write_text("#!/no/such/interpreter\n")
    (shell.directory / "odd").chmod(0o755)
    done = shell.run("lock", "name", "--", *words)
    assert (done.returncode, done.stdout) == (code, "")
    said = {127: f"forkful: {words[0]}: there is no such command; ", 126: f"forkful: {words[0]}: cannot be started ("}
    assert done.stderr.startswith(said.get(code, ""))
    assert bool(done.stderr) == (code in said)
    assert shell.run("lock", "name", "-n", "--", "true").stderr == ""  # it was given back


def test_streams_are_the_commands(shell: Shell) -> None:
    done = shell.run("lock", "name", "--", "sh", "-c", "cat; echo err >&2", stdin="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "err\n")


def test_command_finds_signals_as_they_were(shell: Shell) -> None:
    """Not as Python sets them, nor blocked."""
    done = shell.run("lock", "name", "--", "grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status")
    blocked, ignored = (int(line.split()[1], 16) for line in done.stdout.splitlines())
    assert blocked == 0
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


# The lock.


@pytest.mark.parametrize("spelling", ["./file.lock", "sub/../file.lock"])
def test_same_exclusion_as_flock(shell: Shell, spelling: str) -> None:
    """Both ways, and shared with shared."""
    (shell.directory / "sub").mkdir()
    with held(shell, spelling, *HOLD):
        assert flock(shell, "-n", "file.lock", "true") == 1
        assert flock(shell, "-n", "-s", "file.lock", "true") == 1
    assert flock(shell, "-n", "file.lock", "true") == 0
    with held(shell, spelling, "--shared", *HOLD):
        assert flock(shell, "-n", "file.lock", "true") == 1
        assert flock(shell, "-n", "-s", "file.lock", "true") == 0
        assert shell.run("lock", "-n", "-s", spelling, "--", "true").returncode == 0
        assert shell.run("lock", "-n", spelling, "--", "true").returncode == 1

    command = ["flock", "file.lock", "sh", "-c", "echo begun; read line"]
    with subprocess.Popen(command, cwd=shell.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"begun\n"
        done = shell.run("lock", "-n", spelling, "--", "true")
        assert done.returncode == 1
        path = shell.directory / "file.lock"
        assert done.stderr.startswith(f"forkful: lock '{path}' is not free: pid {holder.pid} (flock file.lock ")
        assert shell.run("lock", "-n", "file.lock", "--", "true").returncode == 0  # a name is no file
        holder.communicate(b"\n")
    assert shell.run("lock", "-n", spelling, "--", "true").returncode == 0


def test_same_lock_as_in_python(shell: Shell) -> None:
    with held(shell, "stock", *HOLD) as process:
        lock = Lock("stock")
        assert not lock.acquire(block=False)
        holder = lock.holder()
        assert holder is not None
        assert holder.pid == process.pid
    with Lock("stock"):
        assert shell.run("lock", "-n", "stock", "--", "true").returncode == 1


def test_not_in_time(shell: Shell) -> None:
    """One line, who has it, and the exit code that was asked for; the command was not run."""
    with held(shell, "name", *HOLD) as process:
        for arguments, code, words in [
            (["--no-wait"], 1, "is not free"),
            (["--timeout", "10ms"], 1, "was not free within 0.01 s"),
            (["-w", "0.01", "-E", "75"], 75, "was not free within 0.01 s"),
            (["-n", "-E", "0"], 0, "is not free"),
        ]:
            done = shell.run("lock", "name", *arguments, "--", "touch", "ran")
            assert done.returncode == code
            assert done.stderr.startswith(f"forkful: lock 'name' {words}: pid {process.pid} (")
            assert done.stderr.endswith(") has it; nothing was run\n")
    assert not (shell.directory / "ran").exists()


@pytest.mark.parametrize("timeout", [(), ("--timeout", "1h")])
def test_waits_for_its_turn(shell: Shell, timeout: tuple[str, ...]) -> None:
    with held(shell, "name", *HOLD) as first:
        second = shell.start("lock", "name", *timeout, "--", "cat", "written", stderr=subprocess.STDOUT)
        while not listed(shell)[0]["waiters"]:  # no event tells that another process waits
            pass
        (shell.directory / "written").write_text("by then\n")
        assert second.poll() is None
        first.communicate("\n")
    assert first.returncode == 4
    assert second.communicate(timeout=60)[0] == "by then\n"


def test_lock_that_was_lost(shell: Shell) -> None:
    """Its file was taken away while the command ran: that is no success."""
    command = "rm f.lock; while ! [ -e go ]; do :; done; exit $0"
    for code, expected in [("0", 1), ("3", 3)]:
        (shell.directory / "go").touch()
        done = shell.run("lock", "./f.lock", "--", "sh", "-c", command, code)
        assert done.returncode == expected
        assert "f.lock' was lost: its file" in done.stderr


@pytest.mark.parametrize(
    "way", ["{}", "sh -c '{}; true'", "bash -c '{}; true'", sys.executable + " -c 'import os; os.system(\"{}\")'"]
)
def test_holder_waits_for_us(shell: Shell, way: str) -> None:
    """It would be so for ever."""
    forkful = f"{sys.executable} -m forkful lock"
    words = shlex.split(way.format(f"{forkful} name -- echo never"))
    done = shell.run("lock", "name", "--", *words)
    assert done.stdout == ""
    assert re.match(
        r"forkful: lock 'name' can never be had: pid \d+ \(.*\) has it, and waits for the end of this command; "
        r"leave the inner `forkful lock` out, or name another lock\n",
        done.stderr,
    )
    assert done.returncode in {0, 2}  # as the command between makes it


def test_holder_is_an_ancestor_that_goes_on(shell: Shell) -> None:
    """It is waited for."""
    os.mkfifo(shell.directory / "fifo")
    script = f"{sys.executable} -m forkful lock name -- echo had & read line <fifo"
    with shell.start("lock", "name", "--", "sh", "-c", script) as process:
        while not (found := listed(shell)) or not found[0]["waiters"]:  # no event tells that another process waits
            pass
        (shell.directory / "fifo").write_text("end\n")
        assert process.communicate(timeout=60) == ("had\n", "")
    assert process.returncode == 0


# Deaths.


def test_holder_killed(shell: Shell) -> None:
    """The command keeps the lock to its end; then the next one is told."""
    out = shell.directory / "fifo"
    os.mkfifo(out)
    with held(shell, "./f.lock", "--", "sh", "-c", "echo begun; read line <fifo") as process:
        process.kill()
        process.wait()
        assert flock(shell, "-n", "f.lock", "true") == 1
        (seen,) = listed(shell)
        assert seen["lock"] == str(shell.directory / "f.lock")
        assert seen["holder"]["command"] == "sh -c echo begun; read line <fifo"
        assert "(sh -c echo begun; read line <fifo) has it" in shell.run("lock", "-n", "./f.lock", "--", "true").stderr
        out.write_text("end\n")
        assert process.stdout is not None
        assert process.stdout.read() == ""  # it has ended
    done = shell.run("lock", "./f.lock", "--timeout", "1m", "--", "true")
    words = (
        f"the holder before ended while it held lock '{shell.directory / 'f.lock'}'; what it protects may be half done"
    )
    assert (done.returncode, done.stderr) == (0, f"forkful: {words}\n")
    assert shell.run("lock", "./f.lock", "--", "true").stderr == ""


def test_holder_killed_with_close(shell: Shell) -> None:
    out = shell.directory / "fifo"
    os.mkfifo(out)
    with held(shell, "./f.lock", "--close", "--", "sh", "-c", "echo begun; read line <fifo") as process:
        process.kill()
        process.wait()
        assert flock(shell, "-n", "f.lock", "true") == 0
        out.write_text("end\n")


def test_background_does_not_keep_it(shell: Shell) -> None:
    command = "sh -c 'echo $$ >pid; read line <fifo' >&2 & while ! [ -s pid ]; do :; done"
    os.mkfifo(shell.directory / "fifo")
    with shell.start("lock", "./f.lock", "--", "sh", "-c", command) as process:
        assert process.wait(timeout=60) == 0
        assert flock(shell, "-n", "f.lock", "true") == 0
        (shell.directory / "fifo").write_text("end\n")
        assert process.stderr is not None
        assert process.stderr.read() == ""


# Signals.

TRAP = """
trap 'echo got TERM; exit 3' TERM; trap 'echo got INT; exit 4' INT; trap 'echo got HUP; exit 5' HUP
trap 'echo got USR1; exit 6' USR1; echo begun; read line; read line
"""


@pytest.mark.parametrize(("name", "code"), [("TERM", 3), ("INT", 4), ("HUP", 5), ("USR1", 6)])
def test_signal_reaches_the_command(shell: Shell, name: str, code: int) -> None:
    """And the lock is held until the command has ended of it."""
    with held(shell, "name", "--", "sh", "-c", TRAP) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.send_signal(signal.Signals[f"SIG{name}"])
        said = process.stdout.read(), process.stderr.read()  # its input stays open: the end of that would end it too
    assert (process.returncode, *said) == (code, f"got {name}\n", "")
    assert shell.run("lock", "name", "-n", "--", "true").stderr == ""


def test_lock_is_held_while_the_command_resists(shell: Shell) -> None:
    script = "trap 'echo noted' TERM; echo begun; while ! read line; do :; done"
    with held(shell, "name", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        process.terminate()
        assert process.stdout.readline() == "noted\n"
        assert shell.run("lock", "name", "-n", "--", "true").returncode == 1
        process.communicate("\n", timeout=60)
    assert process.returncode == 0


def test_signals_that_were_to_be_ignored(shell: Shell) -> None:
    """As by nohup: they are not passed on, not even to a command that has a handler of its own."""
    script = "import signal as s; s.signal(s.SIGHUP, lambda *_: exit(9)); print('begun', flush=True); input(); exit(4)"
    command = ("--", sys.executable, "-c", script)
    with held(shell, "name", *command, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        process.send_signal(signal.SIGHUP)
        process.communicate("\n", timeout=60)
    assert process.returncode == 4


def _read_until(terminal: io.FileIO, mark: bytes) -> None:
    seen = b""
    while mark not in seen:
        seen += terminal.read(1000)


@pytest.mark.parametrize(("own_group", "code"), [(False, 11), (True, 10)])
def test_ctrl_c_at_a_terminal(shell: Shell, own_group: bool, code: int) -> None:
    """The terminal sends it to both, so it is not passed on: a command that has left the terminal's group gets none."""
    script = (
        "import os, signal, sys\n"
        "got = []\n"
        "signal.signal(signal.SIGINT, lambda *_: got.append(1))\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(10 + len(got)))\n"
        f"if {own_group}: os.setpgid(0, 0)\n"
        "print('begun', flush=True)\n"
        "while True: signal.pause()\n"
    )
    pid, leader = pty.fork()
    if not pid:
        os.execv(sys.executable, [sys.executable, "-m", "forkful", "lock", "name", "--", sys.executable, "-c", script])
    with open(leader, "r+b", buffering=0) as terminal:
        _read_until(terminal, b"begun")
        terminal.write(b"\x03")
        _read_until(terminal, b"^C")  # the terminal's echo, after it has sent the signals
        os.kill(pid, signal.SIGUSR1)
        with pytest.raises(OSError, match="Input/output error"):  # the other side has gone
            _read_until(terminal, b"never")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code


def test_terminal_goes_away(shell: Shell) -> None:
    """The kernel tells the session's leader alone, so it is passed on."""
    script = "trap 'echo $$ >hung; exit 5' HUP; echo begun; while :; do read line <fifo; done"
    os.mkfifo(shell.directory / "fifo")
    pid, leader = pty.fork()
    if not pid:
        os.chdir(shell.directory)
        os.execv(sys.executable, [sys.executable, "-m", "forkful", "lock", "name", "--", "sh", "-c", script])
    with open(leader, "r+b", buffering=0) as terminal:
        _read_until(terminal, b"begun")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert (shell.directory / "hung").exists()


def test_death_by_ctrl_c_is_ours_too(shell: Shell) -> None:
    """Else a shell would go on with its loop: it asks what its child died of, not what that returned."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        done = shell.run("lock", "name", "--", "sh", "-c", f"kill -{int(number)} $$")
        assert (done.returncode, done.stderr) == (-number, "")
        assert shell.run("lock", "name", "-n", "--", "true").stderr == ""  # it was given back before
    assert shell.run("lock", "name", "--", "sh", "-c", "exit 130").returncode == 130


# What is listed.


def test_list(shell: Shell) -> None:
    """Who holds, and who waits; by name, of those who are alive."""
    shell.run("lock", "idle", "--", "true")
    killed = shell.start("lock", "killed", "--close", "--", "sh", "-c", "kill -KILL $PPID")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert listed(shell) == []
    with held(shell, "b", *HOLD) as holder, held(shell, "./a.lock", "--shared", *HOLD) as reader:
        waiter = shell.start("lock", "b", "--", "true")
        while not (found := listed(shell))[1]["waiters"]:  # no event tells that another process waits
            pass
        path = str(shell.directory / "a.lock")
        assert [(lock["lock"], lock["holder"]["pid"]) for lock in found] == [(path, reader.pid), ("b", holder.pid)]
        assert [seen["pid"] for seen in found[1]["waiters"]] == [waiter.pid]
        assert found[1]["holder"]["command"].endswith(f"-m forkful lock b {' '.join(HOLD)}")
        assert found[1]["waiters"][0]["command"].endswith("-m forkful lock b -- true")
        head, first, second = shell.run("lock", "--list").stdout.splitlines()
    waiter.communicate()
    assert head.split() == ["LOCK", "PID", "SINCE", "WAITERS", "COMMAND"]
    assert first.split()[:2] == [path, str(reader.pid)]
    assert re.fullmatch(
        rf"b +{holder.pid}  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  1        \S+ -m forkful lock b .*", second
    )
    done = shell.run("lock", "--list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "forkful: nobody holds a lock, or waits for one\n")


def test_list_makes_no_files(shell: Shell) -> None:
    """Not even of a lock whose file has gone; and what a terminal would obey is not printed."""
    shell.run("lock", "./gone", "--", "true")
    (shell.directory / "gone").unlink()
    with held(shell, "bell\a\x1b[2J", *HOLD):
        text = shell.run("lock", "--list").stdout
    assert "\a" not in text
    assert "\x1b" not in text
    assert not (shell.directory / "gone").exists()


@pytest.mark.parametrize("name", ["n" * 500, "a\udcffb", "./" + "d" * 200 + "/" + "d" * 200 + "/" + "n" * 200])
def test_list_of_odd_names(shell: Shell, name: str) -> None:
    """Also where readers share it, who are not on record."""
    (shell.directory / name).parent.mkdir(parents=True, exist_ok=True)
    with held(shell, "--shared", name, *HOLD) as process:
        before = sorted(shell.directory.iterdir())
        assert [lock["holder"]["pid"] for lock in listed(shell)] == [process.pid]
        assert shell.run("lock", "--list").stderr == ""
        assert sorted(shell.directory.iterdir()) == before


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_list_without_standard_output(shell: Shell, arguments: tuple[str, ...]) -> None:
    """There is nobody to tell, as with ``>&-``."""
    with held(shell, "name", *HOLD):
        done = shell.run("lock", "--list", *arguments, stdout=None, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def test_directory_of_the_lock_is_moved(shell: Shell) -> None:
    """The lock is lost, and the command's exit code is not."""
    (shell.directory / "d").mkdir()
    done = shell.run("lock", "./d/f", "--", "sh", "-c", "mv d e; exit 3")
    assert done.returncode == 3
    assert re.fullmatch(r"forkful: lock '.*/d/f' was lost: its file, .*; leave the file where it is\n", done.stderr)


# What is asked for wrongly.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing argument 'NAME'; see `forkful lock --help`"),
        (["name"], "missing argument 'COMMAND...'; write it behind two dashes"),
        (["name", "--"], "missing argument 'COMMAND...'; write it behind two dashes"),
        (["name", "ls", "x"], "the command stands behind two dashes; write forkful lock name -- ls x"),
        (["name", "ls", "-l"], "no such option '-l'; see `forkful lock --help`"),
        (["", "--", "ls"], "a lock's name must not be empty; "),
        (["ftp://x", "--", "ls"], "there is no engine for locks at ftp://; there are "),
        (["./no/f", "--", "ls"], "lock file {here}/no/f cannot be made: its directory does not exist; make that first"),
        (["./", "--", "ls"], "lock file {here} is a directory; name a file in it"),
        (["./link", "--", "ls"], "lock file {here}/link is a symbolic link, which could lead "),
        (["name", "-n", "-w", "1", "--", "ls"], "--no-wait and --timeout contradict each other; say one"),
        (["name", "-w", "soon", "--", "ls"], "--timeout: 'soon' is not a time; write 30s"),
        (
            ["name", "-E", "300", "--", "ls"],
            "--conflict-exit-code: '300' is not an exit code; write a number from 0 to",
        ),
        (
            ["name", "-E", "abc", "--", "ls"],
            "--conflict-exit-code: 'abc' is not an exit code; write a number from 0 to",
        ),
        (
            ["name", "-w", "0", "--", "ls"],
            "--timeout: '0' is no time to wait for; write more than zero, such as 30s or 5m, or ",
        ),
        (["redis://127.0.0.1:1/x", "--", "ls"], "lock 'redis://127.0.0.1:1/x': Redis at 127.0.0.1:1 does not answer ("),
        (["./" + "n" * 300, "--", "ls"], "lock file {here}/nnnnnnn"),
        (
            ["./work.py/x", "--", "ls"],
            "lock file {here}/work.py/x cannot be made: what should be its directory is a file; ",
        ),
        (["--list", "name"], "--list shows all locks; leave NAME and COMMAND out"),
        (["--list", "--", "ls"], "--list shows all locks; leave NAME and COMMAND out"),
        (["--json"], "--json is a form of --list; say both"),
    ],
)
def test_usage_errors(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One line, exit code 2, nothing is run."""
    monkeypatch.chdir(shell.directory)
    (shell.directory / "link").symlink_to("work.py")
    assert main(["lock", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"forkful: {message.format(here=shell.directory)}")
    assert re.fullmatch(r"forkful: .+; .+\n", err)


def test_working_directory_is_removed(shell: Shell) -> None:
    (shell.directory / "gone").mkdir()
    program = "import os, sys; from forkful.cli import main; os.rmdir('../gone'); sys.exit(main(sys.argv[1:]))"
    for name, code in [("./x", 2), ("x", 0)]:
        (shell.directory / "gone").mkdir(exist_ok=True)
        words = [sys.executable, "-c", program, "lock", name, "--", "true"]
        done = subprocess.run(words, cwd=shell.directory / "gone", capture_output=True, text=True, check=False)
        said = "forkful: the working directory was removed; change to another one\n" if code else ""
        assert (done.returncode, done.stderr) == (code, said)


def test_few_descriptors(shell: Shell) -> None:
    """The command has the lock all the same."""
    limit = (20, 20)
    done = shell.run(
        "lock", "name", "--", "echo", "ran", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


def test_help_has_examples(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["lock", "--help"]) == 0
    out = capfd.readouterr().out
    assert "forkful lock [OPTIONS] NAME -- COMMAND...\n" in out
    assert "  forkful lock nightly --no-wait -- ./nightly.sh  " in out


def test_completion(shell: Shell) -> None:
    """Of options, and of the names of locks that are held."""

    def complete(*words: str) -> list[str]:
        line = {
            "COMP_WORDS": " ".join(["forkful", *words]),
            "COMP_CWORD": str(len(words)),
            "_FORKFUL_COMPLETE": "bash_complete",
        }
        done = shell.run(env={**os.environ, **line})
        return done.stdout.split()

    assert "plain,--timeout" in complete("lock", "--t")
    with held(shell, "stock", *HOLD):
        assert complete("lock", "st") == ["plain,stock", "file,st"]


def test_it_imports_nothing_needlessly() -> None:
    """The pool, and modules of the library that cost milliseconds each: a lock in a shell's loop is taken often."""
    program = "import sys; from forkful.cli import main; main(['lock', 'a', '--', 'true']); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"forkful.pool", "asyncio", "tempfile", "concurrent.futures"} & set(done.stdout.split())
