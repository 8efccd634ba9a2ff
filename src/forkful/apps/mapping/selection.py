"""Which inputs are run, and in which order, where it is not all of them as they come."""

from __future__ import annotations

import pickle
import random
import tempfile
from array import array
from collections.abc import Iterable, Iterator

from .inputs import Item

__all__ = ["sample", "shuffle"]


def sample(items: Iterable[Item], size: int, seed: int | None) -> list[Item]:
    """*size* of *items* by chance, each as likely as any other, in their order.

    Memory: those; all are read.  Algorithm R of Vitter, "Random sampling with a reservoir" (1985).
    """
    chance = random.Random(seed)  # noqa: S311  # no secret
    kept: list[Item] = []
    for count, item in enumerate(items, 1):
        if len(kept) < size:
            kept.append(item)
        elif (place := chance.randrange(count)) < size:
            kept[place] = item
    return sorted(kept, key=lambda item: item.number)


def shuffle(items: Iterable[Item], seed: int | None) -> Iterator[Item]:
    """*items* in an order by chance.

    Memory: 8 bytes each; they wait in a temporary file, which takes as much space as the inputs, and has no name.
    """
    places = array("q")
    with tempfile.TemporaryFile(prefix="forkful-") as file:
        for item in items:
            places.append(file.tell())
            pickle.dump(tuple(item), file, pickle.HIGHEST_PROTOCOL)
        random.Random(seed).shuffle(places)  # noqa: S311  # no secret
        for place in places:
            file.seek(place)
            yield Item(*pickle.load(file))  # our own file
