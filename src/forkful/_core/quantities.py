"""Numbers, times and sizes, as users of any part of forkful give them: checked in one place, with the same words.  Pure."""

import math
from typing import Any

NO_SECONDS = "{} must be a number of seconds, or None for no limit, not {!r}"
FOR_EVER_S = 1e18  # seconds: twice the age of the universe, and nanoseconds can still count to it
# As in `string`, which takes half a millisecond to import.
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}b": size for unit, size in _UNITS.items() if unit not in {"", "b"}}
_UNITS |= {f"{unit}ib": 2 ** (10 * power) for power, unit in enumerate("kmgt", 1)}


def check_whole(name: str, number: Any) -> int:
    """A whole number, for the argument *name*.

    Raises:
        TypeError: it is none.
    """
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} must be a whole number, not {number!r}")
    return int(number)


def check_duration(name: str, seconds: Any) -> int | None:
    """Nanoseconds, more than none; None where that is for ever.

    Raises:
        TypeError, ValueError: *seconds* is no number, or not more than zero.
    """
    if isinstance(seconds, bool):
        raise TypeError(NO_SECONDS.format(name, seconds))
    number = read_seconds(name, seconds)
    if math.isnan(number) or number <= 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {seconds!r}; leave it out for no limit")
    return int(number * 1e9) if number < FOR_EVER_S else None


def read_seconds(name: str, timeout: Any) -> float:
    """A number of seconds, whichever class it is of."""
    try:
        return float(timeout + 0)  # float() alone would read a text
    except OverflowError:  # an int with more digits than a float can count
        return math.inf if timeout > 0 else -math.inf
    except TypeError:
        raise TypeError(NO_SECONDS.format(name, timeout)) from None


def check_memory(name: str, size: Any) -> int:
    """A number of bytes, for the argument *name*: ``500_000_000``, ``"500MB"`` or ``"1.5 GiB"``.

    Raises:
        TypeError, ValueError: it is none, or not more than zero.
    """
    if isinstance(size, str):
        digits = size.strip().rstrip(_LETTERS)
        unit = size.strip()[len(digits) :].lower()
        try:
            number = float(digits) * _UNITS[unit]
        except (KeyError, ValueError):
            raise ValueError(
                f'{name} must be a size such as "500MB", "1.5GiB" or a number of bytes, not {size!r}'
            ) from None
    elif isinstance(size, bool) or not isinstance(size, int | float):
        raise TypeError(f'{name} must be a size such as "500MB", or a number of bytes, not {size!r}')
    else:
        number = size
    if not 1 <= number < 2**63:  # "nan" is not either
        raise ValueError(f"{name} must be from one byte up, not {size!r}")
    return int(number)
