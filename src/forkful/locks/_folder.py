"""The folder of locks, one for each user and machine; and files that are opened so that a lock on them means something."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from ..errors import LockError, UnsafeFilesystem

VARIABLE = "FORKFUL_LOCK_DIR"

# Where flock succeeds and says nothing about other hosts, or about anybody.
_UNSAFE = {
    "nfs": "other hosts may not see it",
    "nfs4": "other hosts may not see it",
    "cifs": "other hosts may not see it",
    "smb3": "other hosts may not see it",
    "smbfs": "other hosts may not see it",
    "lustre": "unless it is mounted with -o flock everybody gets it",
    "gpfs": "everybody on another host gets it",
    "beegfs": "other hosts may not see it",
    "ceph": "other hosts may not see it",
    "glusterfs": "other hosts may not see it",
    "afs": "other hosts may not see it",
    "coda": "other hosts may not see it",
    "9p": "the host of this virtual machine does not see it",
    "fuse.sshfs": "the other host does not see it",
    "fuse.s3fs": "nobody else sees it",
    "fuse.gcsfuse": "nobody else sees it",
    "fuse.rclone": "nobody else sees it",
    "fuse.glusterfs": "other hosts may not see it",
    "fuse.juicefs": "other hosts may not see it",
}
_CURE = "use a path on a local disk, or a lock at redis:// or postgresql://"

_GET_GENERATION = 0x80087601  # FS_IOC_GETVERSION: not in the standard library

_safe: set[int] = set()  # devices that were looked at
_folders: dict[str, str] = {}  # that were looked at, by what was asked for


def lock_folder() -> str:
    """The folder where the files of named locks are, and the records of others; made if it is missing.

    ``$FORKFUL_LOCK_DIR``, else ``/dev/shm/forkful-UID``, else such a folder where temporary files go.  It is not where a
    session's files go (``$XDG_RUNTIME_DIR``): two sessions of a user, or a session and a daemon, must find the same.

    Raises:
        LockError: it is relative, belongs to somebody else, others can reach it, or it cannot be made.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted and not os.path.isabs(wanted):
        raise LockError(
            f"{VARIABLE} is {wanted!r}, which would be another folder in each directory, with locks of its own; give its whole "
            f"path"
        )
    return prepare(wanted or f"{_shared_memory()}/forkful-{os.geteuid()}")


def prepare(folder: str) -> str:
    """*folder* as an absolute path, made and looked at; as `lock_folder`."""
    if folder not in _folders or not os.path.isdir(_folders[folder]):  # somebody has cleared up
        _folders[folder] = _prepare(os.path.abspath(folder))
    return _folders[folder]


def _shared_memory() -> str:
    memory = "/dev/shm"  # noqa: S108  # see above
    if os.access(memory, os.W_OK | os.X_OK):
        return memory
    import tempfile  # 6 ms, and on Linux it is not needed

    return tempfile.gettempdir()


def _prepare(folder: str) -> str:
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise LockError(
            f"the folder of locks, {folder}, cannot be made ({error.strerror}); set {VARIABLE} to one that can"
        ) from error
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise LockError(f"{folder} should be the folder of locks, and is none; remove it, or set {VARIABLE}")
    if found.st_uid != os.geteuid():
        raise LockError(
            f"{folder} should be the folder of your locks, and belongs to user {found.st_uid}, not to you (user "
            f"{os.geteuid()}); set {VARIABLE} to one that is yours"
        )
    if found.st_mode & 0o077:
        raise LockError(
            f"{folder} should be the folder of your locks, and others can write or read there; "
            f"make it yours alone (chmod 700), or set {VARIABLE} to one that is"
        )
    check_filesystem(folder, found.st_dev)
    return folder


def check_filesystem(path: str, device: int) -> None:
    """See to it that locks on *device*, where *path* is, exclude.

    Raises:
        UnsafeFilesystem: they are known not to.
    """
    if device in _safe:
        return
    kind = _type_of(device)
    if kind in _UNSAFE:
        raise UnsafeFilesystem(
            f"{path} is on {kind}, where a lock does not exclude ({_UNSAFE[kind]}); {_CURE}", lock=path, filesystem=kind
        )
    _safe.add(device)


def _type_of(device: int) -> str:
    """The type of the file system with this device number; empty if the system does not tell."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.split()
                if fields[2] == wanted:
                    return fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):  # not Linux, or a line that is none
        pass
    return ""


# What each error of opening a lock's file means, and what to do.
_REFUSALS = {
    errno.ELOOP: "is a symbolic link, which could lead two processes to two files; name the file itself",
    errno.EISDIR: "is a directory; name a file in it",
    errno.ENOENT: "cannot be made: its directory does not exist; make that first",
    errno.ENOTDIR: "cannot be made: what should be its directory is a file; name another one",
    errno.EACCES: "cannot be opened: permission is denied; name a file in a directory that you may write to",
    errno.EPERM: "cannot be opened: permission is denied; name a file in a directory that you may write to",
    errno.EROFS: "cannot be made: its file system is read-only; name one elsewhere",
    errno.ENOSPC: "cannot be made: the disk is full; make room there",
    errno.EDQUOT: "cannot be made: your disk quota is used up; make room there",
    errno.EMFILE: "cannot be opened: this process has no descriptor left; close some, or raise `ulimit -n`",
    errno.ENFILE: "cannot be opened: the machine has no open files left; close some, or raise fs.file-max",
    errno.ENAMETOOLONG: "has a name that is too long; name a shorter one",
    errno.ENXIO: "is not a regular file; name another one",
}


def refuse(path: str, error: OSError) -> LockError:
    """What to raise where *path* could not be opened."""
    problem = _REFUSALS.get(error.errno or 0, f"cannot be opened ({error.strerror}); name another one")
    return LockError(f"lock file {path} {problem}", lock=path)


def open_file(path: str, *, create: bool = True) -> int:
    """A descriptor of the regular file at *path*, by which it can be locked; the file is made if need be, for its user alone.

    Raises:
        LockError: it cannot be had; the message says what to do.  Its cause is the system's own error.
        FileNotFoundError: it is not to be made, and is not there.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        try:
            fd = os.open(path, flags | os.O_CREAT if create else flags, 0o600)
        except PermissionError as denied:
            try:
                fd = os.open(path, flags & ~os.O_RDWR)  # somebody else's, which we may read: that is enough for a lock
            except FileNotFoundError:
                raise denied from None  # it is not there because it may not be made
    except OSError as error:
        if error.errno == errno.ENOENT and not create:
            raise
        raise refuse(path, error) from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise LockError(f"lock file {path} is not a regular file; name another one", lock=path)
        check_filesystem(path, found.st_dev)
    except BaseException:
        os.close(fd)
        raise
    return fd


def identify(fd: int) -> tuple[int, int]:
    """Device and inode of the file behind *fd*: which file it is, whatever it is called."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def generation_of(fd: int) -> int:
    """What tells the file behind *fd* from those that had its inode before; 0 where the file system does not."""
    try:
        (number,) = struct.unpack("q", fcntl.ioctl(fd, _GET_GENERATION, bytes(8)))
    except OSError:
        return 0
    return int(number)


def leads_to(path: str, file: tuple[int, int]) -> bool:
    """Whether *path* is that file: it may have been removed, or another one be in its place."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == file
