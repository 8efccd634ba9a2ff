"""`Lock.check`, for the lock of a file; for those of servers see their own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkful.errors import LockError, LockLost
from forkful.locks import Lock


def test_is_held(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    with pytest.raises(LockError, match="cannot be checked"):
        lock.check()
    with lock:
        lock.check()


@pytest.mark.parametrize("replace", [False, True])
def test_file_is_gone(tmp_path: Path, replace: bool) -> None:
    path = tmp_path / "lock"
    lock = Lock(path)
    lock.acquire()
    path.unlink()
    if replace:
        path.touch()
    for action in (lock.check, lock.release):
        with pytest.raises(LockLost, match="removed or replaced") as caught:
            action()
        assert caught.value.fence == lock.fence
    with lock:
        lock.check()
