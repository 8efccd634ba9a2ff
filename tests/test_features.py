"""docs/features.md names a test for each feature: they exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
ROWS = [
    line for line in PAGE.splitlines() if re.match(r"\| +[^ |-]", line)
]  # but for the heads of tables, which have no name


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip() for row in ROWS])
def test_each_row_names_tests_that_exist(row: str) -> None:
    """A renamed test, or one that was dropped, must not leave a promise without proof."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
    assert named
    for file, name in named:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.MULTILINE)
