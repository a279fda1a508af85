"""Dead letters: what their headers keep, what may be requeued, and when there are too many."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.deadletter import DeadLetter, Position, Tally, TooManyDeadLetters, dead_letter
from commands.requeue import Selection, Sieve
from events.clients import MAX_MESSAGE_BYTES
from events.follow import Headers, Record
from events.log import Outgoing
from tests.support.samples import TOPICS

LETTER = dead_letter(TOPICS, Record(2, 40, b"alice", b"junk"), "Undecodable", "no magic byte")
OUTCOME = Outgoing(TOPICS.outcomes, None, b"key", b"outcome")
EVENT = Outgoing(TOPICS.events, 2, b"alice", b"event")


def stored(message: Outgoing, offset: int = 17, at: int = 0) -> DeadLetter:
    """Return a dead letter as it is read back."""
    return DeadLetter.read(Record(0, offset, message.key, message.value, at, message.headers))


def letter(value: bytes = b"junk", *, key: bytes | None = b"alice", offset: int = 0, at: int = 0) -> DeadLetter:
    return stored(dead_letter(TOPICS, Record(2, 40, key, value), "Undecodable", "no"), offset, at)


def test_a_dead_letter_is_read_as_it_was_written() -> None:
    assert stored(LETTER, at=5) == DeadLetter(
        position=Position(0, 17),
        at=5,
        key=b"alice",
        value=b"junk",
        size=4,
        reason="Undecodable",
        message="no magic byte",
        source_topic=TOPICS.commands,
        source_partition=2,
        source_offset=40,
        requeued=0,
        left_out=None,
    )


def test_a_command_is_requeued_as_it_came_and_counted_each_time() -> None:
    """The count goes with the command: through the commands topic, and into its next dead letter."""
    again = letter()
    for times in range(1, 4):
        requeued = again.command(TOPICS)
        assert requeued[:4] == (TOPICS.commands, None, b"alice", b"junk")
        assert dict(requeued.headers or [])["requeued"] == str(times).encode()
        assert dict(requeued.headers or [])["requeued-from"] == b"0-0"
        record = Record(2, 90, requeued.key, requeued.value, 0, requeued.headers)
        again = stored(dead_letter(TOPICS, record, "Undecodable", "no"), 0)
        assert again.requeued == times


def test_a_command_without_a_key_goes_back_to_its_partition() -> None:
    assert letter(key=None).command(TOPICS).partition == 2


@pytest.mark.parametrize("value", [b"many", b"-1", b"9" * 5000, "\N{SUPERSCRIPT TWO}".encode(), b"\xff", None, ""])
def test_a_header_that_a_producer_made_up_harms_nobody(value: str | bytes | None) -> None:
    headers: Headers = [("requeued", value), ("requeued", value), ("\0", b"\0")]
    made = dead_letter(TOPICS, Record(0, 0, b"k", b"v", 0, headers), "Undecodable", "no")
    assert stored(made).requeued == 0


def test_what_somebody_else_put_there_is_a_dead_letter_of_which_little_is_known() -> None:
    found = DeadLetter.read(Record(0, 3, None, None))
    assert (found.reason, found.message, found.source_partition, found.size) == ("Unknown", "", None, 0)
    assert found.command(TOPICS).partition is None


def test_a_value_that_is_too_large_is_told_by_size_and_hash() -> None:
    found = letter(b"x" * MAX_MESSAGE_BYTES)
    assert (found.value, found.size) == (None, MAX_MESSAGE_BYTES)
    assert found.left_out is not None
    assert len(found.left_out) == 64


@pytest.mark.parametrize("text", ["", "-", "x", "0-", "-1", "1.5", "0-1-2", "\N{SUPERSCRIPT TWO}", "9" * 30])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="no dead letter's id"):
        Position.parse(text)


def test_ids() -> None:
    assert Position.parse("17") == Position.parse("0-17") == Position(0, 17)
    assert str(Position(1, 5)) == "1-5"


def test_a_selection_takes_what_fits_all_of_it() -> None:
    early, late = letter(at=10), letter(at=20, offset=1)
    assert [Selection(since=20).takes(found) for found in (early, late)] == [False, True]
    assert [Selection(reason="Undecodable").takes(found) for found in (early, late)] == [True, True]
    assert not Selection(reason="InvalidCommandId").takes(early)
    assert [Selection(positions=frozenset({Position(0, 1)})).takes(found) for found in (early, late)] == [False, True]


def test_each_command_passes_once_and_none_that_is_incomplete() -> None:
    """Else each round of requeueing what still can't be read would double it."""
    sieve = Sieve(limit=2)
    large = letter(b"x" * MAX_MESSAGE_BYTES)
    letters = [letter(b"1"), letter(b"2"), letter(b"1", offset=9), large, letter(b"3"), letter(b"2")]
    assert [found.value for found in sieve.through(letters)] == [b"1", b"2"]
    assert (sieve.passed, sieve.repeated, sieve.left_out, sieve.beyond) == (2, 2, 1, 1)


def test_key_and_value_are_told_apart() -> None:
    letters = [letter(b"b", key=b"a"), letter(b"", key=b"ab"), letter(b"ab", key=b""), letter(b"ab", key=None)]
    assert list(Sieve().through(letters)) == letters


def passes(most: int, *groups: list[Outgoing]) -> bool:
    tally = Tally(topics=TOPICS, most=most)
    try:
        for group in groups:
            tally = tally.after(group)
    except TooManyDeadLetters:
        return False
    return True


def test_one_dead_letter_too_many_is_refused_and_says_why() -> None:
    with pytest.raises(TooManyDeadLetters, match="Undecodable: no magic byte") as raised:
        Tally(topics=TOPICS, most=100).after([LETTER] * 101)
    assert not raised.value.retriable
    assert raised.value.details == {
        "most": 100,
        "window": 200,
        "reason": "Undecodable",
        "partition": 2,
        "offset": 40,
    }


def test_as_many_as_may_be_pass() -> None:
    assert passes(100, [LETTER] * 100)
    assert passes(100, [LETTER, EVENT, OUTCOME] * 1000)
    assert passes(0, [LETTER] * 1000)


@given(st.integers(1, 6), st.lists(st.booleans(), max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_the_bound_is_the_majority_of_the_last_commands_however_they_are_grouped(
    most: int, dead: list[bool], cuts: list[int]
) -> None:
    out = [LETTER if is_dead else OUTCOME for is_dead in dead]
    edges = [0, *sorted(cut for cut in cuts if cut <= len(out)), len(out)]
    groups = [out[a:b] for a, b in pairwise(edges)]
    too_many = any(sum(dead[max(0, end - 2 * most) : end]) > most for end in range(len(dead) + 1))
    assert passes(most, *groups) is not too_many
