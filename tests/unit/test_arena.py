"""Ranges are given out once, and come back whole."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forkful._core.arena import Arena

SIZE = 100


class Ranges(RuleBasedStateMachine):
    """Takes and gives at random, beside a plain list of what is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena()
        self.segments: dict[int, int] = {}
        self.taken: list[tuple[int, int, int]] = []
        self.spent: list[tuple[int, int, int]] = []
        self.numbers = 0

    @rule(size=st.integers(1, SIZE))
    def add(self, size: int) -> None:
        self.numbers += 1
        self.segments[self.numbers] = size
        self.arena.add(self.numbers, size)

    def fits(self, size: int) -> bool:
        """Whether any free range is as long, found by looking at every byte."""
        for number, whole in self.segments.items():
            used = bytearray(whole)
            for at, offset, length in self.taken + self.spent:
                if at == number:
                    used[offset : offset + length] = b"x" * length
            if bytes(size) in bytes(used):
                return True
        return False

    @rule(size=st.integers(1, SIZE))
    def take(self, size: int) -> None:
        place = self.arena.take(size)
        assert (place is not None) == self.fits(size)
        if place is not None:
            self.taken.append((*place, size))

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), spend=st.booleans())
    def give(self, data: Any, spend: bool) -> None:
        block = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        if spend:
            self.spent.append(block)
            self.arena.spend(block[0], block[2])
        else:
            self.arena.give(*block)

    @rule(most=st.integers(0, 2 * SIZE))
    def cool(self, most: int) -> None:
        for number, offset, size in self.arena.cool(most):
            assert 0 <= offset < offset + size <= self.segments[number]
            for at, start, length in self.taken + self.spent:
                assert at != number or start + length <= offset or offset + size <= start, "it is in use"
        assert self.arena.warm <= most

    @precondition(lambda self: any(self.arena.is_idle(number) for number in self.segments))
    @rule()
    def drop(self) -> None:
        number = next(number for number in self.segments if self.arena.is_idle(number))
        assert self.arena.drop(number) == any(block[0] == number for block in self.spent)
        del self.segments[number]
        self.spent = [block for block in self.spent if block[0] != number]

    @invariant()
    def nothing_twice(self) -> None:
        blocks = sorted(self.taken + self.spent)
        for (number, offset, size), (other, start, _) in itertools.pairwise(blocks):
            assert number != other or offset + size <= start
        for number, whole in self.segments.items():
            in_use = any(block[0] == number for block in self.taken)
            assert self.arena.is_idle(number) == (not in_use)
            assert all(offset + size <= whole for at, offset, size in blocks if at == number)
        assert 0 <= self.arena.warm <= self.arena.total()
        assert len(self.arena) == len(self.segments)
        worn = {block[0] for block in self.spent} - {block[0] for block in self.taken}
        assert set(self.arena.worn_out()) == worn


TestRanges = Ranges.TestCase
TestRanges.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_what_was_given_back_is_taken_again() -> None:
    """The same memory, not the next: it is warm."""
    arena = Arena()
    arena.add(1, SIZE)
    for _ in range(10):
        assert arena.take(40) == (1, 0)
        arena.give(1, 0, 40)
        assert arena.warm == 40
    assert arena.take(50) == (1, 0)
    assert arena.warm == 0


def test_the_best_fit() -> None:
    """The large range is kept for what is large."""
    arena = Arena()
    arena.add(1, 100)
    arena.add(2, 20)
    assert arena.take(10) == (2, 0)
    assert arena.take(11) == (1, 0)


def test_cooling() -> None:
    """What is warmest is emptied first, and no more than has to be."""
    arena = Arena()
    arena.add(1, 10)
    arena.add(2, 50)
    assert arena.take(10) == (1, 0)
    assert arena.take(50) == (2, 0)
    arena.give(1, 0, 10)
    arena.give(2, 0, 50)
    assert arena.warm == 60
    assert arena.cool(60) == []
    assert arena.cool(20) == [(2, 0, 50)]
    assert arena.warm == 10
