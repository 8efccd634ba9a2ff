"""Which functions of ``__main__`` travel by value, and what arrives."""

from __future__ import annotations

import functools
import json
import os
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkful._core import codec, functions, planted
from forkful._core.functions import Functions
from forkful._core.portable import NotPortableError, PortablePickler, Use, pack, uses
from forkful._core.script import study

Make = Callable[..., Any]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """Makes a ``__main__`` of a script's text."""

    def make(text: str, name: str = "given.py") -> types.ModuleType:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        main = types.ModuleType("__main__")
        main.__file__ = str(path)
        monkeypatch.setitem(sys.modules, "__main__", main)
        monkeypatch.setattr(functions, "_studied", [])
        exec(compile(text, str(path), "exec"), main.__dict__)
        return main

    return make


def travel(main: types.ModuleType, name: str = "f") -> Any:
    """The function as a worker has it, which has no such ``__main__``."""
    text = Path(str(main.__file__)).read_bytes()
    packed, _ = pack(getattr(main, name), study(text, None))
    before = sys.modules.pop("__main__")
    try:
        return planted.plant(packed)
    finally:
        sys.modules["__main__"] = before


ARRIVE = {
    "alone": ("def f(x): return x * 2", 6),
    "builtins": ("def f(x): return sum([x, len('ab')])", 5),
    "modules": ("import math, os.path as p\ndef f(x): return math.floor(x), p.basename('a/b')", (3, "b")),
    "members": ("from math import floor\nfrom collections import Counter\ndef f(x): return floor(x), Counter('a')['a']", (3, 1)),
    "others": ("def f(x): return g(x) + h()\ndef g(x): return h() * x\ndef h(): return 5", 20),
    "recursion": ("def f(x): return 1 if x < 2 else x * f(x - 1)", 6),
    "each other": ("def f(x): return True if x == 0 else g(x - 1)\ndef g(x): return False if x == 0 else f(x - 1)", False),
    "constants": ("A, B, C, D = 1, 2.5, 'x', (None, True, frozenset([1j, b'y']), ...)\ndef f(x): return A, B, C, D",
                  (1, 2.5, "x", (None, True, frozenset([1j, b"y"]), ...))),
    "values": ("import re, decimal\nP, D = re.compile('a+'), decimal.Decimal('1.5')\ndef f(x): return P.match('aab')[0], D * x",
               ("aa", 4.5)),
    "nested code": ("N = 2\ndef g(x): return x\ndef f(x): return [g(i) * N for i in range(x)], (lambda: g(N))()", ([0, 2, 4], 2)),
    "inner class": ("N = 2\ndef f(x):\n    class K:\n        y = N\n    return K.y", 2),
    "defaults": ("import math\ndef f(x, y=(1, 2), *, z=None, g=math.floor): return x, y, z, g(1.5)", (3, (1, 2), None, 1)),
    "named": ("def f(x): return __name__", "__main__"),
    "handed to the tame": ("def g(x): return -x\ndef f(x): return sorted([1, x, 2], key=g), list(map(g, [x]))", ([3, 2, 1], [-3])),
    "returned": ("def f(x): return f", None),
    "annotated": ("class K: pass\ndef f(x: K, y: int = 1) -> 'K': return x", 3),
    "a builtin's name": ("def max(a, b): return 'own'\ndef f(x): return max(x, 4)", "own"),
    "imports inside": ("def f(x):\n    from math import floor\n    return floor(x)", 3),
    "unused globals": ("import threading\nLOCK = threading.Lock()\nclass K: pass\nclass L(K): pass\nX = K()\ndef f(x): return x", 3),
    "attributes": ("data = []\ndef f(x): return (x + 1j).imag, x.real.conjugate()", (1, 3)),
}  # fmt: skip  # two columns


@pytest.mark.parametrize("case", ARRIVE)
def test_travels_by_value(case: str, script: Make) -> None:
    """And computes there what it computes here."""
    text, expected = ARRIVE[case]
    main = script(text)
    here = main.f(3)
    there = travel(main)
    assert there.__globals__ is not main.__dict__
    if case == "returned":
        assert there(3) is there
    else:
        assert there(3) == here == expected


REMAIN = {
    "a class": "class K: pass\ndef f(x): return isinstance(x, K)",
    "an instance": "class K: pass\nX = K()\ndef f(x): return X",
    "a list": "L = []\ndef f(x): return L",
    "a dict": "CACHE = {}\ndef f(x): return CACHE.get(x)",
    "a lock": "import threading\nL = threading.Lock()\ndef f(x): return L",
    "a sentinel": "MISSING = object()\ndef f(x): return MISSING",
    "a large constant": "TEXT = 'x' * 100_000\ndef f(x): return TEXT",
    "a tuple with more": "T = (1, [2])\ndef f(x): return T",
    "of a kind of its own": "class I(int): pass\nN = I(3)\ndef f(x): return N",
    "set by an initializer": "N = 0\ndef init(n):\n    global N\n    N = n\ndef f(x): return N",
    "set by a method": "N = 0\nclass K:\n    def m(self):\n        global N\n        N = 1\ndef f(x): return N",
    "set by what is gone": "N = 0\ndef init():\n    global N\n    N = 1\ninits = [init]\ndel init\ndef f(x): return N",
    "sets it itself": "N = 0\ndef f(x):\n    global N\n    N += x\n    return N",
    "deletes it": "N = 0\ndef g():\n    global N\n    del N\ndef f(x): return g()",
    "a function that is set": "def g(): pass\ndef init():\n    global g\n    g = len\ndef f(x): return g()",
    "through another": "L = []\ndef g(): return L\ndef f(x): return g()",
    "in nested code": "L = []\ndef f(x): return [i for i in (lambda: L)()]",
    "in an inner class": "L = []\ndef f(x):\n    class K:\n        y = L\n    return K",
    "a closure": "def make():\n    n = 1\n    def f(x): return x + n\n    return f\nf = make()",
    "decorated": "import functools\n@functools.lru_cache\ndef f(x): return x",
    "wrapped": "import functools\ndef d(g):\n    @functools.wraps(g)\n    def w(x): return g(x)\n    return w\n@d\ndef f(x): return x",
    "with attributes": "def f(x): return f.calls\nf.calls = 1",
    "a lambda": "f = lambda x: x",
    "calls a lambda": "g = lambda x: x\ndef f(x): return g(x)",
    "another name inside": "def g(x): return x\nh = g\ndef f(x): return h(x)",
    "a method": "class K:\n    def f(self): pass\nf = K.f",
    "a mutable default": "def f(x, seen=[]): return seen",
    "a default of main": "def g(): pass\ndef f(x, g=g): return g",
    "asks for globals": "def f(x): return dir(), globals",
    "evaluates": "def f(x): return eval('x')",
    "looks into frames": "import sys\ndef f(x): return sys._getframe()",
    "imports its module": "import importlib\ndef f(x): return importlib.import_module(__name__)",
    "names it": "def f(x): return '__main__'",
    "guards inside": "def f(x): return __name__ == '__main__'",
    "what is not there": "def f(x): return later(x)",
    "handed to a stranger": "import threading\ndef g(): pass\ndef f(x): return threading.Thread(target=g)",
    "pickled": "import pickle\ndef g(): pass\ndef f(x): return pickle.dumps(g)",
    "handed, with a strange import": "def g(): pass\ndef f(x):\n    from multiprocessing import Process\n    return Process(target=g)",
    "a module without a spec": "import types\nm = types.ModuleType('m')\ndef f(x): return m",
    "an effect at the top": "import decimal\ndecimal.getcontext().prec = 28\ndef f(x): return x",
}  # fmt: skip  # two columns


@pytest.mark.parametrize("case", REMAIN)
def test_goes_by_name(case: str, script: Make) -> None:
    """Wherever a copy could be told from the original, or something would be missing there."""
    main = script(REMAIN[case])
    with pytest.raises(NotPortableError):
        travel(main)


def test_old_version_goes_by_name(script: Make) -> None:
    """As long as it is not the one that its name stands for: what refers to it means the other."""
    main = script("def f(x): return x")
    old = main.f
    exec("def f(x): return -x", main.__dict__)
    with pytest.raises(NotPortableError, match="no more"):
        pack(old, study(b"", None))


def test_how_code_uses_names(script: Make) -> None:
    """To call, to hand around; also in comprehensions, with many names, and behind extended arguments."""
    names = "".join(f"    n{i}\n" for i in range(300))
    main = script(f"def f(x):\n{names}    a(1)\n    b(*x, **x)\n    c.d(e)\n    return [g(i) for i in h]\n")
    found = list(uses(main.f.__code__))
    assert {name for use, name in found if use == Use.CALL} == {"a", "b", "g"}
    assert {name for use, name in found if use == Use.LOAD} == {"c", "e", "h", *(f"n{i}" for i in range(300))}


def test_modules_with_effects_are_imported(script: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the script imports and that is not the standard library's: they may register something."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "effective.py").write_text("import os\nos.environ['EFFECTIVE'] = 'yes'\n", encoding="utf-8")
    monkeypatch.delenv("EFFECTIVE", raising=False)
    main = script("import effective, xml.dom.minidom, wave\ndef f(x): return x\ndef g(x): return xml.dom.minidom")
    text = Path(str(main.__file__)).read_bytes()
    blobs = [pack(getattr(main, name), study(text, None))[0] for name in "fg"]
    os.environ.pop("EFFECTIVE")
    for name in ("effective", "wave", "xml.dom.minidom"):
        monkeypatch.delitem(sys.modules, name)
    planted.plant(blobs[0])
    assert os.environ["EFFECTIVE"] == "yes"
    assert "wave" not in sys.modules
    assert "xml.dom.minidom" not in sys.modules
    assert planted.plant(blobs[1])(0) is sys.modules["xml.dom.minidom"]


# In a pool's books.


def by_value(registry: Functions, function: Any) -> bool:
    """Whether *function* is registered by value."""
    return registry.register(function)[0] in registry.portable


def test_only_where_workers_do_not_have_it(script: Make) -> None:
    """Under ``fork`` they do; and the question is asked once, if at all."""
    main = script("def f(x): return x")
    asked: list[int] = []
    registry = Functions(lambda: asked.insert(0, 1) is not None)  # type: ignore[func-returns-value]  # it is False
    registry.register(len)
    assert asked == []
    assert by_value(registry, main.f)
    assert by_value(registry, functools.partial(main.f, 1))
    assert asked == [1]
    assert not by_value(Functions(lambda: True), main.f)


def test_bytes_are_kept_as_long_as_they_hold(script: Make) -> None:
    """A function, or a constant, that is bound anew is seen; so is what was not there at first."""
    main = script("N = 1\ndef g(x): return x + N\ndef f(x): return g(x) * max(2, N)\ndef h(x): return late(x)")
    registry = Functions(lambda: False)
    known = registry.register(main.f)
    assert registry.register(main.f) is known

    def run() -> Any:
        key, _ = registry.register(main.f)
        return pickle.loads(registry.blob(key))(3)

    assert run() == 8
    main.N = 2
    assert registry.register(main.f) is not known
    assert run() == 10
    exec("def g(x): return 7", main.__dict__)
    assert run() == 14
    main.max = min
    assert run() == 14
    main.N = 1
    assert run() == 7
    main.max = []
    assert not by_value(registry, main.f)
    assert not by_value(registry, main.h)
    exec("def late(x): return x", main.__dict__)
    assert by_value(registry, main.h)
    key, _ = registry.register(main.h)
    main.h.__code__ = (lambda x: x).__code__
    assert registry.register(main.h)[0] != key


def test_partial(script: Make) -> None:
    """Of a function of the script: by value, with arguments that are not of it."""
    main = script("class K: pass\ndef g(): pass\ndef f(*a, **k): return a, k")
    registry = Functions(lambda: False)
    key, _ = registry.register(functools.partial(main.f, 1, b=json.loads))
    assert key in registry.portable
    assert pickle.loads(registry.blob(key))(2) == ((1, 2), {"b": json.loads})
    for argument in (main.K(), main.K, [main.g]):
        assert not by_value(registry, functools.partial(main.f, argument))


def test_names_that_are_looked_up_by_text(script: Make) -> None:
    """Objects that say themselves where they are found are found out."""
    main = script(
        "class Meta:\n    def __reduce__(self): return 'X'\n    __module__ = '__main__'\nX = Meta()\ndef f(a): return a"
    )
    with pytest.raises(NotPortableError):
        PortablePickler(study(b"", None)).pickled(functools.partial(main.f, main.X))


def test_methods_and_lambdas_are_left_alone(script: Make) -> None:
    """They go as they always did."""
    main = script("class K:\n    def m(self, x): return x\nk = K()\nf = lambda x: x\ndef g(): return lambda x: x")
    registry = Functions(lambda: False)
    for function in (main.k.m, main.K, main.f, main.g()):
        assert not by_value(registry, function)
    key, _ = registry.register(main.f)
    assert pickle.loads(registry.blob(key))(4) == 4


def test_by_name_for_arguments_of_main(script: Make) -> None:
    """The other form has a key of its own, and may be forgotten with the first."""
    main = script("def f(x): return x")
    registry = Functions(lambda: False)
    key, name = registry.register(main.f)
    other, same = registry.register_by_name(main.f)
    assert (name, same) == ("f", "f")
    assert other != key
    assert registry.register_by_name(main.f) == (other, "f")
    assert registry.blob(other) == codec.encode(main.f)


def test_results_that_are_functions_of_main(script: Make) -> None:
    """They come back as what they are in the parent."""
    main = script("def g(): pass\ndef f(x): return [g]")
    blob = planted.encode(travel(main)(1))
    assert pickle.loads(blob) == [main.g]


def test_text_that_cannot_be_had(script: Make) -> None:
    """A script in an archive, or removed, is run as ever."""
    main = script("def f(x): return x")
    reference = codec.main_reference()
    os.unlink(str(main.__file__))
    main.__spec__ = types.SimpleNamespace(name="somewhere")  # as under -m
    assert reference != codec.main_reference() != {}
    assert not by_value(Functions(lambda: False), main.f)
