"""Cursors: ours come back, others are refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.cursors import Cursor, Kinds, Place, Question
from projections.errors import InvalidCursor

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=255)


@given(
    st.tuples(TEXT, TEXT, st.none() | TEXT, st.booleans()), st.tuples(st.integers(0, 2**63 - 1), TEXT, st.integers(0))
)
def test_a_cursor_comes_back(question: Question, place: Place) -> None:
    cursor = Cursor(question, place)
    text = cursor.encode()
    assert Cursor.decode(text) == cursor
    assert text.isascii()
    assert not set(text) & set("+/=")


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "é",
        "a" * 10_000,
        encoded("[]"),
        encoded("[" * 3000),
        encoded('{"a":1}'),
        encoded('["a",1]'),
        encoded('[["a"],1]'),
        encoded('[["a"],[true]]'),
        encoded('[["a",[]],[1]]'),
        encoded('[["a",0],[1]]'),
        encoded('[["a"],[1],[1]]'),
        encoded('[["a"],[1.5]]'),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.decode(text)


def test_a_cursor_goes_with_its_own_question_only() -> None:
    cursor = Cursor(("entries", "alice", "USD", False), (7,))
    assert cursor.expect(("entries", "alice", "USD", False)) == (7,)
    for other in [("entries", "bob", "USD", False), ("entries", "alice", None, False), ("holds", "alice", None)]:
        with pytest.raises(InvalidCursor):
            cursor.expect(other)


@pytest.mark.parametrize("place", [(), (-1,), (2**63,), ("1",), (1, 1)])
def test_a_place_of_another_shape_is_refused(place: Place) -> None:
    with pytest.raises(InvalidCursor):
        Cursor(("entries",), place).expect(("entries",))


def test_a_place_may_have_several_values() -> None:
    kinds: Kinds = (9, None)
    assert Cursor(("accounts",), (9, "alice")).expect(("accounts",), kinds) == (9, "alice")
    with pytest.raises(InvalidCursor):
        Cursor(("accounts",), (10, "alice")).expect(("accounts",), kinds)
