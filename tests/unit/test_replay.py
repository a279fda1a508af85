"""Replaying tells of a record that is no event as of any other fault of the log, also when it is the first."""

import pytest

from events.errors import LogCorrupt
from events.follow import Record
from partita.replay import _checked
from tests.support.samples import CODECS, posted


def test_the_first_record_says_where_a_stretch_begins() -> None:
    record = Record(2, 9, b"alice", CODECS.events.encode(posted(sequence=41)))
    assert _checked({}, CODECS.events, record).event.sequence == 41


@pytest.mark.parametrize("value", [None, b"", b"\0", b"nonsense"])
def test_a_first_record_that_is_no_event_is_told_with_its_place(value: bytes | None) -> None:
    with pytest.raises(LogCorrupt, match="partition 2, offset 9"):
        _checked({}, CODECS.events, Record(2, 9, b"alice", value))
