"""What `forkful.server` does, with real sockets, files and programs."""
