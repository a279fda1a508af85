"""When a member does something about partitions that are nobody's, and what its assignment's bytes say."""

import struct
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from events.vacancies import PATIENCE, Vacancies, assigned
from tests.support.samples import TOPICS

FIRST, SECOND = "g-a", "g-b"
_UUID = "00000000-0000-0000-0000-000000000000"


class Group:
    """What brokers say of the group, and the watches of its members."""

    def __init__(self, *owned: list[int], state: str = "Stable") -> None:
        self.described: list[SimpleNamespace] = []
        self.share(*owned, state=state)

    def share(self, *owned: list[int], state: str = "Stable") -> None:
        data = [_assignment((TOPICS.commands, partitions), (TOPICS.deadletter, [0])) for partitions in owned]
        names = [FIRST, SECOND, "rdkafka"]
        members = [SimpleNamespace(id=f"{names[i]}-{_UUID}", assignment=data[i]) for i in range(len(owned))]
        self.described = [SimpleNamespace(error=None, state=state, members=members)]

    def watch(self, member: str) -> Vacancies:
        clients = SimpleNamespace(admin=lambda: SimpleNamespace(list_groups=lambda _, **__: self.described))
        return Vacancies(cast(Any, clients), TOPICS, group="g", member=member, partition_count=4)


def test_the_first_member_sees_to_a_partition_that_is_nobodys_for_long_enough() -> None:
    watch = Group([1], [2, 3]).watch(FIRST)
    assert [watch.due(at) for at in (0.0, PATIENCE, PATIENCE + 0.1)] == [False, False, True]


def test_the_next_member_waits_as_long_again() -> None:
    watch = Group([1], [2, 3]).watch(SECOND)
    assert [watch.due(at) for at in (0.0, PATIENCE + 0.1, 2 * PATIENCE, 2 * PATIENCE + 0.1)] == [False] * 3 + [True]


def test_a_partition_that_moves_is_not_nobodys() -> None:
    group = Group([1], [2, 3])
    watch = group.watch(FIRST)
    assert not watch.due(0.0)
    group.share([0, 1], [2, 3])
    assert not watch.due(PATIENCE / 2)
    group.share([0, 1], [3])
    assert not watch.due(PATIENCE + 1)


def test_a_group_that_shares_out_is_left_alone_and_so_is_one_of_others() -> None:
    group = Group([1], [2, 3])
    watch, other = group.watch(FIRST), group.watch("g-c")
    assert not watch.due(0.0)
    group.share([1], [2, 3], state="PreparingRebalance")
    assert not watch.due(PATIENCE + 1)
    group.share([1], [2, 3])
    assert not watch.due(PATIENCE + 2)
    assert not any(other.due(at) for at in (0.0, PATIENCE + 1, 10 * PATIENCE))


def test_only_the_coordinator_is_believed() -> None:
    group = Group([1], [2, 3])
    refused = SimpleNamespace(error=KafkaError(KafkaError.NOT_COORDINATOR), state="Dead", members=[])
    group.described.insert(0, refused)
    watch = group.watch(FIRST)
    assert [watch.due(at) for at in (0.0, PATIENCE + 1)] == [False, True]
    group.described = [refused]
    with pytest.raises(KafkaException, match="coordinator"):
        watch.due(PATIENCE + 2)


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
