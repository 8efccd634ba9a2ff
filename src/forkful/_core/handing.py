"""Handing over: sockets and connections inside the arguments of tasks, and inside their results.

A descriptor cannot stand in a pickle, only its place there can.  So a pickle that has any is a `Bundle`: the bytes, with a
copy of each descriptor, made when the call was made.  Who unpacks it gets a `Handed`, which comes by the descriptors on the
wire and puts them into their places.  See "Descriptors" in ``README.md``.

Nothing is asked of a pickle without descriptors: `pickle` itself finds what is registered for the classes of these objects,
and that ends the pickling with `DescriptorInside`, if it is one of ours; it is then done again by `pack`.
"""

from __future__ import annotations

import contextlib
import copyreg
import errno
import fcntl
import functools
import itertools
import os
import socket
import sys
import threading
import types
import weakref
from collections.abc import Callable
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, TypeVar

from . import codec
from .forks import hold, note, without_forks

if TYPE_CHECKING:
    from .accounts import Account

F = TypeVar("F", bound=Callable[..., Any])


class DescriptorInside(BaseException):
    """What is being pickled holds a descriptor: `pack` is the way.  No `Exception`, so nobody takes it for one of his own."""


# The functions that pickle, and see to it where there are descriptors.
_takers: set[types.CodeType] = set()


def takes_descriptors(function: F) -> F:
    """Mark *function*: what it pickles may hold descriptors, and it knows what to do about `DescriptorInside`."""
    _takers.add(function.__code__)
    return function


# Giving.


class Bundle:
    """A payload, pickled, and the descriptors that go with it; they are closed at the latest when it has gone."""

    __slots__ = ("__weakref__", "_once", "_places", "fds", "number", "payload")

    def __init__(self, *, once: bool) -> None:
        self.number = next(_numbers)
        self.fds: list[int] = []
        self.payload: Any = b""
        self._once = once  # it is handed over once at most
        self._places: dict[int, int] = {}  # of those that are here already
        hold(self)

    def add(self, fd: int) -> int:
        """Copy a descriptor of the program's; the place of the copy."""
        if fd not in self._places:
            copy = functools.partial(fcntl.fcntl, fd, fcntl.F_DUPFD_CLOEXEC, 3)
            without_forks(lambda: note(self.fds, copy))
            self._places[fd] = len(self.fds) - 1
        return self._places[fd]

    @property
    def mentions_main(self) -> bool:
        """As `codec.mentions_main`."""
        return codec.mentions_main(self.payload)

    def __len__(self) -> int:
        return len(self.payload)

    def __reduce__(self) -> tuple[Any, ...]:
        return unpack, (self.number, len(self._places), self.payload)

    def handed_over(self) -> None:
        """A worker has them: unless another might need them too, there is no copy here from now on."""
        if self._once:
            self.close()

    def close(self) -> None:
        """Close the descriptors."""
        while self.fds:
            with contextlib.suppress(OSError):  # somebody has closed what he did not open
                os.close(self.fds.pop())

    disown = close

    def __del__(self) -> None:
        self.close()


_numbers = itertools.count(1)
_bundles: weakref.WeakValueDictionary[int, Bundle] = weakref.WeakValueDictionary()
_packing: dict[int, Bundle] = {}  # by thread
_given: weakref.WeakSet[Any] = weakref.WeakSet()  # connections of the program's whose copies tasks were given


def pack(pickle: Callable[..., Any], value: Any, *, once: bool) -> Bundle:
    """*value* as *pickle* makes it, which has come upon a `DescriptorInside`.

    Args:
        once: whether no second reader will ever need it.

    Raises:
        whatever *pickle* raises; ``OSError`` where there is no descriptor for a copy.
    """
    thread = threading.get_ident()
    bundle = Bundle(once=once)
    outer = _packing.get(thread)  # a `__reduce__` uses a pool
    _packing[thread] = bundle
    try:
        bundle.payload = pickle(value, once=once)
    except BaseException:
        bundle.close()
        raise
    finally:
        if outer is None:
            del _packing[thread]
        else:
            _packing[thread] = outer
    _bundles[bundle.number] = bundle
    return bundle


def find(number: int) -> Bundle | None:
    """The bundle of that number, if it is still needed."""
    return _bundles.get(number)


def close_given() -> None:
    """In a worker that was forked: of what belongs to tasks there must be no copy, or nobody would see it end."""
    for given in list(_given):
        with contextlib.suppress(OSError):
            if isinstance(given, socket.socket):
                fd = given.detach()
                if fd >= 0:
                    os.close(fd)
            else:
                given.close()
    _given.clear()


# What pickle calls.


def _reduce_socket(sock: socket.socket) -> Any:
    bundle = _bundle_of(sock)
    if bundle is None:
        return sock.__reduce_ex__(2)  # as it was without us: an error
    if sock.fileno() < 0:
        raise ValueError("a socket among them is closed; close it after the call, which makes a copy")
    place = bundle.add(sock.fileno())
    if sock.type != socket.SOCK_DGRAM and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        _given.add(sock)
    return _rebuild_socket, (place, int(sock.family), int(sock.type), sock.proto, sock.gettimeout())


def _rebuild_socket(place: int, family: int, kind: int, proto: int, timeout: float | None) -> socket.socket:
    fd = _claim(place)
    try:
        sock = socket.socket(family, kind, proto, fd)
    except BaseException:
        os.close(fd)
        raise
    sock.settimeout(timeout)
    return sock


def _reduce_connection(connection: Any) -> Any:
    bundle = _bundle_of(connection)
    if bundle is None:
        return connection.__reduce_ex__(2)  # as it was without us
    if connection.closed:
        raise ValueError("a connection among them is closed; close it after the call, which makes a copy")
    place = bundle.add(connection.fileno())
    _given.add(connection)
    return _rebuild_connection, (place, connection.readable, connection.writable)


def _rebuild_connection(place: int, readable: bool, writable: bool) -> Any:
    from multiprocessing.connection import Connection  # few programs need it

    return Connection(_claim(place), readable, writable)


def _bundle_of(obj: Any) -> Bundle | None:
    """Where the descriptor of *obj*, which is being pickled, belongs; None where that is no business of ours.

    Raises:
        DescriptorInside: see there.
        TypeError: it is ours, but not part of an argument or a result.
    """
    bundle = _packing.get(threading.get_ident())
    if bundle is not None:
        return bundle
    frame: types.FrameType | None = sys._getframe(2)  # of whoever has called pickle, which has none
    ours = False
    while frame is not None and _is_between(frame):
        ours = True
        frame = frame.f_back
    if frame is not None and frame.f_code in _takers:
        raise DescriptorInside
    if ours and frame is not None and frame.f_globals.get("__package__", "").startswith(_PACKAGE):
        raise TypeError(
            f"cannot pickle {type(obj).__name__!r} object here: a descriptor can be in a task's arguments or in its result"
        )
    return None


_PACKAGE = __name__.partition(".")[0]
_BETWEEN = frozenset({f"{__package__}.codec", f"{__package__}.lending"})


def _is_between(frame: types.FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name in _BETWEEN or name.partition(".")[0] == "cloudpickle"


class _Registry(dict[Any, Any]):
    """What `multiprocessing` has registered for its own pickler, to know of connections as soon as there can be any."""

    def __setitem__(self, kind: Any, reducer: Any) -> None:
        super().__setitem__(kind, reducer)
        _note_kind(kind)


def _note_kind(kind: Any) -> None:
    if kind.__module__ == "multiprocessing.connection" and kind.__name__ == "Connection":
        copyreg.dispatch_table.setdefault(kind, _reduce_connection)


def register() -> None:
    """From now on `pickle` tells of descriptors where it is used for a pool; elsewhere all is as before."""
    copyreg.dispatch_table.setdefault(socket.socket, _reduce_socket)
    known = getattr(reduction.ForkingPickler, "_extra_reducers", {})
    if type(known) is dict:
        # To plain pickle a connection is an object like any other, with a number in it that means nothing elsewhere.
        reduction.ForkingPickler._extra_reducers = _Registry(known)  # type: ignore[attr-defined]
        for kind in known:
            _note_kind(kind)


# Getting.

_claiming: dict[int, list[int]] = {}  # by thread: the descriptors of what is being rebuilt


def _claim(place: int) -> int:
    """A descriptor, now the caller's.

    Raises:
        OSError: there is none to be had.
    """
    fds = _claiming.get(threading.get_ident())
    if fds is None:
        raise LookupError("this was pickled inside something else, and cannot be rebuilt without that")
    try:
        return fcntl.fcntl(fds[place], fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError as error:
        from .accounts import no_descriptors  # here already: they came through it

        raise no_descriptors(error.errno or errno.EMFILE) from error


class Handed:
    """A bundle at its reader's."""

    __slots__ = ("__weakref__", "_fds", "_get", "_payload")

    def __init__(self, get: Callable[[], list[int]] | None, payload: Any, fds: list[int] | None = None) -> None:
        self._get = get
        self._payload = payload
        self._fds: list[int] = [] if fds is None else fds
        hold(self)

    def __len__(self) -> int:
        return len(self._payload)

    def load(self) -> Any:
        """Rebuild the object; may be done again where it was interrupted.

        Raises:
            OSError: its descriptors could not be had.
            BaseException: user code (``__setstate__``) may raise anything.
        """
        if self._get is not None:
            self._fds, self._get = self._get(), None
        thread = threading.get_ident()
        outer = _claiming.get(thread)
        _claiming[thread] = self._fds
        try:
            payload = self._payload
            value = codec.loads(payload) if type(payload) is bytes else payload.load()
        finally:
            if outer is None:
                del _claiming[thread]
            else:
                _claiming[thread] = outer
        self.disown()
        return value

    def take(self) -> Any:
        """`load` for the last time."""
        try:
            return self.load()
        finally:
            self.disown()
            if type(self._payload) is not bytes:
                self._payload = b""

    def disown(self) -> None:
        """Close the descriptors; what was rebuilt has its own."""
        while self._fds:
            with contextlib.suppress(OSError):
                os.close(self._fds.pop())

    def __del__(self) -> None:
        self.disown()


def receive(account: Account, number: int, count: int, *described: Any) -> Handed:
    """A parcel that came in a bundle, whose *count* descriptors have been sent.

    Raises:
        OSError: they could not be had.
    """
    return Handed(None, account.receive(*described), account.take_descriptors(number, count))


# In a worker.


def unpack(number: int, count: int, payload: Any) -> Handed:
    """What a pickled `Bundle` becomes in a worker: it asks for the descriptors when its task has started, and not before."""
    return Handed(functools.partial(_ask, number, count), payload)


def _ask(number: int, count: int) -> list[int]:
    from .accounts import own_account  # most workers never need it
    from .channel import frame
    from .messages import WANT

    account = own_account()
    codec.tell(frame(WANT, number))
    return account.await_descriptors(number, count)
