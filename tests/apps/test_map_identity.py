"""Which inputs are done."""

from __future__ import annotations

import pytest

from forkful.apps.mapping.identity import Identities


def test_what_is_done_is_left_out() -> None:
    """Each time a line comes counts for itself."""
    before = Identities()
    names = [before.name(line) for line in (b"a", b"b", b"a", b"a")]
    again = Identities()
    for name in (names[0], names[3]):
        assert name is not None
        again.mark_done(name, given=False)
    assert [again.name(line) for line in (b"a", b"b", b"a", b"a", b"a")] == [
        None,
        names[1],
        names[2],
        None,
        f"{names[0]}-4",
    ]
    assert again.skipped == 2


def test_names_that_are_given() -> None:
    """Each is the id, whatever it looks like; what has another's name, or none, is named by its content."""
    names = ("x", "y-2", "z#2", "ü", "0123456789abcdef", "?", "\ud800")
    first, again = Identities(), Identities()
    ids = [first.name_given(name)[0] for name in names]
    assert ids == list(names)
    assert first.name_given("x") == ("x", True)
    others = [first.name_unnamed(line) for line in (b"x", b"x", b"0123456789abcdef")]
    assert len({*ids, *others}) == len(names) + 3
    for identity in (*ids, *others):
        assert identity is not None
        again.mark_done(identity, given=True)
    assert [again.name_given(name) for name in names] == [(None, False)] * len(names)
    assert [again.name_unnamed(line) for line in (b"x", b"x", b"0123456789abcdef")] == [None] * 3
    assert again.name_given("z") == ("z", False)


@pytest.mark.parametrize("given", [False, True])
def test_asked_by_id(given: bool) -> None:
    """Whether an input is done can be asked by its id, which marks nothing as seen; those that are done are counted."""
    names, identities = Identities(), Identities()
    ids = [names.name_given(text)[0] if given else names.name(text.encode()) for text in ("a", "b")]
    ids += [names.name_unnamed(b"c"), names.name_unnamed(b"c")] if given else [names.name(b"a"), names.name(b"a")]
    done = [one for one in ids if one is not None]
    for identity in done[1:3]:
        identities.mark_done(identity, given=given)
    for _ in range(2):
        assert [identities.is_done(identity, given=given) for identity in done] == [False, True, True, False]
    assert identities.skipped == 4


def test_many() -> None:
    """Nothing is lost as the table grows, and nothing is found that was not there."""
    before, again = Identities(), Identities()
    for number in range(0, 20_000, 2):
        name = before.name(b"%d" % number)
        assert name is not None
        again.mark_done(name, given=False)
    left = [number for number in range(20_000) if again.name(b"%d" % number) is not None]
    assert left == list(range(1, 20_000, 2))


@pytest.mark.parametrize("name", ["x", "0123456789ABCDEF", "0123456789abcde", "-2", ""])
def test_ids_of_another_kind(name: str) -> None:
    """What was named by a field is no content."""
    with pytest.raises(ValueError, match="is not made from the content"):
        Identities().mark_done(name, given=False)
