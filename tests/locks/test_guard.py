"""The file by which a shared file is locked is for all who may use that; and what a new content inherits from the old."""

from __future__ import annotations

import json
import os
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forkful.errors import LockError
from forkful.locks import Lock, SharedJSON

from .conftest import short_folder
from .support import run

OWNER, MEMBER, OTHER, GROUP = 12001, 12002, 12003, 12100
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


@pytest.fixture
def path() -> Iterator[Path]:
    """A file in a directory that anybody may write to."""
    with short_folder() as folder:
        folder.chmod(0o777)
        path = folder / "a.txt"
        path.write_text('{"count": 0}')
        yield path


def count(path: Path) -> None:
    """Add one."""
    with SharedJSON(path) as doc:
        doc["count"] += 1


def by(user: int, work: Callable[[], object], *groups: int) -> int:
    """The exit code of a forked child that does *work* as somebody else."""

    def change_and_work() -> None:
        with short_folder() as folder:
            os.environ["FORKFUL_LOCK_DIR"] = str(folder / "locks")
            (folder / "locks").mkdir(0o700)
            os.chown(folder / "locks", user, user)
            os.setgroups(groups)
            os.setresgid(user, user, 0)
            os.setresuid(user, user, 0)
            try:
                work()
            finally:
                os.setresuid(0, 0, 0)
                os.setresgid(0, 0, 0)

    return run(change_and_work)


@as_root
@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("changes", [False, True])
def test_root_does_not_lock_the_owner_out(path: Path, mode: int, changes: bool) -> None:
    os.chown(path, OWNER, OWNER)
    path.chmod(mode)
    with SharedJSON(path) as doc:
        doc["count"] += changes
    assert by(OWNER, lambda: count(path)) == 0
    assert json.loads(path.read_text()) == {"count": 1 + changes}


@as_root
def test_members_of_its_group(path: Path) -> None:
    """Each with a group of their own beside."""
    os.chown(path, 0, GROUP)
    path.chmod(0o660)
    for user in (OWNER, MEMBER):
        assert by(user, lambda: count(path), GROUP) == 0
    assert json.loads(path.read_text()) == {"count": 2}


@as_root
def test_file_is_opened_to_others_later(path: Path) -> None:
    path.chmod(0o600)
    count(path)
    path.chmod(0o666)

    def fail() -> None:
        with pytest.raises(LockError, match=r"have its owner use the file once more, so that the lock gets the file's"):
            count(path)

    assert by(OTHER, fail) == 0
    count(path)
    assert by(OTHER, lambda: count(path)) == 0
    assert json.loads(path.read_text()) == {"count": 3}


@as_root
@pytest.mark.parametrize("trick", ["content", "link"])
def test_root_gives_away_no_file_that_is_no_guard(path: Path, trick: str) -> None:
    """Who may write the directory could have put anything in the guard's place."""
    guard = path.parent / ".a.txt.lock"
    guard.write_text("secret" if trick == "content" else "")
    if trick == "link":
        os.link(guard, path.parent / "other")
    guard.chmod(0o600)
    os.chown(path, OWNER, OWNER)
    path.chmod(0o666)
    count(path)
    found = guard.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o600)


@as_root
def test_directory_does_not_permit_it(path: Path) -> None:
    """That is said before the block is run."""
    path.chmod(0o666)
    count(path)
    (path.parent / ".a.txt.lock").chmod(0o666)

    def fail(message: str) -> None:
        with pytest.raises(PermissionError, match=message):
            SharedJSON(path).__enter__()

    path.parent.chmod(0o1777)
    assert by(OTHER, lambda: fail("its directory is sticky, so it may not be replaced; ")) == 0
    path.parent.chmod(0o755)
    assert by(OTHER, lambda: fail("its directory may not be written, where its new content begins; ")) == 0


def access_list(user: int, bits: int) -> bytes:
    """``user::rwx,user:USER:BITS,group::r-x,mask::rwx,other::r-x``, as the kernel has it."""
    entries = [(1, 7, -1), (2, bits, user), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, bits, who & 0xFFFFFFFF) for tag, bits, who in entries
    )


@pytest.mark.parametrize("own", [False, True])
def test_directory_has_an_access_list_for_new_files(path: Path, own: bool) -> None:
    """The new content is for those whom the old one was for."""
    path.chmod(0o640)
    if own:
        os.setxattr(path, "system.posix_acl_access", access_list(OWNER, 4))
    before = path.stat().st_mode, [os.getxattr(path, name) for name in os.listxattr(path)]
    try:
        os.setxattr(path.parent, "system.posix_acl_default", access_list(OTHER, 7))
    except OSError:
        pytest.skip("this file system has no access lists")
    count(path)
    assert (path.stat().st_mode, [os.getxattr(path, name) for name in os.listxattr(path)]) == before


def test_file_is_removed_inside_the_block(path: Path) -> None:
    """What becomes of it is for those whom it was for."""
    path.chmod(0o600)
    with SharedJSON(path) as doc:
        path.unlink()
        doc["count"] += 1
    assert path.read_text() == '{"count": 1}'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_link_leads_elsewhere_after_the_wait(path: Path) -> None:
    link, other = path.parent / "link", path.parent / "other"
    other.write_text('{"count": 5}')
    link.symlink_to(path)
    waiter = threading.Thread(target=count, args=(link,))
    with SharedJSON(path) as doc:
        waiter.start()
        mechanism: Any = Lock(path.parent / ".a.txt.lock")._door.mechanism
        while not mechanism._record.waiters():  # nothing else tells of it
            time.sleep(0.001)
        doc["count"] = 1
        link.unlink()
        link.symlink_to(other)
    waiter.join()
    assert (path.read_text(), other.read_text()) == ('{"count": 1}', '{"count": 6}')


def test_block_is_left_by_another_thread(path: Path) -> None:
    """As with a generator that goes on in one: it is written, and free."""

    def work() -> Iterator[None]:
        with SharedJSON(path) as doc:
            doc["count"] += 1
            yield

    generator = work()
    thread = threading.Thread(target=next, args=(generator,))
    thread.start()
    thread.join()
    assert next(generator, None) is None
    count(path)
    assert path.read_text() == '{"count": 2}'
