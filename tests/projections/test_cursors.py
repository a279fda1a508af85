"""Cursors: ours come back, others are refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.cursors import Cursor, Question
from projections.errors import InvalidCursor

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=255)


@given(st.tuples(TEXT, TEXT, st.none() | TEXT, st.booleans()), st.integers(1, 2**63 - 1))
def test_a_cursor_comes_back(question: Question, version: int) -> None:
    cursor = Cursor(question, version)
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
        encoded('["a",null,false,0]'),
        encoded('["a",null,false,true]'),
        encoded('["a",[],1]'),
        encoded('["a",0,1]'),
        encoded('["a",null,false,9223372036854775808]'),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.decode(text)


def test_a_cursor_goes_with_its_own_question_only() -> None:
    cursor = Cursor(("entries", "alice", "USD", False), 7)
    assert cursor.expect(("entries", "alice", "USD", False)) == 7
    for other in [("entries", "bob", "USD", False), ("entries", "alice", None, False), ("holds", "alice", None)]:
        with pytest.raises(InvalidCursor):
            cursor.expect(other)
