"""Locks on a server: which engine a URL asks for."""

from __future__ import annotations

from ..errors import EngineUnavailable
from ._place import Place
from ._server import ServerLock
from ._url import split_postgres, split_redis


def open_remote(place: Place) -> ServerLock:
    """The mechanism for *place*, a URL.  Nothing is connected to before the lock is wanted.

    Raises:
        EngineUnavailable: its client library is not installed; the message names the extra that brings it.
        ValueError: the URL says too little, or what cannot be.
    """
    if place.text.startswith("postgres"):
        address = split_postgres(place.text)
        try:
            from ._postgres import PostgresLock
        except ImportError as missing:  # or it has no libpq
            raise _unavailable(place, "psycopg", "postgresql", missing) from missing
        return PostgresLock(place, address)
    redis_address = split_redis(place.text)
    try:
        from ._redis import RedisLock
    except ImportError as missing:
        raise _unavailable(place, "redis", "redis", missing) from missing
    return RedisLock(place, redis_address)


def _unavailable(place: Place, package: str, extra: str, missing: ImportError) -> EngineUnavailable:
    return EngineUnavailable(
        f'{place.describe()} needs {package} ({missing}); install it with: pip install "forkful[{extra}]"'
    )
