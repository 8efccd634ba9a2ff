"""A worker's side of what is lent: what it tells `accounts` and `lending` on behalf of its process.

Imported by a worker that has to do with something large or shared, and by no other.
"""

from __future__ import annotations

from typing import Any

from . import codec, handing
from .accounts import ONCE, own_account
from .lending import Parcel, own_lender
from .messages import DETACH, LARGE, RETURNED, SHARE, UNSHARE, VALUE


def note(kind: int, number: int, body: memoryview) -> None:
    """A frame of the master's that concerns shared memory or shared objects."""
    account = own_account()
    if kind == SHARE:
        account.shared[number] = codec.loads(body)
    elif kind == UNSHARE:
        del account.shared[number]
    elif kind == RETURNED:
        account.settle(body)
        own_lender(account).reclaim()
    elif kind == DETACH:
        account.drop_segment(number)


def store(kind: int, blob: bytes) -> tuple[int, bytes]:
    """Put what is large of a result just pickled into shared memory; the record that says where."""
    buffers = codec.take_beside()
    if codec.keep is None or not (buffers or len(blob) > codec.LARGE_BYTES):
        return kind, blob
    account = own_account()
    parcel = own_lender(account).pack(blob, buffers, once=True)
    if not isinstance(parcel, Parcel):
        return kind, blob
    return kind | LARGE, codec.dumps(parcel.describe(account), codec.PROTOCOL)


def store_handed(value: Any) -> tuple[int, bytes]:
    """Send the descriptors that are in a result ahead of it; the record.

    Raises:
        whatever pickling raises; ``OSError`` where they cannot be sent.
    """
    account = own_account()
    bundle = handing.pack(_pack_result, value, once=True)
    number, count, payload = bundle.number, len(bundle.fds), bundle.payload
    try:
        # What was sent before is in records that the master has been sent too: it will make room.
        account.send_descriptors(number, bundle.fds, wait=True)
    finally:
        bundle.close()
    described = payload.describe(account) if isinstance(payload, Parcel) else (ONCE, payload, None, None, [])
    return VALUE | LARGE, codec.dumps((number, count, *described), codec.PROTOCOL)


def _pack_result(value: Any, *, once: bool) -> Any:
    blob = codec.encode_result(value, codec.keep)
    return own_lender(own_account()).pack(blob, codec.take_beside(), once=once)
