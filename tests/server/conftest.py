"""What the server's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .support import HANDLERS, Program, Start


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Start]:
    """Starts a server with ``serve(<arguments>)``; whatever is left at the end is killed."""

    def start(arguments: str, handlers: str = HANDLERS, **options: Any) -> Program:
        return Program(tmp_path, arguments, handlers, **options)

    yield start
    Program.end_all()
