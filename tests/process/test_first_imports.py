"""Threads of a worker that are the first to need a package."""

from __future__ import annotations

import importlib
import time
from pathlib import Path

import pytest

from forkful import Pool


def test_a_package_and_its_part_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread's function needs the package, another's arguments a part of it: neither finds it half imported."""
    package = tmp_path / "slowly_imported"
    package.mkdir()
    (package / "__init__.py").write_text("from . import other\nfrom .part import Thing\n")
    (package / "other.py").write_text("import time\ntime.sleep(0.5)\nfrom .part import Thing\n")
    (package / "part.py").write_text("from . import other\n\nclass Thing:\n    pass\n")
    (tmp_path / "user_of_it.py").write_text("import slowly_imported\n\ndef name(thing):\n    return str(thing)[:1]\n")
    monkeypatch.syspath_prepend(tmp_path)
    user = importlib.import_module("user_of_it")
    with Pool(1, threads=2, start_method="spawn") as pool:
        pool.apply(abs, (1,))
        one = pool.map_async(user.name, ["x"])
        time.sleep(0.2)
        two = pool.apply_async(user.name, (user.slowly_imported.Thing(),))
        assert (one.get(30), two.get(30)) == (["x"], "<")
