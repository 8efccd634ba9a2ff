"""Functions of the script that is running: found by name, or sent by value so that workers need not run the script."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_start_methods import run_python

# The start methods that do not copy the script's names.
REMOTE = pytest.mark.parametrize("method", ["forkserver", "spawn"])


def run_script(text: str, folder: Path, *arguments: str, way: str = "script") -> tuple[int, list[str], str]:
    """Exit code, lines and errors of the script *text*, given to Python in that *way*."""
    (folder / "given.py").write_text(text, encoding="utf-8")
    before = {"script": ["given.py"], "module": ["-m", "given"]}[way]
    returncode, output, errors = run_python(*before, *arguments, folder=folder)
    return returncode, output.splitlines(), errors


PLAIN = """
import forkful, functools, math, os, sys

print("top")
FACTOR = 2

def f(x):
    return scaled(x) + math.floor(0.5)

def scaled(x):
    return x * FACTOR

def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def pair(a, b=5):
    return a, b, os.getpid() != 0

def worse(x):
    raise ValueError(f"no {x}")

with forkful.Pool(2, start_method=sys.argv[1]) as pool:
    print(pool.map(f, range(4)))
    print(pool.apply(fib, (10,)), list(pool.imap(fib, [5, 6])))
    print(pool.starmap(pair, [(1, 2), (3, 4)]), pool.apply(functools.partial(pair, 7)))
    print(pool.apply_async(f, (9,)).get(), pool.map(lambda x: f(x) + 1, [1]))
    try:
        pool.apply(worse, (3,))
    except ValueError as error:
        print(error, "raise ValueError(f" in str(error.__cause__))
"""


@pytest.mark.parametrize("way", ["script", "module"])
def test_script_without_a_guard(way: str, start_method: str, tmp_path: Path) -> None:
    """It just works, and what it prints at the top is printed once."""
    assert run_script(PLAIN, tmp_path, start_method, way=way) == (
        0,
        [
            "top",
            "[0, 2, 4, 6]",
            "55 [5, 8]",
            "[(1, 2, True), (3, 4, True)] (7, 5, True)",
            "18 [3]",
            "no 3 True",
        ],
        "",
    )


CHANGING = """
import forkful, sys

def f(x):
    return g(x) + N

with forkful.Pool(1, start_method=sys.argv[1]) as pool:
    def g(x):
        return x
    N = 10
    print(pool.map(f, [1, 2]))
    def g(x):
        return -x
    print(pool.map(f, [1, 2]), pool.apply(f, (3,)))
    N = 20
    print(pool.map(f, [1, 2]), list(pool.imap(f, [3])))
"""


@REMOTE
def test_what_changes_between_calls(method: str, tmp_path: Path) -> None:
    """Each call sees what its function reaches as it was then."""
    assert run_script(CHANGING, tmp_path, method) == (0, ["[11, 12]", "[9, 8] 7", "[19, 18] [17]"], "")


NEEDED = """
import forkful, sys
{top}

def f(x):
    {body}

if __name__ == "__main__":
    with forkful.Pool(1, {options}start_method=sys.argv[1]) as pool:
        print(pool.map(f, {items}, chunksize=1), pool.apply(f, ({items}[0],)))
"""

SPAWNING = """context = multiprocessing.get_context("spawn")
    q = context.SimpleQueue()
    p = context.Process(target=g, args=(q,))
    p.start(); p.join()
    return q.get()"""

NEEDS = {
    "initializer": ("N = 0\ndef init(n):\n    global N\n    N = n", "return N + x", "initializer=init, initargs=(5,), ", "[1, 2]",
                    "[6, 7] 6"),
    "state": ("SEEN = []", "SEEN.append(x)\n    return len(SEEN)", "", "[1, 2]", "[1, 2] 3"),
    "class": ("class K:\n    pass", "return isinstance(x, K)", "", "[K(), 1, K]", "[True, False, False] True"),
    "compared": ("def g(): pass", "return x is g", "", "[g, len]", "[True, False] True"),
    "mixed": ("class K:\n    def __init__(self, n): self.n = n\ndef g(): pass", "return x is g or getattr(x, 'n', x)", "",
              "[1, K(2), g, 4]", "[1, 2, True, 4] 1"),
    "effect": ("import decimal\ndecimal.getcontext().prec = 5", "return str(decimal.Decimal(1) / 3)", "", "[1]",
               "['0.33333'] 0.33333"),
    "recursion": ("import sys\nsys.setrecursionlimit(20_000)", "return x if x < 1 else 1 + f(x - 1)", "", "[5000]", "[5000] 5000"),
    "returned": ("def g(): pass", "return [g]", "", "[1]", None),
    "process": ("import multiprocessing\ndef g(q): q.put(42)",
                SPAWNING, "", "[1]", "[42] 42"),
}  # fmt: skip  # three columns


@pytest.mark.parametrize("case", NEEDS)
def test_scripts_with_more_to_them(case: str, start_method: str, tmp_path: Path) -> None:
    """Whatever ties a function to its script holds, under each start method: then it goes by name."""
    top, body, options, items, expected = NEEDS[case]
    text = NEEDED.format(top=top, body=body, options=options, items=items)
    returncode, lines, errors = run_script(text, tmp_path, start_method)
    assert (returncode, errors) == (0, "")
    if expected is not None:
        assert lines == [expected]
    else:
        assert lines[0].startswith("[[<function g at 0x")


GUARDED = """
import forkful, sys

N = 1

def f(x):
    return x + N, M

if __name__ == "__main__":
    M = 5
    {rebind}
    with forkful.Pool(1, start_method=sys.argv[1]) as pool:
        try:
            print(pool.apply(f, (1,)))
        except NameError as error:
            print(error)
"""


def test_names_of_the_guarded_part(start_method: str, tmp_path: Path) -> None:
    """What only that part knows crosses; what it binds anew is to a worker what the rest of the script says."""
    assert run_script(GUARDED.format(rebind="pass"), tmp_path, start_method) == (0, ["(2, 5)"], "")
    expected = "(3, 5)" if start_method == "fork" else "name 'M' is not defined"  # as with multiprocessing
    assert run_script(GUARDED.format(rebind="N = 2"), tmp_path, start_method) == (0, [expected], "")


UNGUARDED = """
import forkful, sys

class K:
    pass

def f(x):
    return isinstance(x, K)

print("top", flush=True)
with forkful.Pool(2, start_method=sys.argv[1]) as pool:
    print(pool.map(f, [K(), 1]))
"""

UNGUARDED_MAIN = """
import forkful, sys

def f(x):
    return x

def main():
    print("top", flush=True)
    with forkful.Pool(2, start_method=sys.argv[1]) as pool:
        print(pool.apply(f, (1,)))

main()
"""

UNGUARDED_INITIALIZER = """
import forkful, sys

def init():
    global N
    N = 5

print("top", flush=True)
with forkful.Pool(2, init, start_method=sys.argv[1]) as pool:
    print(pool.apply(abs, (1,)))
"""


@pytest.mark.parametrize("text", [UNGUARDED, UNGUARDED_MAIN, UNGUARDED_INITIALIZER], ids=["class", "main", "init"])
def test_unguarded_script_that_must_be_run(text: str, start_method: str, tmp_path: Path) -> None:
    """One error, in the parent, that names the cure; no worker starts workers."""
    returncode, lines, errors = run_script(text, tmp_path, start_method)
    if start_method == "fork":
        assert (returncode, errors) == (0, "")
        return
    assert returncode == 1
    assert "".join(lines) in {"top" * times for times in (1, 2, 3)}  # the parent, and each worker that runs the script
    assert (
        'put what starts the pool under `if __name__ == "__main__":`, or use start_method="fork"'
        in errors.splitlines()[-1]
    )


def test_elements_of_both_kinds(tmp_path: Path) -> None:
    """Elements that need the script and elements that do not, in one lazy map, in order."""
    text = """
import forkful

class K:
    def __init__(self, n):
        self.n = n

def f(x):
    return getattr(x, "n", x)

if __name__ == "__main__":
    with forkful.Pool(2) as pool:
        items = [K(i) if i % 3 == 0 else i for i in range(60)]
        print(list(pool.imap(f, items)) == pool.map(f, items) == list(range(60)))
"""
    assert run_script(text, tmp_path) == (0, ["True"], "")


def test_threads_of_a_worker_run_the_script_once(start_method: str, tmp_path: Path) -> None:
    """The first that needs it does, the others wait: its classes exist once."""
    text = """
import forkful, sys, time

if __name__ != "__main__":
    print("run", flush=True)
    time.sleep(0.2)  # until each of the others has found that it is not there yet

class K:
    def __init__(self, n):
        self.n = n

def twice(k):
    assert type(k) is K
    return K(2 * k.n)

if __name__ == "__main__":
    with forkful.Pool(1, threads=4, start_method=sys.argv[1]) as pool:
        results = [pool.apply_async(twice, (K(i),)) for i in range(8)]
        print([result.get().n for result in results])
"""
    found = run_script(text, tmp_path, start_method)
    ran = [] if start_method == "fork" else ["run"]
    assert found == (0, [*ran, "[0, 2, 4, 6, 8, 10, 12, 14]"], "")


def test_a_task_makes_a_pool_while_another_thread_runs_the_script(start_method: str, tmp_path: Path) -> None:
    """It waits for that: it is not the script that makes the pool."""
    helper = """
import forkful, os, time

def nested(x):
    while not os.path.exists("running"):
        time.sleep(0.001)
    with forkful.Pool(1) as pool:
        return pool.apply(abs, (x,))
"""
    (tmp_path / "helper.py").write_text(helper, encoding="utf-8")
    text = """
import forkful, helper, os, sys, time

if __name__ != "__main__" or sys.argv[1] == "fork":
    os.mkdir("running")
    time.sleep(0.3)

class K:
    pass

def use(k):
    return type(k).__name__

if __name__ == "__main__":
    with forkful.Pool(1, threads=2, start_method=sys.argv[1]) as pool:
        results = [pool.apply_async(use, (K(),)), pool.apply_async(helper.nested, (-3,))]
        print([result.get() for result in results])
"""
    assert run_script(text, tmp_path, start_method) == (0, ["['K', 3]"], "")


AT_A_PROMPT = """
import functools, multiprocessing, sys
import forkful

number, table, factor = None, {}, 1

def begin(value):
    global number
    number = value
    fill("key", value)

def fill(key, value):
    table[key] = value

def keep(value, *, state):
    state["kept"] = value

def connect(end):
    global connection
    connection = end

def seen(x):
    return x, number, table, scaled(x)

def scaled(x):
    return x * factor * number

def kept(*, state):
    return state["kept"]

def end():
    print("end", number, flush=True)

Pool = functools.partial(forkful.Pool, 1, start_method=sys.argv[1])
with Pool(initializer=begin, initargs=(5,), finalizer=end) as pool:
    print(pool.map(seen, [1]), pool.apply(lambda: number))
    factor = 2
    print(pool.apply(seen, (1,)))
    def scaled(x):
        return -number
    print(list(pool.imap(seen, [1])))
    pool.close()
    pool.join()
for initializer in (functools.partial(begin, 6), lambda: begin(6)):
    with Pool(initializer=initializer) as pool:
        print(pool.apply(seen, (1,)))
with Pool(initializer=keep, initargs=(7,)) as pool:
    print(pool.apply(kept))
ours, theirs = multiprocessing.Pipe()
with Pool(initializer=connect, initargs=(theirs,)) as pool:
    pool.apply(lambda: connection.send("by wire"))
    print(ours.recv())
"""


@pytest.mark.parametrize("way", ["-c", "stdin"])
def test_initializer_at_a_prompt(way: str, start_method: str, tmp_path: Path) -> None:
    """What it sets is there for the tasks, though no worker can import it; what is changed here later is, too."""
    arguments = ["-c", AT_A_PROMPT] if way == "-c" else ["-"]
    ended = run_python(*arguments, start_method, folder=tmp_path, stdin=AT_A_PROMPT if way == "stdin" else None)
    expected = [
        "[(1, 5, {'key': 5}, 5)] 5",
        "(1, 5, {'key': 5}, 10)",
        "[(1, 5, {'key': 5}, -5)]",
        "end 5",
        *["(1, 6, {'key': 6}, -6)"] * 2,
        "7",
        "by wire",
    ]
    assert ended == (0, "\n".join([*expected, ""]), "")


UNDER_THE_GUARD = """
import forkful, sys

if __name__ == "__main__":
    def own():
        print("never")

    for hook in ({"initializer": own}, {"finalizer": own}):
        with forkful.Pool(1, start_method=sys.argv[1], **hook) as pool:
            try:
                pool.map(abs, [1])
            except forkful.ForkfulError as error:
                print(error)
"""


@REMOTE
def test_initializer_under_the_guard(method: str, tmp_path: Path) -> None:
    """A worker, which does not run that part of the script, cannot find it: the error says so, and what to do."""
    returncode, lines, errors = run_script(UNDER_THE_GUARD, tmp_path, method)
    assert (returncode, len(lines), errors) == (0, 2, "")
    for line in lines:
        assert line.startswith("the initializer or finalizer is not to be found in worker")
        assert "define it at the top level of the script, outside of `if __name__" in line
