"""Which connections have waited too long, from counts alone."""

from __future__ import annotations

import random

import pytest

from forkful.server._ages import STEPS, Ages


def test_nobody_is_sent_away_in_time() -> None:
    """However long the queue is, as long as it moves."""
    ages = Ages(1.0, room=1000)
    accepted = 0
    for step in range(100):
        assert ages.look(step / 10, queued=20, accepted=accepted) == 0
        accepted += 3  # each waits for 0.7 s


def test_those_that_were_there_before() -> None:
    """They alone, and not twice."""
    ages = Ages(1.0, room=1000)
    assert ages.look(0.0, queued=5, accepted=100) == 0
    assert ages.look(0.5, queued=8, accepted=100) == 0
    assert ages.look(0.9, queued=8, accepted=102) == 0
    assert ages.look(1.0, queued=9, accepted=102) == 3
    assert ages.look(1.1, queued=6, accepted=105) == 0  # they are gone
    assert ages.look(1.5, queued=9, accepted=105) == 3  # who came by 0.5


def test_queue_that_is_half_full() -> None:
    """Its front goes at once."""
    ages = Ages(1.0, room=100)
    assert ages.look(0.0, queued=50, accepted=0) == 0
    assert ages.look(0.1, queued=80, accepted=0) == 30


@pytest.mark.parametrize("seed", range(50))
def test_against_the_truth(seed: int) -> None:
    """A queue whose ages are known: all that are too old go within one look, and none that is not."""
    chance = random.Random(seed)
    longest = 1.0
    ages = Ages(longest, room=10**9)
    queue: list[float] = []
    accepted, now = 0, 0.0
    for _ in range(400):
        now += longest / STEPS
        queue += [now] * chance.choice([0, 0, 1, 3, 30])
        taken = min(len(queue), chance.choice([0, 0, 1, 5]))
        del queue[:taken]
        accepted += taken
        gone = ages.look(now, len(queue), accepted)
        assert all(now - since >= longest * 0.999 for since in queue[:gone])
        assert all(now - since < longest * (1 + 2 / STEPS) for since in queue[gone:])
        del queue[:gone]
        accepted += gone
