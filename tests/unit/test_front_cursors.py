"""A cursor leads its owner on in its own list, and is nothing to anybody else, nor once it is altered."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Malformed
from common.ids import new_id
from services.front.api.cursors import MAX_CHARACTERS, Cursors
from services.front.domain.job import Owner
from services.front.domain.listing import Position

CURSORS, OTHER_KEY = Cursors(b"k" * 32), Cursors(b"l" * 32)
NAMES = st.text(min_size=1, max_size=256)
OWNERS = st.builds(Owner, NAMES, NAMES)
LISTS = st.dictionaries(st.sampled_from(["list", "status", "processor"]), st.none() | st.text(max_size=20), max_size=3)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - bounds have none
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
POSITIONS = st.builds(Position, MOMENTS, st.builds(new_id))


@given(OWNERS, LISTS, POSITIONS)
def test_a_cursor_leads_back_to_where_it_was_made(owner: Owner, of: dict[str, object], position: Position) -> None:
    cursor = CURSORS.seal(owner, of, position)
    assert CURSORS.read(owner, of, cursor) == position
    assert len(cursor) <= MAX_CHARACTERS


@given(OWNERS, OWNERS, LISTS, LISTS, POSITIONS)
def test_it_leads_nobody_else_and_nowhere_else(
    owner: Owner, other: Owner, of: dict[str, object], elsewhere: dict[str, object], position: Position
) -> None:
    cursor = CURSORS.seal(owner, of, position)
    for cursors, who, where in ((CURSORS, other, of), (CURSORS, owner, elsewhere), (OTHER_KEY, owner, of)):
        if (cursors, who, where) != (CURSORS, owner, of):
            with pytest.raises(Malformed):
                cursors.read(who, where, cursor)


@given(OWNERS, POSITIONS, st.data())
def test_altered_anywhere_it_is_none(owner: Owner, position: Position, data: st.DataObject) -> None:
    cursor = CURSORS.seal(owner, {}, position)
    at = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda character: character != cursor[at]))
    with pytest.raises(Malformed):
        CURSORS.read(owner, {}, cursor[:at] + other + cursor[at + 1 :])


@given(st.text(min_size=1))
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(Malformed):
        CURSORS.read(Owner("acme", "alice"), {}, text)
