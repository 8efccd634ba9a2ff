"""The example of what a lock is for: with it nothing is oversold, without it the last ticket is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "ticket_rush.py"


def rush(*arguments: str) -> tuple[int, list[str]]:
    """Its exit code, and what it said."""
    command = [sys.executable, str(EXAMPLE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(("tickets", "pay"), [(1, "0.2"), (3, "0")])
def test_locked(tickets: int, pay: str) -> None:
    code, lines = rush("--tickets", str(tickets), "--pay", pay)
    assert code == 0
    assert lines[0] == f"10 buyers, {tickets} ticket(s), a lock:"
    assert sum(line.endswith("bought a ticket") for line in lines) == tickets
    assert sum(line.endswith("found none left") for line in lines) == 10 - tickets
    assert lines[-1] == f"{tickets} sold of {tickets}, the file says 0 left: not one too many"


def test_unsafe() -> None:
    """All see the ticket while the first one pays."""
    code, lines = rush("--unsafe")
    sold = sum(line.endswith("bought a ticket") for line in lines)
    assert sold > 1
    assert code == 0
    assert lines[-1] == f"{sold} sold of 1, the file says 0 left: OVERSOLD by {sold - 1}"


def test_oversold_with_the_lock_is_a_failure(tmp_path: Path) -> None:
    """Seen with a lock that locks nothing."""
    broken = tmp_path / "broken.py"
    text = EXAMPLE.read_text(encoding="utf-8").replace("if unsafe:\n        doc", "if True:\n        doc")
    broken.write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, broken], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "OVERSOLD by" in done.stdout
