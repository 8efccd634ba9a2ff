"""A server of processes and threads for any blocking handler."""
