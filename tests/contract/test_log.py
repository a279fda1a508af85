"""What every log promises, the fake and Kafka alike."""

import time
from collections.abc import Iterator

import pytest

from events.clients import KafkaClients
from events.follow import Record
from events.log import Aborted, LogLost, Outgoing
from events.membership import GroupProtocol
from tests.contract.harness import PARTITIONS, FakeHarness, Harness, KafkaHarness, Member, eventually

ALL = set(range(PARTITIONS))


@pytest.fixture(params=["fake", *(pytest.param(protocol, marks=pytest.mark.stack) for protocol in GroupProtocol)])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """A ledger's topics, empty."""
    found: Harness
    if request.param == "fake":
        found = FakeHarness()
    else:
        stack = request.getfixturevalue("stack")
        found = KafkaHarness(KafkaClients(bootstrap=stack.addresses["kafka_bootstrap"]), request.param)
    yield found
    found.close()


@pytest.fixture
def member(harness: Harness) -> Member:
    """The only member of the group, which owns all partitions."""
    member = Member(harness.log())
    member.until(lambda m: m.owned == ALL)
    return member


def event(harness: Harness, value: bytes, partition: int = 0) -> Outgoing:
    return Outgoing(harness.topics.events, partition, b"k", value)


def test_nothing_was_ever_committed(harness: Harness, member: Member) -> None:
    assert member.log.committed(ALL) == dict.fromkeys(ALL, -1)
    assert member.log.oldest_commands(ALL) == dict.fromkeys(ALL, 0)
    assert member.log.stable_ends(ALL) == dict.fromkeys(ALL, 0)


def test_what_is_committed_is_visible_in_its_order(harness: Harness, member: Member) -> None:
    values = [b"%d" % i for i in range(100)]
    member.log.begin()
    member.log.append([event(harness, value) for value in values[:50]])
    member.log.append([event(harness, value) for value in values[50:]])
    assert harness.visible(harness.topics.events) == []
    member.log.commit({})
    eventually(lambda: harness.visible(harness.topics.events) == values)  # markers are written after the answer


def test_what_is_aborted_leaves_nothing(harness: Harness, member: Member) -> None:
    member.log.begin()
    member.log.append([event(harness, b"dropped")])
    member.log.abort()
    member.log.begin()
    member.log.append([event(harness, b"kept")])
    member.log.commit({0: 1})
    eventually(lambda: harness.visible(harness.topics.events) == [b"kept"])


def test_one_transaction_holds_several_topics_and_partitions(harness: Harness, member: Member) -> None:
    topics = harness.topics
    out = [Outgoing(topics.events, p, b"k", b"event") for p in ALL]
    out += [Outgoing(topics.outcomes, None, b"reply", b"outcome"), Outgoing(topics.deadletter, None, b"k", None)]
    member.log.begin()
    member.log.append(out)
    member.log.commit({})
    eventually(lambda: harness.visible(topics.events) == [b"event"] * PARTITIONS)
    eventually(lambda: harness.visible(topics.outcomes) == [b"outcome"])
    eventually(lambda: harness.visible(topics.deadletter) == [b""])


def test_offsets_move_with_the_records(harness: Harness, member: Member) -> None:
    member.log.begin()
    member.log.append([event(harness, b"one")])
    member.log.commit({0: 7, 2: 9})
    eventually(lambda: member.log.committed(ALL) == {0: 7, 1: -1, 2: 9, 3: -1})
    member.log.begin()
    member.log.append([event(harness, b"two")])
    member.log.abort()
    assert member.log.committed([0, 2]) == {0: 7, 2: 9}
    eventually(lambda: harness.visible(harness.topics.events) == [b"one"])


def test_commands_come_from_where_they_were_started_and_not_before(harness: Harness, member: Member) -> None:
    harness.produce(harness.topics.commands, 1, [b"c%d" % i for i in range(10)])
    for _ in range(5):
        member.poll()
    assert member.records == [], "an assigned partition is held until it is started"
    member.log.start(1, 4)
    member.until(lambda m: len(m.records) == 6)
    assert [(r.partition, r.offset, r.value) for r in member.records] == [(1, i, b"c%d" % i) for i in range(4, 10)]


def test_a_poll_returns_no_more_than_asked_for(harness: Harness, member: Member) -> None:
    harness.produce(harness.topics.commands, 0, [b"c"] * 10)
    member.log.start(0, 0)
    sizes = [0]
    while sum(sizes) < 10:
        sizes.append(len(member.poll(0.05, 3).records))
    assert max(sizes) <= 3


def test_a_poll_takes_what_is_there_without_waiting(harness: Harness, member: Member) -> None:
    member.log.start(0, 0)
    harness.produce(harness.topics.commands, 0, [b"c"])
    begun = time.monotonic()
    records: list[Record] = []
    while not records:
        records = list(member.log.poll(20, 1000).records)
    assert time.monotonic() - begun < 5


def test_the_end_is_told_behind_what_is_no_command(harness: Harness, member: Member) -> None:
    """A producer's markers take offsets too; a reader of commands goes past them, and may commit that it did."""
    for value in (b"one", b"two"):
        member.log.begin()
        member.log.append([Outgoing(harness.topics.commands, 0, b"k", value)])
        member.log.commit({})
    member.log.start(0, 0)
    member.until(lambda m: m.ends == {0: 4})
    assert [(r.offset, r.value) for r in member.records] == [(0, b"one"), (2, b"two")]
    member.log.begin()
    member.log.commit(member.ends)
    eventually(lambda: member.log.committed([0]) == {0: 4})


def test_starting_again_delivers_again(harness: Harness, member: Member) -> None:
    harness.produce(harness.topics.commands, 0, [b"a", b"b", b"c"])
    member.log.start(0, 0)
    member.until(lambda m: len(m.records) == 3)
    member.log.start(0, 1)
    member.until(lambda m: len(m.records) == 5)
    assert [r.value for r in member.records] == [b"a", b"b", b"c", b"b", b"c"]


def test_events_are_read_up_to_the_stable_end(harness: Harness, member: Member) -> None:
    for value in (b"one", b"two"):
        member.log.begin()
        member.log.append([event(harness, value, p) for p in (0, 1)])
        member.log.commit({})
    eventually(lambda: len(member.log.stable_ends([0, 1])) == 2)
    ends = member.log.stable_ends([0, 1])
    assert ends == {0: 4, 1: 4}, "two records and two markers"
    for _ in range(2):
        assert [r.value for r in sorted(_read(member, ends))] == [b"one", b"two"] * 2


def _read(member: Member, ends: dict[int, int]) -> list[Record]:
    """Read from the beginning to the ends, also when that was done before: partitions come back to a member."""
    records: list[Record] = []
    positions = dict.fromkeys(ends, 0)
    while positions != ends:
        records += member.log.read(positions, 0.1)
        positions = {p: member.log.read_position(p) for p in ends}
    return records


def test_a_partition_with_an_open_transaction_has_no_stable_end(harness: Harness, member: Member) -> None:
    member.log.begin()
    member.log.append([event(harness, b"done")])
    member.log.commit({})
    other = harness.log("b")
    harness.abandon(other, [event(harness, b"open", 0), event(harness, b"open", 2)], {})
    assert member.log.stable_ends(ALL) == {1: 0, 3: 0}
    assert harness.stable_end(harness.topics.events, 0) == 2
    eventually(lambda: harness.visible(harness.topics.events) == [b"done"])


def test_an_offset_that_an_open_transaction_moves_is_withheld(harness: Harness, member: Member) -> None:
    member.log.begin()
    member.log.commit({0: 3, 1: 3})
    harness.abandon(member.log, [event(harness, b"open")], {0: 5})
    successor = harness.log("b")  # another name: it does not end what the other left open
    eventually(lambda: successor.committed([1]) == {1: 3})
    assert successor.committed([0]) == {}
    assert 0 not in successor.stable_ends([0])


def test_the_successor_of_the_same_name_ends_what_was_left_open(harness: Harness, member: Member) -> None:
    harness.abandon(member.log, [event(harness, b"dropped")], {0: 5})
    successor = Member(harness.log())
    eventually(lambda: successor.log.committed([0]) == {0: -1})
    eventually(lambda: 0 in successor.log.stable_ends([0]))
    assert harness.visible(harness.topics.events) == []
    for log in (member.log, successor.log):
        log.close()
    eventually(lambda: _takes_all(harness))


def _takes_all(harness: Harness) -> bool:
    """Come back under the name; the consumer protocol refuses that until the session of the one before has ended."""
    again = Member(harness.log())
    try:
        again.until(lambda m: m.owned == ALL)
    except LogLost:
        again.log.close()
        return False
    return True


def test_a_second_log_of_the_same_name_fences_the_first(harness: Harness, member: Member) -> None:
    member.log.begin()
    member.log.append([event(harness, b"zombie")])
    successor = Member(harness.log())
    successor.log.begin()
    successor.log.append([event(harness, b"successor")])
    successor.log.commit({})
    with pytest.raises((LogLost, Aborted)):
        member.log.commit({0: 1})
    eventually(lambda: harness.visible(harness.topics.events) == [b"successor"])
    assert successor.log.committed([0]) == {0: -1}


def test_the_fenced_writer_can_not_begin_anew(harness: Harness, member: Member) -> None:
    member.log.begin()
    member.log.append([event(harness, b"before")])
    member.log.commit({})
    harness.log()
    with pytest.raises((LogLost, Aborted)):  # noqa: PT012  # whichever step notices
        member.log.begin()
        member.log.append([event(harness, b"zombie")])
        member.log.commit({0: 1})
    eventually(lambda: harness.visible(harness.topics.events) == [b"before"])


@pytest.mark.stack
@pytest.mark.parametrize("harness", [GroupProtocol.CONSUMER], indirect=True)
def test_a_name_that_is_not_free_yet_says_so(harness: Harness, member: Member) -> None:
    """Of the consumer protocol alone: in the other one the newcomer takes the place."""
    second = Member(harness.log())
    with pytest.raises(LogLost, match="is not over"):
        second.until(lambda m: m.owned == ALL, member)


def test_partitions_move_to_a_second_member_after_the_first_gave_them_up(harness: Harness, member: Member) -> None:
    second = Member(harness.log("b"))
    second.until(lambda m: len(m.owned) == PARTITIONS // 2 and len(member.owned) == PARTITIONS // 2, member)
    assert member.owned | second.owned == ALL
    assert not member.owned & second.owned


def test_records_of_partitions_that_moved_are_not_delivered(harness: Harness, member: Member) -> None:
    for p in ALL:
        member.log.start(p, 0)
    second = Member(harness.log("b"))
    second.until(lambda m: len(m.owned) == PARTITIONS // 2 and len(member.owned) == PARTITIONS // 2, member)
    for p in ALL:
        harness.produce(harness.topics.commands, p, [b"c"])
    for p in second.owned:
        second.log.start(p, 0)
    second.until(lambda m: len(m.records) + len(member.records) == PARTITIONS, member)
    assert {r.partition for r in member.records} == member.owned
    assert {r.partition for r in second.records} == second.owned


def test_the_member_of_an_old_generation_can_not_commit(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """It did not poll, so the group goes on without it; nothing tells it before it commits."""
    monkeypatch.setattr("events.membership.MAX_POLL_INTERVAL_MS", 6_000)
    stuck, successor = Member(harness.log("a")), Member(harness.log("b"))
    stuck.until(lambda m: len(m.owned) == PARTITIONS // 2 and len(successor.owned) == PARTITIONS // 2, successor)
    stuck.log.begin()
    stuck.log.append([event(harness, b"old generation")])
    if isinstance(harness, FakeHarness):
        harness.cluster.expire_member("a")
    successor.until(lambda m: m.owned == ALL)
    with pytest.raises((Aborted, LogLost)):
        stuck.log.commit(dict.fromkeys(stuck.owned, 1))
    assert harness.visible(harness.topics.events) == []
    assert set(successor.log.committed(stuck.owned).values()) <= {-1}


def test_a_group_that_was_refused_can_be_tried_again() -> None:
    """On the fake only: when Kafka refuses, and when it loses, is its own affair."""
    fake = FakeHarness()
    member = Member(fake.log())
    member.until(lambda m: m.owned == ALL)
    member.log.begin()
    member.log.append([event(fake, b"refused")])
    fake.log("b")
    with pytest.raises(Aborted):
        member.log.commit({0: 1})
    member.poll()
    member.log.begin()
    member.log.append([event(fake, b"again")])
    member.log.commit({0: 1})
    assert fake.visible(fake.topics.events) == [b"again"]


def test_five_thousand_messages_in_one_transaction(harness: Harness, member: Member) -> None:
    values = [b"%05d" % i for i in range(5000)]
    member.log.begin()
    for i in range(0, len(values), 500):
        member.log.append([event(harness, value, 3) for value in values[i : i + 500]])
    member.log.commit({3: 5000})
    eventually(lambda: harness.visible(harness.topics.events) == values)
    eventually(lambda: member.log.committed([3]) == {3: 5000})
