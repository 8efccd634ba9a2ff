"""Compressed files as streams of bytes.  One that was cut off is an error at its end, whatever it was packed with."""

from __future__ import annotations

import gzip
import importlib
import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO

__all__ = ["PACKINGS", "find_zstd", "open_packed"]

PACKINGS = (".gz", ".zst")

_PIECE = 1 << 10  # bytes unpacked at once: the most repetitive kilobyte makes 32 MB


def find_zstd() -> Callable[[str], Any] | None:
    """What opens a file that is packed with Zstandard: Python's own module from 3.14 on, or an installed one; else None."""
    try:
        opened: Callable[[str], Any] = importlib.import_module("compression.zstd").open
    except ImportError:
        pass
    else:
        return opened
    try:
        decompressor: Callable[[], Any] = importlib.import_module("zstandard").ZstdDecompressor
    except ImportError:
        return None
    return lambda path: _Frames(path, decompressor().decompressobj)


def open_packed(path: str, packing: str) -> BinaryIO:
    """The bytes in the file at *path*, unpacked.  Raises OSError, and EOFError for a file without any bytes."""
    if os.path.isfile(path) and not os.path.getsize(path):  # gzip would take it for one with nothing in it
        raise EOFError("it has no bytes, and whatever packs a file writes some")
    found = find_zstd() if packing == ".zst" else gzip.open
    assert found is not None, "looked for before"
    file: Any = found(path)
    if isinstance(file, io.RawIOBase):
        file = io.BufferedReader(file, 1 << 16)
    unpacked: BinaryIO = file
    return unpacked


class _Frames(io.RawIOBase):
    """The frames of a Zstandard file, one behind the other.

    Not ``zstandard.open``, which takes the end of a file that was cut off for the end of what is in it.
    """

    def __init__(self, path: str, begin: Callable[[], Any]) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  # closed by close()
        self._begin = begin
        self._frame: Any = None  # what unpacks the one that has begun
        self._packed = b""
        self._unpacked = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """As that of ``io.RawIOBase``."""
        while not self._unpacked:
            if not self._packed:
                self._packed = self._file.read(_PIECE)
                if not self._packed:
                    if self._frame is not None:
                        raise EOFError("Compressed file ended before the end-of-stream marker was reached")
                    return 0
            if self._frame is None:
                self._frame = self._begin()
            self._unpacked = memoryview(self._frame.decompress(self._packed))
            self._packed = b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._unpacked))
        buffer[:size] = self._unpacked[:size]
        self._unpacked = self._unpacked[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()
