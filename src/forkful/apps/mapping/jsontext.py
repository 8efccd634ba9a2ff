"""Values as strict JSON on one line of ASCII, or the reason why they are none."""

from __future__ import annotations

import json
from typing import Any, NoReturn

__all__ = ["NotJSONError", "quote", "to_json"]


class NotJSONError(ValueError):
    """The value holds something that JSON cannot hold; the text names its type and says what to do."""


def to_json(value: Any) -> str:
    """*value* as JSON text without a newline; what cannot be exact (NaN, sets, objects) raises `NotJSONError`.

    As in `json.dumps`, tuples become lists and the keys of dictionaries become strings; two that become the same are
    refused, since readers would keep one of them.
    """
    if type(value) is str:
        return quote(value)
    try:
        text = _encode(value)
        if "{" in text:
            _check_keys(value)
        return text
    except NotJSONError:
        raise
    except RecursionError as error:
        raise NotJSONError("it is nested too deeply for JSON; flatten it") from error
    except (TypeError, ValueError) as error:  # a tuple as a key, NaN, a list that holds itself
        raise NotJSONError(f"{error}; turn it into what JSON can hold first") from error


def _check_keys(value: Any) -> None:
    """Raises `NotJSONError` when two keys of a dictionary in *value* have the same text."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            if len(set(map(type, one))) > 1:  # keys of one type that differ have texts that differ
                _check_mixed_keys(one)
            one = one.values()
        todo.extend(part for part in one if isinstance(part, _CONTAINERS))


def _check_mixed_keys(mixed: dict[Any, Any]) -> None:
    seen: dict[str, Any] = {}
    for key in mixed:
        text = key if isinstance(key, str) else _encode({key: 0})[2:-5]
        if text in seen:
            raise NotJSONError(f"the keys {seen[text]!r} and {key!r} are the same in JSON; use strings that differ")
        seen[text] = key


def _refuse(value: object) -> NoReturn:
    name = type(value).__qualname__
    raise NotJSONError(
        f"it holds an object of type {name!r}, which JSON cannot; use dict, list, str, numbers, bool and None"
    )


# A text as JSON; what the encoder itself calls, without what it does around it.
quote = json.encoder.encode_basestring_ascii

_CONTAINERS = (dict, list, tuple)
_encode = json.JSONEncoder(allow_nan=False, default=_refuse).encode
