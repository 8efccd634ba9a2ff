"""CPython's own pool tests, run from the installed interpreter against ``forkful.Pool``."""
