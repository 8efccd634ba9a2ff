"""Samples, and orders by chance."""

from __future__ import annotations

from collections import Counter

from forkful.apps.mapping.inputs import Item
from forkful.apps.mapping.selection import sample, shuffle

ITEMS = [Item(f"id{number}", f"input {number}", number, "in.txt", number) for number in range(1, 101)]


def test_shuffle() -> None:
    """Everything, as it was; the same seed, the same order."""
    mixed = list(shuffle(ITEMS, 7))
    assert sorted(mixed, key=lambda item: item.number) == ITEMS
    assert mixed != ITEMS
    assert mixed == list(shuffle(iter(ITEMS), 7))
    assert mixed != list(shuffle(ITEMS, 8))


def test_sample() -> None:
    """So many, in their order; each has the same chance."""
    assert len(sample(ITEMS, 10, 1)) == 10
    assert sample(ITEMS, 10, 1) == sample(ITEMS, 10, 1)
    assert sample(ITEMS, 1000, 1) == ITEMS
    counts = Counter(item.number for seed in range(2000) for item in sample(ITEMS, 10, seed))
    assert set(counts) == set(range(1, 101))
    assert min(counts.values()) > 120
    assert max(counts.values()) < 290
    numbers = [item.number for item in sample(ITEMS, 50, 3)]
    assert numbers == sorted(numbers)


def test_sample_is_of_inputs_and_not_of_places() -> None:
    """A larger one holds the smaller one; inputs may be moved about, and one that is new takes the place of one at most."""
    some = {item.id for item in sample(ITEMS, 10, 1)}
    assert {item.id for item in sample(ITEMS, 30, 1)} > some
    assert {item.id for item in sample(ITEMS[::-1], 10, 1)} == some
    assert len({item.id for item in sample([Item("new", "new", 0, "in.txt", 0), *ITEMS], 10, 1)} & some) >= 9
    assert {item.id for item in sample(ITEMS, 10, 2)} != some
