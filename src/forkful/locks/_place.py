"""From what a user writes to where a lock is.  Pure, but for the directory that a relative path starts from."""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple

ANONYMOUS, NAMED, PATH, REMOTE = "anonymous", "named", "path", "remote"

_SCHEMES = ("redis", "rediss", "unix", "postgresql", "postgres")
_READABLE = 40  # characters of a name that its file's name begins with; what tells names apart is the hash behind them

_HOST = re.compile(r"(\[[^\]@]*\]|[^:@\[\]]+)?(:\d*)?")  # without a user before it
_SECRET_OPTION = re.compile(r"([?&][a-z_]*password=)[^&#]*", re.IGNORECASE)

Spec = str | os.PathLike[str] | None


class Place(NamedTuple):
    """Where a lock is: the same in every process that names it."""

    kind: str
    text: str  # a token, a name, an absolute path, or a URL
    folder: str = ""  # of locks, where its file or its record is: the same for whoever is given the lock

    def describe(self) -> str:
        """In words, for messages."""
        return "an anonymous lock" if self.kind == ANONYMOUS else f"lock {self.shown!r}"

    @property
    def shown(self) -> str:
        """Its text, as anybody may see it: without a password."""
        return mask(self.text) if self.kind == REMOTE else self.text

    def __repr__(self) -> str:
        return f"Place(kind={self.kind!r}, text={self.shown!r})"

    def file_name(self, suffix: str) -> str:
        """The name of its file in the folder of locks; of no use for a path, whose file is elsewhere."""
        if self.kind == ANONYMOUS:
            return f"anonymous-{self.text}.{suffix}"
        readable = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in self.text[:_READABLE])
        digest = hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()[:20]
        return f"{readable}-{digest}.{suffix}"


def mask(url: str) -> str:
    """*url* with stars for its passwords; a malformed one rather loses too much than shows one."""
    scheme, separator, rest = url.partition("://")
    hosts = re.split(r"[/?#]", rest, maxsplit=1)[0].split(",")
    user, _, after = rest.partition(":")
    if "@" in after and "@" not in user and not all(_HOST.fullmatch(host) for host in hosts):
        rest = f"{user}:***@{after.rpartition('@')[2]}"  # to the last @: one in the password may not have been quoted
    return scheme + separator + _SECRET_OPTION.sub(r"\1***", rest)


def find_place(spec: Spec) -> Place:
    """What *spec* names.

    A name has no slash.  A path is absolute, or begins with ``./``, ``../`` or ``~``, or is a ``Path``.  A URL has a scheme.
    None is a new lock that nobody else can name.

    Raises:
        TypeError, ValueError: it names nothing; the message says how to write what was meant.
    """
    if spec is None:
        return Place(ANONYMOUS, os.urandom(16).hex())
    if isinstance(spec, os.PathLike):
        path = os.fspath(spec)
        spec = os.path.join(".", path) if isinstance(path, str) else path  # a Path is one, whatever it is called
    if not isinstance(spec, str):
        raise TypeError(f"a lock is named by a str (a name, a path, a URL) or a Path, not by {spec!r}")
    if not spec:
        raise ValueError("a lock's name must not be empty; Lock() without a name is one that nobody else can name")
    if "\0" in spec:
        raise ValueError(f"a lock's name must not hold a null character: {mask(spec)!r}")
    scheme, separator, _ = spec.partition("://")
    if separator:
        if scheme not in _SCHEMES:
            raise ValueError(f"there is no engine for locks at {scheme}://; there are {', '.join(_SCHEMES)}")
        return Place(REMOTE, spec)
    if spec.startswith(("/", "./", "../", "~")):
        path = os.path.expanduser(spec)
        if path.startswith("~"):
            raise ValueError(f"there is no such user's home as in {spec!r}; write ./{spec} for a file of that name")
        return Place(PATH, os.path.abspath(path))
    if "/" in spec:
        raise ValueError(f"a lock's name has no slash; if {spec!r} is a file, write ./{spec} or its whole path")
    return Place(NAMED, spec)
