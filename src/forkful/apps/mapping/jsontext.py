"""Values as strict JSON on one line of ASCII, or the reason why they are none."""

from __future__ import annotations

import json
from typing import Any, NoReturn

__all__ = ["NotJSONError", "to_json"]


class NotJSONError(ValueError):
    """The value holds something that JSON cannot hold; the text names its type and says what to do."""


def to_json(value: Any) -> str:
    """*value* as JSON text without a newline; what cannot be exact (NaN, sets, objects) raises `NotJSONError`.

    As in `json.dumps`, tuples become lists and the keys of dictionaries become strings.
    """
    try:
        return _encode(value)
    except NotJSONError:
        raise
    except RecursionError as error:
        raise NotJSONError("it is nested too deeply for JSON; flatten it") from error
    except (TypeError, ValueError) as error:  # a tuple as a key, NaN, a list that holds itself
        raise NotJSONError(f"{error}; turn it into what JSON can hold first") from error


def _refuse(value: object) -> NoReturn:
    name = type(value).__qualname__
    raise NotJSONError(
        f"it holds an object of type {name!r}, which JSON cannot; use dict, list, str, numbers, bool and None"
    )


_encode = json.JSONEncoder(allow_nan=False, default=_refuse).encode
