"""``python -m forkful``: the same as the command ``forkful``."""

import sys

from forkful.cli import main

if __name__ == "__main__":
    sys.exit(main())
