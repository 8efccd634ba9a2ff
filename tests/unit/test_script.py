"""What a script does besides defining things."""

from __future__ import annotations

import warnings

import pytest

from forkful._core.script import study

HARMLESS = [
    "",
    "'''A docstring.'''",
    "import numpy, os.path as p\nfrom math import *\nfrom . import sister",
    "def f(): pass\nasync def g(): pass\n@decorated\nclass C: x = 1",
    "A, (B, *C) = 1, (2, 3)\nD: int = 4\nD += 1\ndel D",
    "table = {}\ntable['a'] = 1\nlog = make()\nlog.add(1)",
    "print('hello')\ninput()\n'-'.join('ab')\nprint(f'{1}')",
    "import logging\nlogging.basicConfig(level=10)",
    "import time, sys\ntime.sleep(0)\nsys.stdout.write('x')\nsys.exit()",
    "import multiprocessing as mp\nmp.set_start_method('spawn')",
    "if __name__ == '__main__':\n    import sys\n    sys.setrecursionlimit(9)",
    "if '__main__' == __name__ and True:\n    import os\n    os.environ['A'] = 'b'",
    "try:\n    import fast\nexcept ImportError as error:\n    fast = None\nelse:\n    pass\nfinally:\n    pass",
    "for i in range(3):\n    print(i)\nelse:\n    pass\nwhile False:\n    break\nassert True",
    "from forkful import Pool\nwith Pool(2) as pool:\n    print(pool.map(f, [1]))\n    pool.close()",
    "with open('x') as file:\n    file.write('y')",
    "import sys\nif sys.argv:\n    print(1)\nelse:\n    raise SystemExit",
    "from decimal import getcontext\ngetcontext = None\nx = [1]\nx[0] = 2",
]


@pytest.mark.parametrize("source", HARMLESS)
def test_nothing_to_miss(source: str) -> None:
    """Definitions, imports, output, the guarded part."""
    assert study(source.encode(), None).effect is None


EFFECTS = [
    "import sys\nsys.setrecursionlimit(10**6)",
    "from sys import setrecursionlimit\nsetrecursionlimit(10**6)",
    "import decimal\ndecimal.getcontext().prec = 50",
    "from decimal import getcontext\ncontext = getcontext()\ncontext.prec = 50",
    "from mpmath import mp\nmp.dps = 50",
    "import os\nos.environ['A'] = 'b'",
    "from os import environ\nenviron['A'] = 'b'",
    "import requests\nrequests.get = None",
    "import random\nrandom.seed(1)",
    "import numpy as np\nnp.random.seed(1)",
    "import sys\nsys.path.append('lib')",
    "import sys\nsys.path += ['lib']",
    "import sys\ndel sys.path[0]",
    "import warnings\nwith warnings.catch_warnings():\n    pass",
    "import decimal\nwith decimal.localcontext() as context:\n    pass",
    "def main(): pass\nmain()",
    "class C: pass\nC()",
    "setattr(print, 'a', 1)",
    "eval('x')",
    "[print(i) for i in range(2)]",
    "import sys\nsys.stdin and sys.setrecursionlimit(5)",
    "from settings import *\nconfigure()",
    "for i in range(3):\n    import random\n    random.seed(1)",
    "try:\n    import uvloop\n    uvloop.install()\nexcept ImportError:\n    pass",
    "if __name__ != '__main__':\n    print('in a worker')",
    "if __name__ == '__main__':\n    pass\nelse:\n    import random\n    random.seed(1)",
    "if __name__ == '__mp_main__' or False:\n    pass",
    "match 1:\n    case 1: pass",
    "unknown.change()",
]


@pytest.mark.parametrize("source", EFFECTS)
def test_effects(source: str) -> None:
    """Whatever a function may count on."""
    assert study(source.encode(), None).effect is not None


@pytest.mark.parametrize(
    "body",
    [
        "globals()['x'] = 1",
        "exec('x = 1')",
        "import __main__",
        "from __main__ import x",
        "sys.modules[__name__].x = 1",
        "vars()",
        "from sys import path, modules",
        "importlib.import_module('__main__').x = 1",
        "f.__globals__['x'] = 1",
        "sys._getframe().f_globals['x'] = 1",
    ],
)
def test_back_doors(body: str) -> None:
    """By which a function can change what no code of it names."""
    script = study(f"import sys, importlib\ndef f():\n    {body}\n".encode(), None)
    assert script.effect is not None
    assert script.effect.startswith("it has")


def test_names_that_functions_bind() -> None:
    """With ``global``, wherever it stands."""
    source = """
def f():
    global a, b
    global c; d = 1
class K:
    global e
    def m(self):
        global g, \\
            h
x = 1
"""
    assert study(source.encode(), None).rebound == {"a", "b", "c", "e", "g", "h"}


def test_names_that_the_guarded_part_binds() -> None:
    """Count where they are bound outside of it too: what a worker that runs the script has is the other."""
    source = """
import m, n.o as p
a = b = c = d = e = f = g = h = i = k = 0
def q(): pass
class r: pass
if __name__ == "__main__":
    a = new = 1
    (b, [c]) = 2, [3]
    for d in "x":
        e += 1
    with open("x") as f:
        pass
    try:
        import m
        from x import y as p
    except OSError as g:
        del h
    def q(): pass
    class r: pass
    if (i := 5): pass
    print(k)
"""
    assert study(source.encode(), None).rebound == {*"abcdefghi", "m", "p", "q", "r"}


def test_imports() -> None:
    """In order, and what name they bind; relative ones in full."""
    source = """
import a.b, c as d
from e import f as g
try:
    from . import h
    from ..i import j
except ImportError:
    pass
if __name__ == "__main__":
    import k
"""
    assert study(source.encode(), "top.sub").imports == (
        ("a.b", "a"),
        ("c", "d"),
        ("e", "g"),
        ("e.f", "g"),
        ("top.sub", "h"),
        ("top.sub.h", "h"),
        ("top.i", "j"),
        ("top.i.j", "j"),
    )


@pytest.mark.parametrize("source", [b"def f(:", b"\x00", b"# -*- coding: nonsense -*-\n"])
def test_not_the_source(source: bytes) -> None:
    """A script that has been changed since, or is compiled, is no ground to stand on."""
    assert "cannot be read" in str(study(source, None).effect)


def test_warnings_are_not_given_again() -> None:
    """Python has given them as it compiled the script."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert study(b"x = '\\d'\n", None).effect is None
