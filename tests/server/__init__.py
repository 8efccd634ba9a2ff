"""The server: decisions in milliseconds, real sockets and processes for the rest."""
