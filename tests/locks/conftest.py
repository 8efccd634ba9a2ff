"""Each test has a folder of locks of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import Contender


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the locks of this test are."""
    folder = tmp_path / "locks"
    monkeypatch.setenv("FORKFUL_LOCK_DIR", str(folder))
    return folder


@pytest.fixture
def contend() -> Iterator[type[Contender]]:
    """Starts other programs; those that still run at the end are killed."""
    yield Contender
    for contender in Contender.running.copy():
        contender.kill()
