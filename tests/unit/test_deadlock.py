"""Circles of waiters, from what records say: found, confirmed, and whose turn it is to give up."""

from __future__ import annotations

from forkful.locks import _who
from forkful.locks._deadlock import LOOK_S, Held, Link, Node, Seen, confirm_circle, find_circle, turn_of
from forkful.locks._record import Entry

_A, _B, _C = Node(1, 10), Node(2, 20), Node(3, 30)


def _seen(name: str, holder: Node, *waiters: tuple[Node, int], fence: int = 1) -> Seen:
    entries = [Entry(*_entry(node), since) for node, since in waiters]
    return Seen(name, fence, Entry(*_entry(holder), 0), entries, file=(0, 0), dead=None)


def _entry(node: Node) -> tuple[int, int, int]:
    return node.pid, 0, node.owner


_RING = [_seen("a", _A, (_C, 3)), _seen("b", _B, (_A, 1)), _seen("c", _C, (_B, 2))]


def _ring(own: Node, awaited: Node) -> list[Link]:
    circle = find_circle(own, [], (Held(1, awaited), _RING))
    assert circle is not None
    return circle


def test_a_ring_is_found_from_each_of_it() -> None:
    assert [link.node for link in _ring(_A, _B)] == [_A, _B, _C]
    assert [link.node for link in _ring(_B, _C)] == [_B, _C, _A]


def test_a_chain_is_none() -> None:
    """Whose end waits for nobody; whether it has an owner or not."""
    assert find_circle(_A, [], (Held(1, _B), _RING[1:2])) is None
    assert find_circle(_A, [], (None, _RING)) is None


def test_a_ring_beside_is_none() -> None:
    """To wait for others that are in one is hopeless too, but it is theirs to give up."""
    assert find_circle(Node(4, 40), [], (Held(1, _B), _RING)) is None


def test_whoever_leaves_by_itself_is_in_none() -> None:
    limited = _seen("a", _A, (Node(_C.pid, _C.owner | _who.LIMITED), 3))
    assert find_circle(_A, [], (Held(1, _B), [limited, *_RING[1:]])) is None


def test_those_who_stand_still_with_it() -> None:
    """It is alone to see that, and to give up."""
    circle = find_circle(Node(1, 11), [_A], (Held(1, _B), _RING))
    assert circle is not None
    assert turn_of(circle) == 0


def test_the_last_one_is_the_first_to_give_up() -> None:
    """Then the one before it; each has a turn of its own, half a second later."""
    last = 3 / 1e9 + LOOK_S
    assert [turn_of(_ring(*pair)) for pair in ((_C, _A), (_B, _C), (_A, _B))] == [0, last + 0.5, last + 1]


def test_what_was_never_so_at_one_time() -> None:
    """A lock was given back, and had again by the same one, between two readings."""
    other = [seen._replace(fence=seen.fence + 1) for seen in _RING]
    readings = iter([_RING, other, other])
    circle = confirm_circle(lambda: find_circle(_A, [], (Held(1, _B), next(readings))))
    assert circle is not None  # the last two are the same
    assert circle[1].held.fence == 2
    endless = iter(range(100))
    assert confirm_circle(lambda: find_circle(_A, [], (Held(next(endless), _B), _RING))) is None
