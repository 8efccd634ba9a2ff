"""Which inputs are run, and in which order, where it is not all of them as they come."""

from __future__ import annotations

import hashlib
import heapq
import pickle
import random
import tempfile
from array import array
from collections.abc import Iterable, Iterator

from .inputs import Item

__all__ = ["sample", "shuffle"]


def sample(items: Iterable[Item], size: int, seed: int | None) -> list[Item]:
    """*size* of *items* by chance, each as likely as any other, in their order.

    Each has a number that comes of its id and *seed*, and those with the lowest are taken.  So the same inputs are chosen
    wherever they stand, and a larger sample holds every smaller one of the same seed.

    Memory: those; all are read.
    """
    key = repr(random.getrandbits(64) if seed is None else seed).encode()[:64]  # no secret
    kept: list[tuple[int, int, Item]] = []  # a heap, the highest number first: negative
    for item in items:
        name = item.id.encode("utf-8", "surrogatepass")
        chance = -int.from_bytes(hashlib.blake2b(name, digest_size=8, key=key).digest(), "big")
        if len(kept) < size:
            heapq.heappush(kept, (chance, item.number, item))
        elif chance > kept[0][0]:
            heapq.heapreplace(kept, (chance, item.number, item))
    return sorted((item for _, _, item in kept), key=lambda item: item.number)


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
