"""What crosses a worker's channel: the kinds of frame, and what each carries.

A frame is a header (kind, lane, a small number, the length of the body) and a body.  Down means master to worker.  The
lane says which of a worker's threads a frame is for, or comes from; frames of the whole worker have lane 0.

=========  ====  =======================================================================================
SETUP      down  the worker's environment, initializer, finalizer (`Setup`); the first frame, once
FUNCTION   down  number = key, body = the pickled function; before the first batch that names the key
FORGET     down  number = key: no batch names it any more
BATCH      down  a pickled list of `Entry`: tasks to run in this order; with a number, calls of that function, as `pack_calls`
                 has them
RECALL     down  the batches before this frame are void beyond the last permit
STOP       down  leave when the batches before this frame are done
SHARE      down  number = key, body = the pickled `lending.Parcel` of a shared object; before a batch that names it
UNSHARE    down  number = key: no batch names it any more
READY      up    the initializer has run; body empty
REFUSED    up    the initializer failed; body = the encoded error; the worker leaves
RESULTS    up    number = how many records; body = `RESULTS_HEAD`, the records' index, their bytes
PARCELS    up    RESULTS, with records among them that are `LARGE`
DROPPED    up    the answer to RECALL: nothing from before it will be run
NOTE       up    number = LOG or OUTPUT; body = `NOTE_HEAD`, a log record (`logs.pack`) or what an element has written
                 (`output.pack`): sent at once, from any thread, whatever results wait; the head says which element it is
RETURNED   both  number = how many blocks of shared memory are given back, body = for each its segment and offset; the
                 lowest bit of the offset says that it must not be used again
WANT       up    number = a bundle whose task has started: its descriptors are to be sent, on the wire
DETACH     both  number = a segment that is no more
=========  ====  =======================================================================================
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Any

HEADER = struct.Struct("=BxHIQ")  # kind, lane, number, length of the body
# Serial number of the first record, nanoseconds of work, of those spent computing (0: not measured), elements in the records.
RESULTS_HEAD = struct.Struct("=QQQQ")

NOTE_HEAD = struct.Struct("=q")  # STARTED in the journal: how many elements the worker had started

SETUP, FUNCTION, FORGET, BATCH, RECALL, STOP, SHARE, UNSHARE = range(1, 9)
READY, REFUSED, RESULTS, DROPPED, NOTE, PARCELS, WANT = range(11, 18)
RETURNED, DETACH = range(21, 23)

# What a NOTE is of.
LOG, OUTPUT = range(1, 3)

BY_THREAD = -1  # for `Setup.capture`

# How a task calls its function.
CALL, EACH, STAR = range(3)
# payload = (args, kwds)           f(*args, **kwds), one element; without kwds where there are none, and perhaps with
#                                  `contexts.Variable`s as a third
# payload = [item, item, …]        f(item) for each; also a tuple or a range
# payload = [(a, b), (c, d), …]    f(*item) for each

# What a record of results holds.
VALUE, ERROR, GROUP, MIXED = range(4)
# VALUE  one pickled result            ERROR  one encoded exception
# GROUP  a pickled list of results     MIXED  a pickled list of (ok, result or encoded exception)
LARGE = 8  # added to the kind: the record says in which blocks of shared memory the pickle's parts are
VALUES = 4  # in the master only: a list of VALUE records that belong together


# One task inside a BATCH: key of a FUNCTION frame; payload (its pickle, or a parcel).  That is all of a CALL, because it is
# felt where there are many.  Of others also: EACH or STAR; run elements first … first + count - 1 of the payload; whether each
# element needs a permit and is committed alone, else one permit serves for all.
Entry = tuple[int, Any] | tuple[int, Any, int, int, int, bool]


def pack_calls(payloads: list[bytes]) -> bytes:
    """The body of a BATCH of calls of one function: how many, how long each is, and their pickled arguments.

    To make and to read a pickle of entries would take longer than all else that is done for a small call.
    """
    lengths = array("I", map(len, payloads))
    return b"".join([len(payloads).to_bytes(4, sys.byteorder), lengths.tobytes(), *payloads])


def unpack_calls(key: int, body: memoryview) -> list[Entry]:
    """The entries of such a body."""
    data = bytes(body)
    at = 4 + 4 * int.from_bytes(data[:4], sys.byteorder)
    entries: list[Entry] = []
    for length in memoryview(data)[4:at].cast("I"):
        entries.append((key, data[at : at + length]))
        at += length
    return entries


class Setup:
    """What a new worker needs to become the parent's like.  All of these, by keyword."""

    name: str
    threads: int
    permits: list[int]  # which of the extra descriptors are those of the threads after the first
    identity: tuple[int, ...]
    parent_pid: int
    authkey: bytes
    start_method: str | None  # what the parent chose for multiprocessing, or None when it chose nothing
    log_level: int | None  # of multiprocessing's logger; None when that logger is not in use
    log_to_stderr: bool
    logs: dict[str, Any] | None  # the parent's settings of logging, `logbook.settings`
    capture: (
        int | None
    )  # which of the extra descriptors are the files of `output`, or BY_THREAD; None: nothing is captured
    sys_path: list[str] | None  # None under fork: everything is inherited
    sys_argv: list[str]
    directory: str | None
    environment: dict[str, str]  # how many threads libraries may start, see `inner_threads`; empty: as they please
    processors: tuple[int, ...]  # to be bound to; empty: as the parent
    tracker: int | None  # which of the extra descriptors is multiprocessing's resource tracker's
    main: dict[str, str]  # how to find the parent's __main__, for multiprocessing.spawn.prepare; empty if it cannot be
    by_value: bool  # that __main__ cannot be found: what is defined in it travels by value
    measures: bool  # it keeps a record of the memory that it holds
    hooks: bytes | None  # `equipment.Hooks`, pickled; None when there are none, and under fork, which inherits them

    def __init__(self, **attributes: Any) -> None:  # a NamedTuple of so many would take a millisecond of each import
        self.__dict__.update(attributes)
