"""JSON as people keep it in files: what is wrong with it, and written again as it was written before.  Pure."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

_INDENTED = re.compile(
    r"\s*[\[{][ \t]*\r?\n([ \t]*)[^\s\]}]"
)  # a first line with a bracket only; what the second begins with
_SHOWN = 40  # characters of a key in a message


class Style(NamedTuple):
    """How a text of JSON is laid out."""

    indent: str | None = "  "
    item: str = ","  # between two items
    key: str = ": "  # behind a key
    ascii: bool = False  # other letters are written as \\u…
    end: str = "\n"


def style_of(text: str) -> Style:
    """The layout of *text*; for what an empty document does not tell, two spaces and a newline."""
    end = "\n" if text.endswith("\n") else ""
    if len(text.strip()) <= 2:  # {} or []
        return Style(end=end)
    indented = _INDENTED.match(text)
    item = "," if indented or ("," in text and ", " not in text) else ", "
    key = ":" if ":" in text and ": " not in text else ": "
    return Style(indented[1] if indented else None, item, key, text.isascii() and "\\u" in text, end)


def decode(raw: bytes, path: str) -> tuple[Any, Style]:
    """The document in *raw*, the content of the file at *path*, and its layout.

    Raises:
        ValueError: it is not JSON in UTF-8; the message names the file, the line and the column.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = raw.count(b"\n", 0, error.start) + 1, error.start - raw.rfind(b"\n", 0, error.start)
        raise ValueError(f"{path} is not UTF-8, so it was left as it is: line {line} column {column}") from error

    def refuse(name: str) -> None:
        line = text.count("\n", 0, text.find(name)) + 1
        raise ValueError(f"{path} is not JSON, so it was left as it is: {name} on line {line}; write null, or a number")

    try:
        return json.loads(text, parse_constant=refuse), style_of(text)
    except json.JSONDecodeError as error:
        message = f"{path} is not JSON, so it was left as it is: {error.msg}"
        raise json.JSONDecodeError(message, error.doc, error.pos) from None


def encode(value: Any, style: Style, path: str) -> bytes:
    """*value* as the content of the file at *path*.

    Raises:
        TypeError: something in it is not JSON; the message names the key.
        ValueError: it holds itself.
    """
    problem = find_problem(value)
    if problem is not None:
        raise TypeError(f"{path} was left as it is: {problem}")
    separators = style.item, style.key
    try:
        text = json.dumps(value, ensure_ascii=style.ascii, indent=style.indent, separators=separators)
    except ValueError as error:
        raise ValueError(f"{path} was left as it is: {error}") from error
    try:
        return (text + style.end).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only \u can write
        return encode(value, style._replace(ascii=True), path)


def find_problem(document: Any) -> str | None:
    """What in *document* JSON cannot hold, and what can be done; None if there is nothing.

    A key that is no text is such a thing, though `json` would make it one: read again, it would be another key.

    >>> find_problem({"buyers": [1, {2}]})
    "doc['buyers'][1] is a set, which is not JSON; make it a dict, list, str, number, bool or None"
    """
    todo, seen = [("doc", document)], set()
    while todo:
        where, value = todo.pop()
        if isinstance(value, dict | list | tuple):
            if id(value) in seen:
                continue
            seen.add(id(value))
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    return f"{where} has the key {_show(key)}, which is not a str; write {_show(str(key))}"
            todo += [(f"{where}[{_show(key)}]", item) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            todo += [(f"{where}[{index}]", item) for index, item in enumerate(value)]
        elif isinstance(value, float):
            if not math.isfinite(value):
                return f"{where} is {value!r}, which is not JSON; make it a finite number, or None"
        elif value is not None and not isinstance(value, str | int):
            kind = type(value).__name__
            return f"{where} is a {kind}, which is not JSON; make it a dict, list, str, number, bool or None"
    return None


def _show(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
