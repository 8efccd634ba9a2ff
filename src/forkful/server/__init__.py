"""A pre-fork server for blocking code: processes times threads, supervised, elastic.  The protocol: README.md here."""

from ._server import Server, serve

__all__ = ["Server", "serve"]
