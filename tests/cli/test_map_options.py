"""What `forkful map` can be told besides."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from .conftest import Shell

WORK = """
import os, sys, time
def price(name, amount="0", **more): return f"{name}: {float(amount) * 2}"
def whole(row): return sorted(row)
def shout(text):
    print(text.upper()); print("oh", text, file=sys.stderr)
    if text == "bad": raise ValueError(text)
    return len(text)
def hang_on_x(text):
    time.sleep(600 if text == "x" else 0.01)
    return text
def wait_a_moment(text):
    time.sleep(0.2)
    return text
def leak(text):
    leak.kept.append(bytearray(60_000_000)); return os.getpid()
leak.kept = []
def fork_children(text):
    pid = os.fork()
    if pid == 0:
        print("child", flush=True); time.sleep(0.05); os._exit(0)
    return text
def write_binary(text): os.write(1, bytes(range(256)) * 10); return text
def third_time(text):
    with open(text, "a") as file: file.write(f"{time.time()}\\n")
    times = open(text).read().split()
    if len(times) < 3: raise (OSError if text == "os" else KeyError)(text)
    return [float(b) - float(a) for a, b in zip(times, times[1:])]
"""


@pytest.fixture
def shop(shell: Shell) -> Shell:
    """A directory with more functions."""
    (shell.directory / "shop.py").write_text(WORK)
    return shell


def lines_of(path: Path) -> list[dict[str, object]]:
    """The records, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_tables_as_keyword_arguments(shop: Shell) -> None:
    """Columns are arguments; a row of another length is a failed record with its line."""
    shop.write("in.csv", "name,amount,size", "tea,1.5,L", "milk,2", '"a, b",3,S')
    done = shop.run("map", "shop.py:price", "in.csv", "-o", "out.jsonl", "-k", "--kwargs", "--id-field", "name")
    assert done.returncode == 1
    first, second, third = lines_of(shop.out)
    assert (first["id"], first["result"], first["input"]) == (
        "tea",
        "tea: 3.0",
        {"name": "tea", "amount": "1.5", "size": "L"},
    )
    assert (third["id"], third["result"]) == ("a, b", "a, b: 6.0")
    assert second["error"] == {
        "type": "InputNotTable",
        "message": "in.csv line 3 has 2 columns, and the first line names 3: name, amount, size; mend it",
        "traceback": None,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["shop.py:whole", "--kwargs"],
            "shop.py:whole cannot be called with the columns name, amount: missing a required",
        ),
        (
            ["shop.py:price", "--kwargs", "--id-field", "sku"],
            "in.csv: has no column 'sku', but name, amount; name one of these",
        ),
    ],
)
def test_columns_that_do_not_fit(shop: Shell, options: list[str], message: str) -> None:
    """Found before anything is started."""
    shop.write("in.csv", "name,amount", "tea,1.5")
    done = shop.run("map", options[0], "in.csv", "-o", "out.jsonl", *options[1:])
    assert (done.returncode, done.stderr.startswith(f"forkful: {message}"), shop.out.exists()) == (2, True, False), (
        done.stderr
    )


def test_rows_as_one_argument(shop: Shell) -> None:
    """Without --kwargs a row is a dict; from standard input, with --format."""
    done = shop.run("map", "shop.py:whole", "-", "--format", "tsv", stdin="b\ta\n1\t2\n")
    assert json.loads(done.stdout)["result"] == ["a", "b"]


def test_compressed_inputs(shell: Shell) -> None:
    """As they are named."""
    (shell.directory / "in.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n[2]\n'))
    done = shell.run("map", "work.py:echo", "in.jsonl.gz", "-k")
    assert [json.loads(line)["result"] for line in done.stdout.splitlines()] == [{"a": 1}, [2]]


def test_duplicate_ids(shell: Shell) -> None:
    """The second is a failure with its line, and nothing is lost; --resume leaves it."""
    shell.write("in.jsonl", '{"k": "x", "v": 1}', '{"k": "y", "v": 2}', '{"k": "x", "v": 3}')
    run = ["map", "work.py:echo", "in.jsonl", "-o", "out.jsonl", "-k", "--id-field", "k"]
    assert shell.run(*run).returncode == 1
    records = lines_of(shell.out)
    assert [record["ok"] for record in records] == [True, True, False]
    assert [record["id"] for record in records[:2]] == ["x", "y"]
    assert str(records[2]["id"]).startswith("?")
    error = records[2]["error"]
    assert isinstance(error, dict)
    assert error["type"] == "DuplicateId"
    assert error["message"].startswith("in.jsonl line 3 has the k 'x' of an input before it")
    again = shell.run(*run, "--resume")
    assert again.returncode == 1
    assert "0 done" in again.stderr
    assert lines_of(shell.out) == records


def test_ids_of_any_form(shell: Shell) -> None:
    """--resume knows them all, those of inputs without one too."""
    shell.write(
        "in.jsonl", '{"k": "issue#1"}', '{"k": "issue#2"}', '{"a": 1}', '{"k": null}', "bad", '{"k": "issue#1", "b": 2}'
    )
    run = ["map", "work.py:echo", "in.jsonl", "-o", "out.jsonl", "--id-field", "k"]
    assert shell.run(*run).returncode == 1
    before = shell.out.read_bytes()
    assert len(before.splitlines()) == 6
    again = shell.run(*run, "--resume")
    assert "0 done" in again.stderr
    assert shell.out.read_bytes() == before
    shell.write("in.jsonl", '{"k": "issue"}', '{"k": "issue#1"}')
    assert "1 done" in shell.run(*run, "--resume").stderr
    dry = shell.run("map", "work.py:echo", "in.jsonl", "-o", "out.jsonl", "--dry-run", "--resume")
    assert (dry.returncode, "its ids are made from --id-field k" in dry.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--joblog", "in.txt"], "in.txt: is an input too"),
        (["--trace", "work.py"], "work.py: is the program of FUNC or --init"),
        (["--joblog", "out.jsonl"], "out.jsonl: is the output too; write each to a file of its own"),
        (["--joblog", "x", "--trace", "./x"], "./x: is to be written too"),
        (["--joblog", "out.jsonl.job"], "out.jsonl.job: is to be written too"),
        (["--joblog", "kept", "--trace", "no/x"], "no/x: there is no directory no; make it first"),
        (["out.jsonl.job"], "out.jsonl.job: is an input too"),
    ],
)
def test_places_that_are_taken(shell: Shell, options: list[str], message: str) -> None:
    """Nothing is emptied or replaced that is somebody else's."""
    shell.write("in.txt", "a")
    shell.write("kept", "precious")
    if options == ["out.jsonl.job"]:
        shell.write("out.jsonl.job", "a")
    before = {path: path.read_bytes() for path in shell.directory.iterdir() if path.is_file()}
    done = shell.run("map", "work.py:echo", "in.txt", *options, "-o", "out.jsonl")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert {path: path.read_bytes() for path in shell.directory.iterdir() if path.is_file()} == before


def test_somebody_elses_file_beside_the_output(shell: Shell) -> None:
    """It is not replaced."""
    shell.write("in.txt", "a")
    shell.write("out.jsonl.job", "my job")
    done = shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl")
    assert (done.returncode, "does not describe a job" in done.stderr) == (2, True)
    assert (shell.directory / "out.jsonl.job").read_text() == "my job\n"


def test_logs_that_vanish(shop: Shell) -> None:
    """The job stops, what is written is whole, and the status says so."""
    (shop.directory / "rude.py").write_text(
        "import shutil\ndef f(text):\n    shutil.rmtree('logs', ignore_errors=True); print(text); return text\n"
    )
    shop.write("in.txt", "a", "b", "c")
    done = shop.run("map", "rude.py:f", "in.txt", "-o", "out.jsonl", "-j", "1", "--logs", "logs")
    assert done.returncode == 1
    assert "cannot write logs/" in done.stderr
    assert shop.run("map", "--status", "out.jsonl").stdout.startswith("out.jsonl: stopped\n")


def test_timeout_by_the_median(shop: Shell) -> None:
    """Once five have a result, what takes much longer is ended, also what had begun before."""
    shop.write("in.txt", "x", *[f"quick {number}" for number in range(20)])
    done = shop.run("map", "shop.py:hang_on_x", "in.txt", "-o", "out.jsonl", "-j", "2", "--timeout", "300%")
    assert done.returncode == 1
    records = {record["input"]: record for record in lines_of(shop.out)}
    assert len(records) == 21
    error = records["x"]["error"]
    assert isinstance(error, dict)
    assert error["type"] == "TaskTimeout"
    assert "ran longer than --timeout 1s" in error["message"]


def test_threads(shop: Shell) -> None:
    """One process works on sixteen inputs at once."""
    shop.write("in.txt", *map(str, range(64)))
    begun = time.monotonic()
    done = shop.run("map", "shop.py:wait_a_moment", "in.txt", "-o", "out.jsonl", "-j", "1", "--threads", "32")
    took = time.monotonic() - begun
    assert done.returncode == 0
    assert len({record["pid"] for record in lines_of(shop.out)}) == 1
    assert took < 8  # alone it would be 12.8 s


def test_max_memory(shop: Shell) -> None:
    """A worker that holds too much is replaced between two inputs; none is lost."""
    shop.write("in.txt", *map(str, range(6)))
    done = shop.run("map", "shop.py:leak", "in.txt", "-o", "out.jsonl", "-j", "1", "--max-memory", "150MB")
    assert done.returncode == 0, done.stderr
    pids = {record["result"] for record in lines_of(shop.out)}
    assert len(lines_of(shop.out)) == 6
    assert len(pids) >= 2


def test_logs(shop: Shell) -> None:
    """What the function prints is in files of its input, and nowhere else."""
    shop.write("in.txt", "good", "bad")
    done = shop.run("map", "shop.py:shout", "in.txt", "-o", "out.jsonl", "--id-field", "k", "--logs", "logs")
    assert done.returncode == 2
    done = shop.run("map", "shop.py:shout", "in.txt", "-o", "out.jsonl", "--logs", "logs")
    assert done.returncode == 1
    ids = {record["input"]: record["id"] for record in lines_of(shop.out)}
    logs = {path.name: path.read_text() for path in (shop.directory / "logs").iterdir()}
    assert logs == {
        f"{ids['good']}.out": "GOOD\n", f"{ids['good']}.err": "oh good\n", f"{ids['bad']}.out": "BAD\n", f"{ids['bad']}.err": "oh bad\n",
    }  # fmt: skip
    assert "GOOD" not in done.stdout + done.stderr


def test_joblog_and_trace(shop: Shell) -> None:
    """A line, and an event, for each input; --resume appends to the log."""
    shop.write("in.txt", "good", "bad")
    run = ["map", "shop.py:shout", "in.txt", "-o", "out.jsonl", "--joblog", "log.tsv", "--trace", "trace.json"]
    assert shop.run(*run).returncode == 1
    rows = [line.split("\t") for line in (shop.directory / "log.tsv").read_text().splitlines()]
    assert sorted((row[0], row[6], row[8]) for row in rows[1:]) == [
        ("1", "0", 'shout "good"'),
        ("2", "1", 'shout "bad"'),
    ]
    events = json.loads((shop.directory / "trace.json").read_text())
    assert sorted(event["args"]["input"] for event in events) == ['"bad"', '"good"']
    shop.write("in.txt", "good", "bad", "more")
    assert shop.run(*run, "--resume").returncode == 1
    assert len((shop.directory / "log.tsv").read_text().splitlines()) == 4


def test_sample_and_shuffle(shell: Shell) -> None:
    """By chance, and by the same chance with the same seed; --resume does what remains."""
    shell.write("in.txt", *map(str, range(100)))
    run = ["map", "work.py:echo", "in.txt", "-k"]
    mixed = [json.loads(line)["input"] for line in shell.run(*run, "--shuffle", "--seed", "1").stdout.splitlines()]
    assert sorted(mixed, key=int) == [str(number) for number in range(100)]
    assert mixed != sorted(mixed, key=int)
    some = shell.run(*run, "--sample", "7", "--seed", "1", "-o", "out.jsonl")
    assert some.returncode == 0
    assert len(lines_of(shell.out)) == 7
    shell.run(*run, "-o", "out.jsonl", "--resume", "--shuffle")
    assert sorted(int(str(record["input"])) for record in lines_of(shell.out)) == list(range(100))


def test_records_without_inputs(shell: Shell) -> None:
    """--no-input; they can be resumed all the same."""
    shell.write("in.txt", "a", "b")
    run = ["map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--no-input"]
    assert shell.run(*run).returncode == 0
    assert all("input" not in record for record in lines_of(shell.out))
    assert "0 done" in shell.run(*run, "--resume").stderr


def test_children_of_a_function_can_be_terminated(shell: Shell) -> None:
    """By SIGTERM, which workers themselves leave to the parent; also where it comes as the child begins."""
    shell.write(
        "terminating.py",
        "import os, signal, time",
        "def own(text):",
        "    pid = os.fork()",
        "    if not pid:",
        "        time.sleep(600)",
        "    os.kill(pid, signal.SIGTERM)",
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
        "def pool(text):",
        "    import multiprocessing",
        "    with multiprocessing.get_context('fork').Pool(2) as pool:",
        "        return sum(pool.map(len, [text, text]))",
    )
    shell.write("in.txt", *map(str, range(20)))
    for function in ("own", "pool"):
        done = shell.run("map", f"terminating.py:{function}", "in.txt", "-o", "out.jsonl", "--overwrite")
        assert done.returncode == 0, done.stderr
        results = [record["result"] for record in shell.records().values()]
        assert results == [-15] * 20 if function == "own" else len(results) == 20


@pytest.mark.parametrize("function", ["fork_children", "write_binary"])
@pytest.mark.parametrize("to_file", [False, True])
def test_functions_that_disturb(shop: Shell, function: str, to_file: bool) -> None:
    """Children and bytes: the records are the records."""
    shop.write("in.txt", *map(str, range(50)))
    with shop.start(
        "map", f"shop.py:{function}", "in.txt", *(["-o", "out.jsonl"] if to_file else []), text=False
    ) as process:
        out, _ = process.communicate(timeout=60)
    text = shop.out.read_bytes() if to_file else out
    records = [json.loads(line) for line in text.splitlines()]
    assert sorted(record["result"] for record in records) == sorted(map(str, range(50)))
    assert process.returncode == 0


def test_backoff(shop: Shell) -> None:
    """The times between the attempts grow; --retry-on leaves others at their first."""
    shop.write("in.txt", "os", "key")
    done = shop.run(
        "map",
        "shop.py:third_time",
        "in.txt",
        "-o",
        "out.jsonl",
        "--retries",
        "2",
        "--backoff",
        "100ms",
        "--retry-on",
        "OSError",
    )
    assert done.returncode == 1
    records = {record["input"]: record for record in lines_of(shop.out)}
    result = records["os"]["result"]
    assert isinstance(result, list)
    assert result[0] >= 0.1
    assert result[1] >= 0.2
    assert (records["os"]["attempts"], records["key"]["attempts"]) == (3, 1)


@pytest.mark.parametrize("policy", ["end", "always", "never"])
def test_fsync(shell: Shell, policy: str) -> None:
    """Each writes the same."""
    shell.write("in.txt", "a", "b")
    assert shell.run("map", "work.py:echo", "in.txt", "-o", "out.jsonl", "--fsync", policy).returncode == 0
    assert len(lines_of(shell.out)) == 2


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion(shell: Shell, shell_name: str) -> None:
    """A script for the user's shell."""
    done = shell.run("completion", shell_name)
    assert done.returncode == 0
    assert "_FORKFUL_COMPLETE" in done.stdout
    assert done.stderr == ""
