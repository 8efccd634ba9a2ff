"""What `forkful` exports is what the reference documents: neither less nor more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import forkful

REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "api.md"
HEADING = re.compile(r"^### `(\w+)(?:\(.*\))?`", re.MULTILINE)  # the name; a signature may follow it


def test_each_export_has_a_heading_in_the_reference_and_each_heading_is_an_export() -> None:
    documented = HEADING.findall(REFERENCE.read_text(encoding="utf-8"))
    assert sorted(documented) == sorted(forkful.__all__)


def test_each_export_exists() -> None:
    assert [name for name in forkful.__all__ if not hasattr(forkful, name)] == []


def test_windows_is_refused_in_so_many_words() -> None:
    program = "import sys; sys.platform = 'win32'; import forkful"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ImportError: forkful needs a POSIX system" in done.stderr
