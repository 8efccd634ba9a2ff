"""Control groups for tests: made where that may be, and gone with the test; elsewhere the test is skipped by name."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from forkful._core import cgroups


class Group:
    """A new group below this process's own, or at the top where version 2 allows none there."""

    def __init__(self, controller: str, v1: dict[str, str], v2: dict[str, str]) -> None:
        self.version, folders = cgroups.chain(controller)
        if not folders:
            pytest.skip(f"no control groups with {controller} here")
        above = Path(folders[0] if self.version == 1 else folders[-1])
        self.folder = above / f"forkful-test-{os.getpid()}"
        try:
            if self.version == 2:
                (above / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
            self.folder.mkdir()
            for name, value in (v1 if self.version == 1 else v2).items():
                (self.folder / name).write_text(value, encoding="ascii")
        except OSError as error:
            self._remove()
            pytest.skip(f"no control group for {controller} can be made here: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for _ in range(100):
            try:
                with contextlib.suppress(FileNotFoundError):
                    self.folder.rmdir()
            except OSError as error:  # its last process has ended; the kernel is about to notice, and tells nobody
                if error.errno != errno.EBUSY:
                    raise
                time.sleep(0.05)
            else:
                return

    def join_code(self) -> str:
        """The first lines of a program that is to run in the group."""
        return f"from pathlib import Path\nPath({str(self.folder / 'cgroup.procs')!r}).write_text('0')\n"
