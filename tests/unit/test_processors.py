"""How many processors there are: what is bound, what is allotted, what the user says.  With files that are made up."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from forkful._core import cgroups
from forkful.pool._processors import cpu_count, parse_quota


@pytest.fixture(autouse=True)
def nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the environment nor by control groups."""
    monkeypatch.delenv("FORKFUL_CPU_COUNT", raising=False)
    monkeypatch.setattr(cgroups, "chain", lambda controller: (0, []))


def test_processors_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of the machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cpu_count() == 3


@pytest.mark.parametrize(("told", "count"), [(8, 8), (None, 1)])
def test_processors_where_the_system_does_not_say(
    monkeypatch: pytest.MonkeyPatch, told: int | None, count: int
) -> None:
    """Then those of the machine, and one if nobody knows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: told)
    assert cpu_count() == count


def test_processors_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user knows best; an empty variable says nothing."""
    monkeypatch.setenv("FORKFUL_CPU_COUNT", "12")
    assert cpu_count() == 12
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setenv("FORKFUL_CPU_COUNT", "1")
    assert cpu_count() == 1
    monkeypatch.setenv("FORKFUL_CPU_COUNT", "")
    assert cpu_count() == 2


def test_processors_by_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the variable, what it is, and what to do."""
    for text in ("0", "-1", "two", "1.5", " 3"):
        monkeypatch.setenv("FORKFUL_CPU_COUNT", text)
        message = f"FORKFUL_CPU_COUNT is {text!r}; set it to a whole number from 1 up, or unset it"
        with pytest.raises(ValueError, match=re.escape(message)):
            cpu_count()


# Quotas.


@pytest.mark.parametrize(
    ("quota", "period", "count"),
    [
        ("100000", "100000", 1),
        ("150000", "100000", 2),
        ("200000", "100000", 2),
        ("200001", "100000", 3),
        ("1000", "100000", 1),
        ("25000", "12500", 2),
        ("max", "100000", None),
        ("-1", "100000", None),
        ("", "", None),
        ("100000", "", None),
        ("100000", "0", None),
    ],
)
def test_quota_is_rounded_up(quota: str, period: str, count: int | None) -> None:
    """A part of a processor is one; no limit, or none that can be read, is no quota."""
    assert parse_quota(quota, period) == count


def groups(folder: Path, version: int, *quotas: str) -> list[str]:
    """A chain of control groups with these *quotas*, the innermost first."""
    folders = []
    for depth, quota in enumerate(quotas):
        group = folder / str(depth)
        group.mkdir()
        if version == 2 and quota:
            (group / "cpu.max").write_text(f"{quota} 100000\n", encoding="ascii")
        elif quota:
            (group / "cpu.cfs_quota_us").write_text(f"{quota}\n", encoding="ascii")
            (group / "cpu.cfs_period_us").write_text("100000\n", encoding="ascii")
        folders.append(str(group))
    return folders


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("quotas", "count"),
    [
        (["300000"], 3),
        (["250000", "900000"], 3),
        (["max", "150000", "max"], 2),
        (["900000", "", "100000"], 1),
        (["max", "max"], 8),
        (["1600000"], 8),
        ([], 8),
    ],
)
def test_smallest_quota_of_the_chain_counts(
    version: int, quotas: list[str], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group has no more than those above it, and nobody more than he is bound to."""
    if version == 1:
        quotas = ["-1" if quota == "max" else quota for quota in quotas]
    folders = groups(tmp_path, version, *quotas)
    monkeypatch.setattr(cgroups, "chain", lambda controller: (version, folders) if controller == "cpu" else (0, []))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert cpu_count() == count
