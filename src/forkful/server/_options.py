"""From what a user gives a server to what its parts need: checked, before anything is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ._access import FORMATS
from ._address import Address, parse_address
from ._requests import Limits
from ._settings import Settings
from ._source import Source
from ._trades import Raw, Secure, Trade

__all__ = ["check_secure", "make_trade", "parse_addresses"]


def check_secure(certfile: Any, keyfile: Any, cafile: Any) -> Secure | None:
    if certfile is None:
        if keyfile is not None or cafile is not None:
            raise ValueError("keyfile and cafile are for TLS, which needs a certificate; give certfile, too")
        return None
    return Secure(
        os.fspath(certfile),
        None if keyfile is None else os.fspath(keyfile),
        cafile=None if cafile is None else os.fspath(cafile),
    )


def make_trade(
    settings: Settings,
    source: Source,
    secure: Secure | None,
    *,
    wsgi: bool,
    io_timeout: float | None,
    head_timeout: float,
    keepalive: float,
    limits: Limits,
    script_name: str,
    access_log: str | None,
) -> Trade:
    if access_log is not None and access_log not in FORMATS:
        raise ValueError(f"access_log must be one of {', '.join(FORMATS)}, or None, not {access_log!r}")
    if not wsgi:
        return Raw(source, secure, head_timeout=head_timeout, io_timeout=io_timeout)
    from ._web import Web  # for those who want it

    return Web(
        source,
        secure=secure,
        limits=limits,
        script_name=script_name,
        line=None if access_log is None else FORMATS[access_log],
        threads=settings.threads > 1,
        processes=settings.most > 1,
        head_timeout=head_timeout,
        keepalive=keepalive,
        io_timeout=io_timeout,
    )


def parse_addresses(address: Any) -> list[Address]:
    if isinstance(address, str | tuple | Address):
        return [parse_address(address)]
    try:
        addresses = [parse_address(one) for one in address]
    except TypeError:
        if isinstance(address, Iterable):
            raise
        raise TypeError(f"an address is HOST:PORT, unix:/path or (host, port), not {address!r}") from None
    if not addresses:
        raise ValueError("there is no address; write HOST:PORT or unix:/path")
    return addresses
