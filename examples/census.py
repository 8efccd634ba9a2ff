"""A census of Python source files: how long, how deep, how complex.  The example that `make run` runs.

    python examples/census.py --list > files.txt                          every file of the standard library
    forkful map examples/census.py:census files.txt -o census.jsonl       count them, on every CPU
    python examples/census.py --report census.jsonl                       the most complex modules

To see that the processes change nothing, do it once more in a plain loop and compare:

    python examples/census.py --serial serial.jsonl files.txt
    python examples/census.py --compare census.jsonl serial.jsonl
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import heapq
import json
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS_AND_BRANCHES = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.IfExp, ast.ExceptHandler, ast.comprehension)
BLOCKS = (
    *FUNCTIONS,
    ast.ClassDef,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.If,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)
SHOWN = 10

# --- the function that is mapped ---------------------------------------------------------------------------------------


def census(path: str) -> dict[str, Any]:
    """Count one source file.  The same file gives the same counts in any process.

    A file that is no Python (the standard library's tests have a few, on purpose) is counted too, as ``"parsed":
    False`` with the reason.  A file that cannot be read raises OSError.

    >>> census(__file__)["classes"]
    0
    """
    source = Path(path).read_bytes()
    counts: dict[str, Any] = {"lines": len(source.splitlines()), "sha256": hashlib.sha256(source).hexdigest()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in somebody's string is not our news
            tree = ast.parse(source)
    except (RecursionError, MemoryError):  # what Python's parser says to 100 parentheses in each other, or to 1000
        return {"parsed": False, "reason": "nested too deeply", **counts}
    except (SyntaxError, ValueError) as error:  # a ValueError: zero bytes
        reason = getattr(error, "msg", None) or str(error)
        return {"parsed": False, "reason": f"{type(error).__name__}: {reason}", **counts}
    return {"parsed": True, **counts, **measure(tree)}


def measure(tree: ast.AST) -> dict[str, int]:
    """Functions, classes, depth of nested blocks, and the cyclomatic complexities of the module and its functions, summed.

    Walks with a list of its own, not by recursion: there is no nesting that Python can parse and this cannot walk.
    """
    functions = classes = deepest = 0
    complexity = 1  # the way straight through the module
    todo: list[tuple[ast.AST, int]] = [(tree, 0)]
    while todo:
        node, depth = todo.pop()
        functions += isinstance(node, FUNCTIONS)
        classes += isinstance(node, ast.ClassDef)
        complexity += ways_added(node)
        inside = depth + isinstance(node, BLOCKS)
        deepest = max(deepest, inside)
        todo.extend((child, depth if is_elif(child, node) else inside) for child in ast.iter_child_nodes(node))
    return {"functions": functions, "classes": classes, "nesting": deepest, "complexity": complexity}


def ways_added(node: ast.AST) -> int:
    """How many ways through the code *node* adds (McCabe)."""
    if isinstance(node, (*FUNCTIONS, ast.Lambda, *LOOPS_AND_BRANCHES)):
        return 1 + (len(node.ifs) if isinstance(node, ast.comprehension) else 0)
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.match_case):
        catches_all = isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None and node.guard is None
        return 0 if catches_all else 1
    return 0


def is_elif(child: ast.AST, parent: ast.AST) -> bool:
    """Whether *child* is the ``elif`` of *parent*: for ast it stands in the ``else``, for a reader it is no deeper."""
    return (
        isinstance(parent, ast.If)
        and isinstance(child, ast.If)
        and parent.orelse == [child]
        and child.col_offset == parent.col_offset
    )


# --- around it ---------------------------------------------------------------------------------------------------------


def library_files() -> list[str]:
    """Every source file of this interpreter's standard library, sorted; nothing that was installed into it."""
    found = []
    for directory, folders, names in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = [name for name in folders if name not in {"site-packages", "dist-packages", "__pycache__"}]
        found += [os.path.join(directory, name) for name in names if name.endswith(".py")]
    return sorted(found)


def serial_lines(paths: Iterable[str]) -> Iterator[str]:
    """What a plain loop makes of *paths*."""
    for path in paths:
        yield canonical(path, census(path))


def canonical(path: str, result: dict[str, Any]) -> str:
    """An input and its result as the one text that stands for both."""
    return json.dumps({"input": path, "result": result}, sort_keys=True)


def read_records(path: str) -> list[dict[str, Any]]:
    """The records of a file that ``forkful map`` or ``--serial`` wrote."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def compare(first: str, second: str) -> bool:
    """Whether two files hold the same results, in whatever order; prints some of what only one of them has."""
    lines = {
        path: sorted(canonical(record["input"], record.get("result", {})) for record in read_records(path))
        for path in (first, second)
    }
    for path, other in ((first, second), (second, first)):
        for line in sorted(set(lines[path]).difference(lines[other]))[:SHOWN]:
            print(f"only in {path}: {line}")
    same = lines[first] == lines[second]
    print(f"{'the same' if same else 'not the same'}: {len(lines[first])} records, {len(lines[second])} records")
    return same


def report(path: str) -> None:
    """Print the most complex modules of a census, and its totals."""
    records = read_records(path)
    failed = [record for record in records if not record.get("ok", True)]
    counted = [(record["input"], record["result"]) for record in records if record.get("ok", True)]
    parsed = [(name, result) for name, result in counted if result["parsed"]]
    above = len(os.path.commonpath([name for name, _ in parsed])) + 1 if len(parsed) > 1 else 0
    print(f"{'module':<44} {'complexity':>10} {'functions':>9} {'classes':>8} {'nesting':>8} {'lines':>8}")
    for name, result in heapq.nsmallest(SHOWN, parsed, key=lambda pair: (-pair[1]["complexity"], pair[0])):
        print(
            f"{name[above:]:<44} {result['complexity']:>10,} {result['functions']:>9,} {result['classes']:>8,} "
            f"{result['nesting']:>8} {result['lines']:>8,}"
        )
    total = {key: sum(result[key] for _, result in parsed) for key in ("complexity", "functions", "classes", "lines")}
    deepest = max((result["nesting"] for _, result in parsed), default=0)
    print(
        f"{f'{len(parsed):,} modules':<44} {total['complexity']:>10,} {total['functions']:>9,} {total['classes']:>8,} "
        f"{deepest:>8} {total['lines']:>8,}"
    )
    print(f"{len(counted) - len(parsed)} files are no Python (on purpose: they test its parsers); {len(failed)} failed")


def main() -> int:
    """Run one of the modes; returns the exit code."""
    parser = argparse.ArgumentParser(description="A census of Python source files.")
    modes = parser.add_mutually_exclusive_group(required=True)
    modes.add_argument("--list", action="store_true", help="print the standard library's files, one a line")
    modes.add_argument("--report", metavar="CENSUS", help="print the most complex modules of a census")
    modes.add_argument("--serial", nargs="+", metavar=("OUT", "FILES"), help="do the census in a plain loop, into OUT")
    modes.add_argument("--compare", nargs=2, metavar=("A", "B"), help="say whether two censuses hold the same")
    options = parser.parse_args()
    if options.list:
        sys.stdout.writelines(f"{path}\n" for path in library_files())
    elif options.report:
        report(options.report)
    elif options.serial:
        out, *lists = options.serial
        paths = [line for name in lists for line in Path(name).read_text(encoding="utf-8").splitlines()]
        with open(out, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in serial_lines(paths if lists else library_files()))
    else:
        return 0 if compare(*options.compare) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
