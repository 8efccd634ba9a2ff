"""Which functions of ``__main__`` may travel by value, and how they are packed.  Pure but for looking at modules.

A worker that is sent a function of ``__main__`` by name has to run the script to find it.  By value it has not; but only
where nobody can tell the difference.  So a function qualifies when everything that it reaches is the same there:

- it is a plain function at the module's top level: no closure, no attributes, not decorated into something else;
- every global name in it, and in the functions of ``__main__`` that it reaches, is bound to a module or to a function or
  class that a worker can import, to another such function, or to a constant (`_is_constant`), and is rebound by
  no function of the script; or it is a builtin;
- it has no way to ask for its module (`_SUSPECT`);
- a function of ``__main__`` that is not called but handed around could be compared with its twin, or pickled, by
  whoever gets it: that is allowed only where all other names are builtins or of the `_TAME` modules;
- the script does nothing else at its top level that the worker would miss (`script.Script`).

Classes of ``__main__`` never qualify: ``isinstance`` would tell a copy from the original.  Everything that does not
qualify goes by name, as ever.  See docs/decisions/0008-functions-of-main-by-value.md.
"""

from __future__ import annotations

import builtins
import io
import marshal
import opcode
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any

from .planted import Packed, plant
from .script import Script

MAIN_NAMES = frozenset({"__main__", "__mp_main__"})

_SUSPECT = frozenset({
    "__builtins__", "__dict__", "__globals__", "__import__", "__loader__", "__main__", "__mp_main__", "__spec__", "_getframe",
    "breakpoint", "currentframe", "eval", "exec", "f_back", "f_globals", "globals", "import_module", "modules", "vars",
})  # fmt: skip  # a name a line would be a page
_TAME = frozenset({
    "array", "bisect", "calendar", "cmath", "collections", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools",
    "hashlib", "heapq", "itertools", "json", "math", "numbers", "operator", "os", "pathlib", "random", "re", "statistics", "string",
    "struct", "sys", "textwrap", "time", "typing", "unicodedata", "zlib",
})  # fmt: skip  # likewise
_CONSTANTS = (bool, int, float, complex, str, bytes, type(None), type(...))
# Immutable values of the standard library, by name, so that their modules are not imported for this.
_VALUES = frozenset({
    ("datetime", "date"), ("datetime", "datetime"), ("datetime", "time"), ("datetime", "timedelta"), ("datetime", "timezone"),
    ("decimal", "Decimal"), ("fractions", "Fraction"), ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("re", "Pattern"),
    ("uuid", "UUID"),
})  # fmt: skip  # likewise
_LARGE = 64 * 1024  # bytes of constants: to compute so much may be cheaper than to send it
_MISSING = object()
_IMPORTABLE = (types.FunctionType, types.BuiltinFunctionType, type)
_LOADS, _STORES = (
    {opcode.opmap[name]: name for name in names if name in opcode.opmap}
    for names in (("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"), ("STORE_GLOBAL", "DELETE_GLOBAL"))
)
_IMPORT = opcode.opmap["IMPORT_NAME"]
_LOAD_GLOBAL = opcode.opmap["LOAD_GLOBAL"]
_EXTENDED_ARG = opcode.opmap["EXTENDED_ARG"]


class NotPortableError(Exception):
    """It goes by name; says why.

    Attributes:
        missing: the global name that is not bound yet, where that is the reason.
    """

    def __init__(self, reason: str, missing: str | None = None) -> None:
        super().__init__(reason)
        self.missing = missing

    def snapshot(self, function: Any) -> Snapshot | None:
        """What the refusal of *function* rests on, where that may change."""
        if self.missing is None or type(function) is not types.FunctionType:
            return None
        return Snapshot(function, {self.missing: _MISSING})


class Snapshot:
    """What a verdict rests on: a function, and what the global names that it reaches were bound to."""

    def __init__(self, function: types.FunctionType, names: dict[str, Any]) -> None:
        self._function = function
        self._code = function.__code__
        self._defaults = function.__defaults__
        self._names = list(names.items())

    def holds(self) -> bool:
        """Whether all of that is still so."""
        function = self._function
        get = function.__globals__.get
        for name, value in self._names:
            if get(name, _MISSING) is not value:
                return False
        return function.__code__ is self._code and function.__defaults__ is self._defaults


# What a function reaches.


class Use:
    """How code uses a global name."""

    LOAD, CALL, STORE, IMPORT = range(4)


def uses(code: types.CodeType) -> Iterator[tuple[int, str]]:
    """Each use of a global name in *code* and in what is defined in it."""
    extended = 0
    raw = code.co_code
    for at in range(0, len(raw), 2):
        op, argument = raw[at], raw[at + 1] | extended
        extended = argument << 8 if op == _EXTENDED_ARG else 0
        if op in _LOADS:
            # The lowest bit of LOAD_GLOBAL says that it is loaded to be called.
            if op == _LOAD_GLOBAL:
                yield (Use.CALL if argument & 1 else Use.LOAD), code.co_names[argument >> 1]
            else:
                yield Use.LOAD, code.co_names[argument]
        elif op in _STORES:
            yield Use.STORE, code.co_names[argument]
        elif op == _IMPORT:
            yield Use.IMPORT, code.co_names[argument]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from uses(constant)


def _sample() -> Any:
    import _sample_a  # type: ignore[import-not-found]  # noqa: F401  # never run, only looked at

    global _sample_b  # as above
    _sample_b = _sample_c(_sample_d, lambda: _sample_e)  # type: ignore[name-defined]  # noqa: F821


# An interpreter whose code we do not know how to read: then nothing travels by value.
_UNDERSTOOD = sorted(uses(_sample.__code__)) == [
    (Use.LOAD, "_sample_d"),
    (Use.LOAD, "_sample_e"),
    (Use.CALL, "_sample_c"),
    (Use.STORE, "_sample_b"),
    (Use.IMPORT, "_sample_a"),
]


def _mentions_main(constants: tuple[Any, ...]) -> bool:
    for constant in constants:
        if isinstance(constant, str):
            if "__main__" in constant or "__mp_main__" in constant:
                return True
        elif isinstance(constant, tuple | frozenset) and _mentions_main(tuple(constant)):
            return True
    return False


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _weight(value: Any) -> int:
    if isinstance(value, tuple | frozenset):
        return 64 + sum(map(_weight, value))
    return len(value) if isinstance(value, str | bytes) else 32


def _is_constant(value: Any) -> bool:
    """Whether *value* cannot change, and a copy of it is as good."""
    kind = type(value)
    if kind in _CONSTANTS or (kind.__module__, kind.__qualname__) in _VALUES:
        return True
    return kind in {tuple, frozenset} and all(map(_is_constant, value))


def _home(value: Any) -> str | None:
    """The module from which a worker can import *value*, a function or class; None when it cannot."""
    name = getattr(value, "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or name in MAIN_NAMES:
        return None
    found: Any = module
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return name if found is value else None


def _is_importable(module: types.ModuleType) -> bool:
    name = getattr(module, "__name__", None)
    if not isinstance(name, str) or name in MAIN_NAMES or getattr(module, "__spec__", None) is None:
        return False
    return sys.modules.get(name) is module


class _Search:
    """Everything that one function of ``__main__`` reaches."""

    def __init__(self, namespace: dict[str, Any], script: Script) -> None:
        self._namespace = namespace
        self._script = script
        self.names: dict[str, Any] = {}  # all global names that are reached, and what they are bound to
        self.functions: dict[str, types.FunctionType] = {}
        self.values: dict[str, Any] = {}
        self.modules: dict[str, str] = {}
        self._handed = ""  # a function of __main__ that is loaded, but not to be called
        self._wild = ""  # something whose code might look at such a function closely
        self._size = 0

    def add(self, function: types.FunctionType) -> None:
        """Take in *function* and what it reaches."""
        name = function.__name__
        if name in self.functions:
            return
        if function.__globals__ is not self._namespace or self._namespace.get(name) is not function:
            raise NotPortableError(f"{name} is not, or no more, what this name stands for in __main__")
        if function.__qualname__ != name or function.__closure__ or function.__dict__:
            raise NotPortableError(f"{name} is more than a plain function")
        self.names[name] = function
        self.functions[name] = function
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            if not _is_constant(default) and (not isinstance(default, _IMPORTABLE) or _home(default) is None):
                raise NotPortableError(f"{name} has a default of type {type(default).__name__}")
            self._weigh(default)
        for code in _codes(function.__code__):
            if suspect := _SUSPECT.intersection(code.co_names):
                raise NotPortableError(f"{name} uses {min(suspect)}")
            if _mentions_main(code.co_consts):
                raise NotPortableError(f"{name} mentions __main__")
        for use, used in uses(function.__code__):
            self._use(name, use, used)

    def _use(self, user: str, use: int, name: str) -> None:
        if use == Use.STORE:
            raise NotPortableError(f"{user} sets the global {name}")
        if use == Use.IMPORT:
            self._meet(name)
            return
        value = self._namespace.get(name, _MISSING)
        if value is _MISSING:
            if not hasattr(builtins, name):
                raise NotPortableError(f"{user} uses {name}, which does not exist (yet)", name)
            self.names[name] = _MISSING
            return
        if name in self._script.rebound:
            raise NotPortableError(f"{user} uses {name}, which a function of the script sets")
        self.names[name] = value
        if isinstance(value, types.ModuleType):
            if not _is_importable(value):
                raise NotPortableError(f"{user} uses {name}, a module that cannot be imported")
            self.modules[name] = value.__name__
            self._meet(value.__name__)
        elif isinstance(value, types.FunctionType) and value.__module__ in MAIN_NAMES:
            if value.__name__ != name:
                raise NotPortableError(f"{user} uses {name}, another name of {value.__name__}")
            if use != Use.CALL:
                self._handed = name
            self.add(value)
        elif _is_constant(value):
            self.values[name] = value
            self._weigh(value)
        elif isinstance(value, _IMPORTABLE) and (home := _home(value)) is not None:
            self.values[name] = value
            self._meet(home)
        else:
            raise NotPortableError(f"{user} uses {name}, a {type(value).__name__}")

    def _weigh(self, value: Any) -> None:
        self._size += _weight(value)
        if self._size > _LARGE:
            raise NotPortableError("its constants are large")

    def _meet(self, module: str) -> None:
        if module.partition(".")[0] not in _TAME and module != "builtins":
            self._wild = module

    def finish(self) -> None:
        """All has been added."""
        if self._handed and self._wild:
            raise NotPortableError(f"{self._handed} is handed around, and {self._wild} is used")


def pack(function: Any, script: Script) -> tuple[bytes, Snapshot]:
    """*function*, for `planted.plant`, and what that rests on.

    Raises:
        NotPortableError: it has to go by name.
    """
    if script.effect is not None:
        raise NotPortableError(script.effect)
    if not _UNDERSTOOD:
        raise NotPortableError("the code of this interpreter is not known")
    if type(function) is not types.FunctionType:
        raise NotPortableError("it is no plain function")
    namespace = function.__globals__
    search = _Search(namespace, script)
    search.add(function)
    search.finish()
    functions = {name: _parts(each) for name, each in search.functions.items()}
    own = namespace.get("__name__"), namespace.get("__package__")
    if not isinstance(own[0], str) or not isinstance(own[1], str | None):
        raise NotPortableError("its module has no name")
    values = {name: value for name, value in search.values.items() if name not in {"__name__", "__package__"}}
    imports = tuple(_imports(script, search.modules))
    packed: Packed = (function.__name__, functions, values, search.modules, imports, (own[0], own[1]))
    return pickle.dumps(packed, 5), Snapshot(function, search.names)


def _parts(function: types.FunctionType) -> tuple[bytes, Any, Any, Any, Any]:
    annotations = function.__annotations__
    if not all(_is_constant(value) or (isinstance(value, type) and _home(value)) for value in annotations.values()):
        annotations = {}
    return (
        marshal.dumps(function.__code__),
        function.__defaults__,
        function.__kwdefaults__,
        annotations,
        function.__doc__,
    )


def _imports(script: Script, used: dict[str, str]) -> Iterator[str]:
    """Modules whose import may have effects that the function counts on, as running the script would have had.

    Of the standard library, whose modules have none, only the parts of packages that are used.
    """
    for module, name in dict.fromkeys(script.imports):
        package, _, part = module.partition(".")
        if module not in sys.modules or package in {"forkful", *MAIN_NAMES}:
            continue
        if package not in sys.stdlib_module_names or (part and name in used):
            yield module


class PortablePickler(pickle.Pickler):
    """Pickles by value the one function of ``__main__`` that it meets, and refuses anything else of ``__main__``."""

    def __init__(self, script: Script) -> None:
        self._buffer = io.BytesIO()
        super().__init__(self._buffer, 5)
        self._script = script
        self._packed = b""
        self.snapshot: Snapshot | None = None

    def reducer_override(self, obj: Any) -> Any:
        """What `pickle` asks for each object."""
        if getattr(obj, "__module__", None) in MAIN_NAMES and isinstance(obj, type | types.FunctionType):
            if self._packed:
                raise NotPortableError("there are several things of __main__")
            self._packed, self.snapshot = pack(obj, self._script)
            return plant, (self._packed,)
        return NotImplemented

    def pickled(self, value: Any) -> bytes:
        """*value*.

        Raises:
            NotPortableError: it has to go by name.
        """
        self.dump(value)
        blob = self._buffer.getvalue()
        if b"_main__" in blob.replace(self._packed, b""):  # by some name that was not asked for
            raise NotPortableError("there are other things of __main__")
        return blob
