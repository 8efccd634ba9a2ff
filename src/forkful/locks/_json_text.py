"""JSON as people keep it in files: what is wrong with it, and written again as it was written before.  Pure."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

_BOM = b"\xef\xbb\xbf"
_SPACE = " \t\r\n"  # what JSON takes for it
_STRING = r'"(?:[^"\\]|\\.)*(?:"|$)'  # the last may be cut
_LOOKED_AT = 10_000  # characters that tell the separators
# A first line with a bracket only; what the second begins with.
_INDENTED = re.compile(r"\s*[\[{][ \t]*\r?\n([ \t]*)[^\s\]}]")
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\u(?!00[0-7])")  # a letter that is so because it is not ASCII
_SHOWN = 40  # characters of a key in a message


class Style(NamedTuple):
    """How a text of JSON is laid out."""

    indent: str | None = "  "
    item: str = ","  # between two items
    key: str = ": "  # behind a key
    ascii: bool = False  # other letters are written as \\u…
    newline: str = "\n"
    end: str = "\n"  # behind it all
    bom: bytes = b""


class _Refused(ValueError):
    """It is JSON for some, and not for us; the message says why."""


def style_of(text: str) -> Style:
    """The layout of *text*; for what an empty document does not tell, two spaces and a newline."""
    newline = "\r\n" if "\r\n" in text else "\n"
    end = text[len(text.rstrip(_SPACE)) :]
    if len(text.strip(_SPACE)) <= 2:  # {} or []
        return Style(newline=newline, end=end)
    marks = re.sub(_STRING, "", text[:_LOOKED_AT])
    indented = _INDENTED.match(text)
    item = "," if indented or ("," in marks and ", " not in marks) else ", "
    key = ":" if ":" in marks and ": " not in marks else ": "
    is_ascii = "\\u" in text and text.isascii() and _ESCAPED.search(text) is not None
    return Style(indented[1] if indented else None, item, key, is_ascii, newline, end)


def decode(raw: bytes, path: str) -> tuple[Any, Style]:
    """The document in *raw*, the content of the file at *path*, and its layout.

    Raises:
        ValueError: it is not JSON in UTF-8, or there is no telling what it means; the message names the file and, for most,
            the line and the column.
    """
    bom = _BOM if raw.startswith(_BOM) else b""
    try:
        text = raw[len(bom) :].decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start + len(bom)
        line, column = raw.count(b"\n", 0, at) + 1, at - raw.rfind(b"\n", 0, at)
        raise ValueError(f"{path} is not UTF-8, so it was left as it is: line {line} column {column}") from error

    def refuse(number: str) -> None:
        found = (match for match in re.finditer(rf"{_STRING}|[^\s,:\[\]{{}}]+", text) if match[0] == number)
        line = text.count("\n", 0, next(found).start()) + 1
        raise _Refused(f"is not JSON, so it was left as it is: {number} on line {line}; write null, or a number")

    def read_float(number: str) -> float:
        value = float(number)
        if math.isinf(value):
            refuse(number)
        return value

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=read_float, object_pairs_hook=_make_dict)
        return value, style_of(text)._replace(bom=bom)
    except json.JSONDecodeError as error:
        message = f"{path} is not JSON, so it was left as it is: {error.msg}"
        raise json.JSONDecodeError(message, error.doc, error.pos) from None
    except _Refused as error:
        raise ValueError(f"{path} {error}") from None
    except ValueError as error:  # an integer with more digits than Python reads
        raise ValueError(f"{path} was left as it is: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path} was left as it is: {_TOO_DEEP}") from error


_TOO_DEEP = "its lists and dicts are nested too deeply for Python; make it flatter"


def _make_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Refused(f"was left as it is: the key {_show(twice)} is there twice in one object; remove one of them")
    return made


def encode(value: Any, style: Style, path: str) -> bytes:
    """*value* as the content of the file at *path*.

    Raises:
        TypeError: something in it is not JSON; the message names the key.
        ValueError: it holds itself, is nested too deeply, or has an integer of more digits than Python writes.
    """
    problem = find_problem(value)
    if problem is not None:
        raise TypeError(f"{path} was left as it is: {problem}")
    separators = style.item, style.key
    try:
        text = json.dumps(value, ensure_ascii=style.ascii, indent=style.indent, separators=separators)
    except ValueError as error:
        raise ValueError(f"{path} was left as it is: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path} was left as it is: {_TOO_DEEP}") from error
    if style.newline != "\n":
        text = text.replace("\n", style.newline)  # none is in a string: there they are escaped
    try:
        return style.bom + (text + style.end).encode()
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
