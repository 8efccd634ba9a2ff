"""What a map has done, counted."""

from __future__ import annotations

import random

import pytest

from forkful.apps.mapping.calls import Failure
from forkful.apps.mapping.inputs import Item
from forkful.apps.mapping.records import Record
from forkful.apps.mapping.summary import Durations, Summary


def item(name: str) -> Item:
    """An input called *name*."""
    return Item(f"id-{name}", name, 1, "in.txt", 1)


def test_counts_and_groups() -> None:
    """Failures are grouped by type with their first example; crashes have no time."""
    summary = Summary(processes=2, output="out.jsonl")
    summary.add(item("a"), Record(b"", None, 1.0, None))
    summary.add(item("b"), Record(b"", None, 3.0, Failure("ValueError", "bad b", "Traceback…")))
    summary.add(item("c"), Record(b"", None, 2.0, Failure("ValueError", "bad c", "Traceback…")))
    summary.add(item("d"), Record(b"", None, None, Failure("WorkerDied", "gone")))
    assert (summary.done, summary.failed, summary.busy) == (4, 3, 6.0)
    assert [(kind, group.count, group.id) for kind, group in summary.errors.items()] == [
        ("ValueError", 2, "id-b"),
        ("WorkerDied", 1, "id-d"),
    ]
    assert [(slow.seconds, slow.id) for slow in summary.slowest] == [(3.0, "id-b"), (2.0, "id-c"), (1.0, "id-a")]


def test_inputs_that_ran_out_of_time() -> None:
    """Nobody measured them to their end, but they are the slowest of all."""
    summary = Summary(processes=1, output="")
    summary.add(item("quick"), Record(b"", None, 1.0, None))
    summary.add(item("stuck"), Record(b"", None, None, Failure("TaskTimeout", "stopped"), at_least=30.0))
    assert summary.busy == 31.0
    assert summary.durations.quantile(1.0) == pytest.approx(30.0, rel=0.005)
    assert [(slow.seconds, slow.id, slow.is_least) for slow in summary.slowest] == [
        (30.0, "id-stuck", True),
        (1.0, "id-quick", False),
    ]


def test_the_end_of_a_message_is_kept() -> None:
    """However long it is: the end says what to do."""
    summary = Summary(processes=1, output="")
    summary.add(item("a"), Record(b"", None, None, Failure("E", "it\nwas " + "very " * 1000 + "long; do this")))
    message = summary.errors["E"].message
    assert len(message) <= 210
    assert (message[:6], message[-9:]) == ("it was", "; do this")


def test_keeps_the_slowest_few() -> None:
    """However many there are, in whatever order, the five slowest are kept."""
    summary = Summary(processes=1, output="")
    numbers = list(range(1000))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        summary.add(item(str(number)), Record(b"", None, float(number), None))
    assert [slow.seconds for slow in summary.slowest] == [999, 998, 997, 996, 995]


def test_utilisation() -> None:
    """The share of the processes' time; never more than all of it, whatever the clocks say."""
    summary = Summary(processes=2, output="", busy=1.0, _begun=100.0, _ended=102.0)
    assert summary.utilisation == pytest.approx(0.25)
    assert Summary(processes=1, output="", busy=9.0, _begun=0.0, _ended=1.0).utilisation == 1.0
    assert Summary(processes=1, output="", _begun=1.0, _ended=1.0).utilisation == 0.0


def test_quantiles() -> None:
    """Within half a per cent of the exact ones, from nanoseconds to hours, in constant memory."""
    durations = Durations()
    assert durations.quantile(0.5) is None
    rng = random.Random(2)
    exact = sorted(10 ** rng.uniform(-6, 4) for _ in range(5000))
    for seconds in exact:
        durations.add(seconds)
    for share in (0.01, 0.5, 0.95, 1.0):
        quantile = durations.quantile(share)
        assert quantile == pytest.approx(exact[max(0, round(share * 5000) - 1)], rel=0.005)
    durations.add(0.0)
    assert durations.quantile(0.0) == pytest.approx(1e-7, rel=0.005)
