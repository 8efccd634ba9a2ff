"""What tasks have written, until somebody asks for it."""

from __future__ import annotations

import contextlib


class Printed:
    """Standard output and error of the elements of one call or map, as far as there is any."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[int, str, str]] = {}  # by element: attempt, output, errors

    def add(self, index: int, attempt: int, out: str, err: str) -> None:
        """Element *index* has written more, or anew in another attempt: then what the one before wrote is dropped."""
        before = self._texts.get(index)
        if before is not None and before[0] == attempt:
            out, err = before[1] + out, before[2] + err
        self._texts[index] = (attempt, out, err)

    def of(self, index: int) -> tuple[str, str]:
        """Output and errors of element *index*."""
        _, out, err = self._texts.get(index, (0, "", ""))
        return out, err

    def attach(self, index: int, error: BaseException) -> None:
        """Have *error* carry them as ``stdout`` and ``stderr``, where it takes attributes and has none of that name."""
        for name, text in zip(("stdout", "stderr"), self.of(index), strict=True):
            with contextlib.suppress(Exception):  # a frozen one, or one with properties of its own
                if getattr(error, name, None) is None:
                    setattr(error, name, text)

    def drop(self, index: int) -> None:
        """Nobody will ask for those of element *index*."""
        self._texts.pop(index, None)
