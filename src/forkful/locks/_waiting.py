"""Waiting in a coroutine: no thread of the caller's sleeps, and a wait that is cancelled leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from . import _who
from ._deaf import deaf_threads
from ._door import Door
from ._remote_door import RemoteDoor
from ._ticket import Ticket


async def take_async(door: Door, *, shared: bool = False) -> bool:
    """`Door.take`, without a limit, for the task that runs: tasks exclude each other as threads do."""
    owner = _who.current()
    if not door.is_remote and door.take_now(owner, shared=shared):  # a server's answer is waited for in line
        return True
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    ticket = Ticket(owner, shared=shared, direct=False, notify=lambda: loop.call_soon_threadsafe(woken.set))
    listed: Any = None
    try:
        listed = door.line_up(ticket)
        while not ticket.granted:
            if ticket.error is not None:
                raise ticket.error
            if time.monotonic() >= ticket.look:
                listed = listed or door.mechanism.enlist(owner)
                door.look(ticket, blocks=False)
                continue
            try:
                async with asyncio.timeout(max(0.0, ticket.look - time.monotonic())):
                    await woken.wait()
            except TimeoutError:
                continue
    except BaseException:
        door.leave(ticket, listed, wanted=False)
        raise
    return door.leave(ticket, listed)


async def give_back_async(door: Door, *, shared: bool = False) -> None:
    """`Door.give_back`; while a server is told of it, the event loop goes on."""
    if not isinstance(door, RemoteDoor):
        door.give_back(shared=shared)
        return
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    farewell = Ticket(0, shared=shared, direct=False, notify=lambda: loop.call_soon_threadsafe(woken.set))
    door.part(farewell, shared=shared)
    while not farewell.granted:
        await woken.wait()
    if farewell.error is not None:
        raise farewell.error


async def take_in_thread(take: Callable[[], object], give_back: Callable[[], object]) -> None:
    """*take* in a thread of its own, for what cannot wait otherwise; what it gets after the task has gone is given back."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if not done.cancelled():
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
        elif error is None:
            give_back()

    def run() -> None:
        failure: BaseException | None = None
        try:
            take()
        except BaseException as error:  # whoever waits raises it
            failure = error
        try:
            loop.call_soon_threadsafe(tell, failure)
        except RuntimeError:  # the loop was closed meanwhile
            if failure is None:
                give_back()

    with deaf_threads():
        threading.Thread(target=run, name="forkful-lock", daemon=True).start()
    try:
        await done
    except asyncio.CancelledError:
        if done.done() and not done.cancelled() and done.exception() is None:  # it came as the wait was cancelled
            give_back()
        raise
