"""What a script does besides defining things: whether a worker that does not run it misses anything.  Pure: text in, facts out.

A worker that looks into the parent's ``__main__`` runs the script once more, without its guarded part.  A function that
travels by value spares it that.  It may do so only where the rest of the script has no effect that the function could
depend on: a script that sets ``decimal.getcontext().prec`` at its top is run, or the function would compute otherwise there.

The line is drawn on the safe side, by the form of each statement at the top level, see `_Reader`.  What a function of
the script may do to its globals behind our back is looked for in the text: a comment that looks like it costs nothing but
that the script is run, as it always was.
"""

from __future__ import annotations

import _ast as ast  # the nodes alone; `ast` itself takes milliseconds to import
import builtins
import contextlib
import re
import warnings
from collections.abc import Iterable, Iterator

_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST

# Ways for a function to change or to read globals that its code does not name.
_BACK_DOORS = re.compile(
    r"\b(?:globals|exec)\s*\(|\bvars\s*\(\s*\)|\bsys\s*\.\s*modules\b|\bfrom\s+sys\s+import\b[^\n]*\bmodules\b"
    r"|\bimport\s+__main__\b|\bfrom\s+__main__\b|\b__main__\s*\.|\bimport_module\s*\(\s*['\"]__main__|\b__globals__\b|\bf_globals\b"
)
_GLOBAL = re.compile(r"\bglobal\b((?:[^\n;#\\]|\\\r?\n)*)")
_NAME = re.compile(r"\w+")

# Modules whose functions, called at the top level, change nothing that matters in a worker, or what a worker is sent
# along (logging's levels, multiprocessing's start method).
_HARMLESS = {
    "argparse",
    "concurrent",
    "contextlib",
    "forkful",
    "logging",
    "multiprocessing",
    "pprint",
    "tempfile",
    "time",
    "timeit",
}
_HARMLESS_OF_SYS = {"exit", "stderr", "stdout"}
_MEDDLING_BUILTINS = {"__import__", "delattr", "eval", "exec", "setattr"}


class Script:
    """What is known of one script.

    Attributes:
        effect: what it does at the top level that a worker would miss, in words; None when nothing.
        rebound: names that some function of it binds or deletes with ``global``, and those that are bound in the guarded
            part as well as outside of it: to a worker that runs the script they are something else than they are here.
        imports: the modules it imports at the top level, in order: (module, the name that is bound here).
    """

    def __init__(
        self, effect: str | None, rebound: Iterable[str] = (), imports: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.effect = effect
        self.rebound = frozenset(rebound)
        self.imports = tuple(imports)


def study(source: bytes, package: str | None) -> Script:
    """Read the script whose text is *source*; *package* is what relative imports in it are relative to."""
    text = source.decode("utf-8", "replace")
    if door := _BACK_DOORS.search(text):
        return Script(f"it has {' '.join(door[0].split())!r} in it")
    try:
        tree = _parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # not the text that is running
        return Script(f"its text cannot be read ({type(error).__name__})")
    reader = _Reader(package)
    try:
        reader.read(tree.body)
    except _EffectError as found:
        return Script(str(found))
    rebound = {name for names in _GLOBAL.findall(text) for name in _NAME.findall(names)}
    return Script(None, rebound | reader.bound_twice(), reader.imports)


# A backslash that may mean nothing, which is worth a warning.  The interpreter has given that when it started the script.
_ODD_ESCAPE = re.compile(rb"\\[^\r\n\\'\"abfnrtvxuUN0-7]")


def _parse(source: bytes) -> ast.Module:
    with contextlib.ExitStack() as stack:
        if _ODD_ESCAPE.search(source):  # not else: other threads share the filters
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        tree: ast.Module = compile(source, "<script>", "exec", _ONLY_AST, dont_inherit=True)
    return tree


class _EffectError(Exception):
    """Something at the top level has an effect."""


class _Reader:
    """Goes through the statements of the top level, and raises `_EffectError` at the first that may have an effect.

    Allowed are imports, definitions, assignments to plain names and to items of the script's own objects, blocks of
    those, calls of builtin functions and of methods of the script's own objects, and of a few `_HARMLESS` modules.
    """

    def __init__(self, package: str | None) -> None:
        self._package = package or ""
        self._imported: dict[str, str] = {}  # name here -> top-level package it came from
        self._bound: set[str] = set()
        self._outside: set[str] = set()  # of all names that are bound, those that a worker would bind too
        self._guarded: set[str] = set()  # and those that it would not
        self.imports: list[tuple[str, str]] = []

    def bound_twice(self) -> set[str]:
        """Names that are bound in the guarded part and outside of it."""
        return self._guarded & (self._bound | self._outside)

    def read(self, statements: Iterable[ast.stmt]) -> None:
        """Go through *statements*."""
        for statement in statements:
            self._read_one(statement)

    def _read_one(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._import(alias.name, alias.asname or alias.name.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            self._import_from(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._bound.add(node.name)
        elif isinstance(node, ast.Assign):
            self._bind(*node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            self._bind(node.target)
        elif isinstance(node, ast.Delete):
            self._bind(*node.targets)
        elif isinstance(node, ast.Expr):
            self._evaluate(node.value)
        elif isinstance(node, ast.If):
            self._branch(node)
        elif isinstance(node, ast.For):
            self._bind(node.target)
            self.read((*node.body, *node.orelse))
        elif isinstance(node, ast.While):
            self.read((*node.body, *node.orelse))
        elif isinstance(node, ast.With):
            for item in node.items:
                self._enter(item.context_expr)
                if item.optional_vars is not None:
                    self._bind(item.optional_vars)
            self.read(node.body)
        elif isinstance(node, ast.Try | ast.TryStar):
            self.read(node.body)
            for handler in node.handlers:
                if handler.name:
                    self._bound.add(handler.name)
                self.read(handler.body)
            self.read((*node.orelse, *node.finalbody))
        elif not isinstance(node, ast.Raise | ast.Assert | ast.Pass | ast.Break | ast.Continue | ast.Global):
            raise _EffectError(f"line {node.lineno} may have effects")

    def _import(self, module: str, name: str) -> None:
        self._imported[name] = module.partition(".")[0]
        self._outside.add(name)
        self.imports.append((module, name))

    def _import_from(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level:
            parts = self._package.split(".")
            module = ".".join([*parts[: len(parts) - node.level + 1], *([module] if module else [])])
        for alias in node.names:
            self._import(module, alias.asname or alias.name)
            if alias.name != "*":
                self.imports.append((f"{module}.{alias.name}", alias.asname or alias.name))  # if that is a module

    def _bind(self, *targets: ast.expr) -> None:
        for target in targets:
            if isinstance(target, ast.Name):
                self._bound.add(target.id)
                self._imported.pop(target.id, None)
            elif isinstance(target, ast.Tuple | ast.List):
                self._bind(*target.elts)
            elif isinstance(target, ast.Starred):
                self._bind(target.value)
            elif not (isinstance(target, ast.Subscript) and self._is_own(_root(target))):
                raise _EffectError(f"line {target.lineno} sets something that is not the script's own")

    def _is_own(self, name: str | None) -> bool:
        return name in self._bound and name not in self._imported

    def _branch(self, node: ast.If) -> None:
        if _is_guard(node.test):
            for statement in node.body:
                self._guarded.update(_bindings(statement))
        else:
            if any(isinstance(part, ast.Name) and part.id == "__name__" for part in _walk(node.test)):
                raise _EffectError(f"line {node.lineno} does something else in a worker")
            self.read(node.body)
        self.read(node.orelse)

    def _evaluate(self, value: ast.expr) -> None:
        if isinstance(value, ast.Constant | ast.Name | ast.JoinedStr):
            return
        if not isinstance(value, ast.Call) or not self._is_harmless(value):
            raise _EffectError(f"line {value.lineno} may change something outside of the script")

    def _is_harmless(self, call: ast.Call) -> bool:
        root = _root(call.func)
        if root is None:
            return isinstance(_bottom(call.func), ast.Constant | ast.JoinedStr)  # a method of a text
        if root in self._imported:
            return self._imported[root] in _HARMLESS or _is_of_sys(call.func, self._imported[root])
        if root in self._bound:
            return isinstance(call.func, ast.Attribute)  # a method; what a function of the script does is not looked at
        return hasattr(builtins, root) and root not in _MEDDLING_BUILTINS

    def _enter(self, value: ast.expr) -> None:
        if isinstance(value, ast.Name) and self._is_own(value.id):
            return
        if not isinstance(value, ast.Call) or not self._is_harmless(value):
            raise _EffectError(f"line {value.lineno} enters a context that a worker would not be in")


def _bottom(node: ast.expr) -> ast.expr:
    while True:
        if isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return node


def _root(node: ast.expr) -> str | None:
    """The name that an expression of attributes, items and calls begins with."""
    bottom = _bottom(node)
    return bottom.id if isinstance(bottom, ast.Name) else None


def _is_of_sys(function: ast.expr, package: str) -> bool:
    """Whether it is ``sys.exit``, or a method of ``sys.stdout`` and its like."""
    if package != "sys":
        return False
    while isinstance(function, ast.Attribute) and isinstance(function.value, ast.Attribute):
        function = function.value
    return isinstance(function, ast.Attribute) and function.attr in _HARMLESS_OF_SYS


def _is_guard(test: ast.expr) -> bool:
    """Whether it is ``__name__ == "__main__"``, perhaps ``and`` something else: false in a worker."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(_is_guard(value) for value in test.values)
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)):
        return False
    sides = (test.left, test.comparators[0])
    return any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides) and any(
        isinstance(side, ast.Constant) and side.value == "__main__" for side in sides
    )


def _bindings(statement: ast.stmt) -> Iterator[str]:
    """The names that *statement* binds, and perhaps more: those that functions in it bind for themselves."""
    for node in _walk(statement):
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for field in node._fields:
        value = getattr(node, field, None)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST):
                yield from _walk(part)
