"""What a process measures of its own memory, without any worker."""

from __future__ import annotations

import os

import psutil
import pytest

from forkful._core import gauge

MS = 1_000_000
SIZE = 64 * 2**20


def test_gauge_reads_resident_memory() -> None:
    """As the system's tools do, also once the file it reads is closed."""
    meter = gauge.Gauge()
    before = meter.read(0)
    ballast = b"x" * SIZE
    after = meter.read(10 * MS)
    process = psutil.Process().memory_info().rss
    os.close(meter._fd)

    assert after - before > SIZE // 2
    assert abs(after - process) < SIZE
    assert meter.read(20 * MS) >= after - SIZE // 2, "the peak, where nothing else can be had"
    del ballast


def test_gauge_reads_no_more_often_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading holds for two milliseconds."""
    meter = gauge.Gauge()
    if meter._fd >= 0:
        os.close(meter._fd)
    readings = iter([10, 20])
    monkeypatch.setattr(gauge.Gauge, "_measure", lambda _: next(readings))

    assert [meter.read(now * MS) for now in (0, 1, 2, 3)] == [10, 10, 20, 20]


def test_peak() -> None:
    """In bytes, and never less than what is held."""
    ballast = b"x" * SIZE
    assert gauge.own_peak() >= SIZE
    del ballast
