"""What a member's assignment says, in the bytes that Kafka hands on."""

import struct

import pytest

from events.vacancies import assigned


def _assignment(*topics: tuple[str, list[int]], user_data: bytes = b"\0\0\0\0") -> bytes:
    parts = [struct.pack(">hi", 3, len(topics))]
    for name, partitions in topics:
        text = name.encode()
        parts.append(struct.pack(f">h{len(text)}si{len(partitions)}i", len(text), text, len(partitions), *partitions))
    return b"".join([*parts, user_data])


def test_the_partitions_of_one_topic_are_found_among_others() -> None:
    data = _assignment(("ledger.deadletter", [0]), ("ledger.commands", [2, 11, 300]), ("ledger.commands.x", [7]))
    assert assigned(data, "ledger.commands") == {2, 11, 300}
    assert assigned(data, "ledger.events") == set()


@pytest.mark.parametrize("nothing", [b"", _assignment(), _assignment(("ledger.commands", []))])
def test_a_member_may_have_nothing(nothing: bytes) -> None:
    assert assigned(nothing, "ledger.commands") == set()


def test_what_is_no_assignment_is_told() -> None:
    for end in range(1, 20):
        with pytest.raises(struct.error):
            assigned(_assignment(("ledger.commands", [1]), user_data=b"")[:end], "ledger.commands")
