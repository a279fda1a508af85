"""What a handler brings back from the log when it takes a partition up, and the logs that it refuses to take up."""

import pytest

from commands.errors import IdempotencyConflict
from commands.types import Command
from events.errors import CommandsExpired, LogCorrupt, PartitionCountMismatch
from events.log import Outgoing
from events.types import EntryPosted, PartitionOpened
from tests.support.fake_ledger import FakeLedger
from tests.support.fake_log import FakeLog
from tests.support.samples import CODECS, DEBIT, NOON, TOPICS, UNIT, post, posted, repeats


def test_restore_brings_back_every_answer_and_a_new_epoch() -> None:
    ledger = FakeLedger(partitions=1)
    member = ledger.member().run()
    commands = [
        post(amount=3 * UNIT),
        post(amount=UNIT, entry_type=DEBIT, command_id="d"),
        post(amount=9 * UNIT, entry_type=DEBIT, command_id="too much"),
        post(amount=7),
        post(asset="JPY", amount=1, command_id="scale"),
    ]
    for command in commands:
        ledger.ask(command)
    member.run()
    first = ledger.outcomes()
    assert ledger.rejections() == ["InsufficientFunds", "IdempotencyConflict", "InvalidAmount"]
    successor = ledger.member(make_log=lambda cluster, instance: FakeLog(cluster, instance, read_limit=2)).ready()
    for command in commands:
        ledger.ask(command)
    successor.run()
    assert all(repeats(*both) for both in zip(ledger.outcomes()[len(commands) :], first, strict=True))
    ledger.ask(post(command_id="new"))
    successor.run()
    assert ledger.events()[-1].event.writer_epoch == first[0].event.writer_epoch + 1
    assert ledger.outcomes()[-1].event.sequence == 6


def test_an_answer_that_left_no_event_is_not_taken_twice(ledger: FakeLedger) -> None:
    """A dead letter and a repeat leave no event: the group's own offset says that they are done."""
    ledger.member().ready()
    ledger.ask(post())
    ledger.ask(post())
    ledger.cluster.produce(TOPICS.commands, b"alice", b"junk")
    ledger.member().run()
    successor = ledger.member().run()
    assert sum(turn.commands for turn in successor.turns) == 0
    assert len(ledger.cluster.visible(TOPICS.deadletter, 0)) == 1


@pytest.mark.parametrize(
    ("sequence", "epoch", "says"), [(3, 1, "a gap"), (1, 1, "a duplicate"), (2, 0, "epoch 0 after epoch 1")]
)
def test_a_log_that_broke_its_promise_stops_the_handler(sequence: int, epoch: int, says: str) -> None:
    ledger = FakeLedger(partitions=1)
    ledger.ask(post())
    ledger.member().run()
    bad = CODECS.events.encode(posted(sequence=sequence, writer_epoch=epoch, command_id="other"))
    ledger.cluster.produce(TOPICS.events, b"alice", bad, 0)
    error = ledger.member().fails()
    assert isinstance(error, LogCorrupt)
    assert says in error.message
    assert not error.retriable


@pytest.mark.parametrize("value", [b"junk", None])
def test_an_event_that_is_none_stops_the_handler(ledger: FakeLedger, value: bytes | None) -> None:
    ledger.member().run()
    ledger.cluster.produce(TOPICS.events, b"alice", value, 0)
    assert isinstance(ledger.member().fails(), LogCorrupt)


def test_a_log_that_does_not_begin_with_its_opening_stops_the_handler(ledger: FakeLedger) -> None:
    ledger.cluster.produce(TOPICS.events, b"alice", CODECS.events.encode(posted(sequence=0)), 0)
    assert isinstance(ledger.member().fails(), LogCorrupt)


def test_a_partition_that_was_opened_as_another_stops_the_handler(ledger: FakeLedger) -> None:
    opened = CODECS.events.encode(PartitionOpened(0, 0, NOON, 1, 2))
    ledger.cluster.produce(TOPICS.events, None, opened, 0)
    assert isinstance(ledger.member().fails(), LogCorrupt)


def test_another_partition_count_than_the_recorded_is_refused(ledger: FakeLedger) -> None:
    for p in range(2):
        ledger.cluster.produce(TOPICS.events, None, CODECS.events.encode(PartitionOpened(0, 0, NOON, p, 12)), p)
    error = ledger.member().fails()
    assert isinstance(error, PartitionCountMismatch)
    assert not error.retriable
    assert error.details == {"expected": 12, "found": 2}


def test_commands_deleted_before_they_were_handled_are_not_skipped_in_silence(ledger: FakeLedger) -> None:
    ledger.member().run()
    for i in range(5):
        ledger.ask(post(command_id=f"c-{i}"))
    where = next(p for p in range(2) if ledger.cluster.visible(TOPICS.commands, p))
    ledger.cluster.delete_before(TOPICS.commands, where, 3)
    error = ledger.member().fails()
    assert isinstance(error, CommandsExpired)
    assert error.details == {"partition": where, "first": 0, "last": 2}
    assert not error.retriable


def test_commands_deleted_after_they_were_handled_are_no_loss(ledger: FakeLedger) -> None:
    for i in range(5):
        ledger.ask(post(command_id=f"c-{i}"))
    ledger.member().run()
    for p in range(2):
        ledger.cluster.delete_before(TOPICS.commands, p, ledger.cluster.high_end(TOPICS.commands, p))
    member = ledger.member().run()
    ledger.ask(post(command_id="new"))
    member.run()
    assert ledger.accounts()["alice"].version == 6


@pytest.mark.parametrize("keeps_disk", [True, False])
def test_the_last_commands_may_be_deleted_though_they_left_no_event(keeps_disk: bool) -> None:
    """A repeat and a dead letter are handled: the group's offset says so, where the events don't."""
    ledger = FakeLedger(partitions=1)
    ledger.ask(post())
    ledger.ask(post())
    ledger.cluster.produce(TOPICS.commands, b"alice", b"junk", 0)
    ledger.member("a").run().log.close()
    ledger.cluster.delete_before(TOPICS.commands, 0, 3)
    member = ledger.member("a" if keeps_disk else "b").run()
    ledger.ask(post(command_id="new"))
    member.run()
    assert ledger.accounts()["alice"].version == 2


def in_a_transaction(ledger: FakeLedger, *commands: Command) -> None:
    """Produce commands to the only partition as a producer with transactions does: a marker comes behind them."""
    producer = FakeLog(ledger.cluster, "producer")
    producer.begin()
    producer.append([Outgoing(TOPICS.commands, 0, b"alice", CODECS.commands.encode(command)) for command in commands])
    producer.commit({})
    producer.close()


@pytest.mark.parametrize("keeps_disk", [True, False])
def test_the_markers_of_a_producers_transaction_are_no_lost_commands(keeps_disk: bool) -> None:
    ledger = FakeLedger(partitions=1)
    in_a_transaction(ledger, post(), post(command_id="c-2"))
    ledger.member("a").run().log.close()
    ledger.cluster.delete_before(TOPICS.commands, 0, ledger.cluster.high_end(TOPICS.commands, 0))
    ledger.member("a" if keeps_disk else "b").run()
    assert ledger.accounts()["alice"].version == 2


def test_where_a_partition_ends_is_committed_once_in_a_while() -> None:
    ledger = FakeLedger(partitions=1)
    member = ledger.member().ready()
    for expected in (2, 3, 6):
        in_a_transaction(ledger, post(command_id=f"c-{expected}"))
        member.run()
        assert ledger.cluster.committed_offset(0) == expected
        if expected == 3:
            ledger.now += 60_000_000


def test_one_command_that_was_not_handled_is_missed() -> None:
    ledger = FakeLedger(partitions=1)
    ledger.ask(post())
    ledger.member().run().log.close()
    ledger.ask(post(command_id="lost"))
    ledger.cluster.delete_before(TOPICS.commands, 0, 2)
    error = ledger.member().fails()
    assert isinstance(error, CommandsExpired)
    assert error.details == {"partition": 0, "first": 1, "last": 1}


def test_a_new_ledger_on_an_old_commands_topic_is_not_begun() -> None:
    """Commands that nobody has handled are gone; or the ledger is not new, and its events and offsets are."""
    ledger = FakeLedger(partitions=1)
    for number in range(3):
        ledger.ask(post(command_id=f"c-{number}"))
    ledger.cluster.delete_before(TOPICS.commands, 0, 2)
    error = ledger.member().fails()
    assert isinstance(error, CommandsExpired)
    assert "new ledger on an old commands topic" in error.message
    assert error.details == {"partition": 0, "first": 0, "last": 1}
    assert ledger.events() == [], "nothing is opened"


def test_recorded_time_does_not_fall_over_a_restart() -> None:
    ledger = FakeLedger(partitions=1)
    ledger.ask(post())
    ledger.member().run()
    ledger.now = NOON - 10**9
    ledger.ask(post(command_id="c-2"))
    ledger.member().run()
    times = [item.event.recorded_at for item in ledger.events()]
    assert times == sorted(times)


def test_a_conflict_stays_the_same_conflict_over_a_restart(ledger: FakeLedger) -> None:
    for amount in (1, 2):
        ledger.ask(post(amount=amount))
    ledger.member().run()
    for amount in (2, 3, 1):
        ledger.ask(post(amount=amount))
    ledger.member().run()
    outcomes = ledger.outcomes()
    assert [outcome.replayed for outcome in outcomes] == [False, False, True, False, True]
    assert ledger.rejections() == [IdempotencyConflict.__name__] * 2
    assert isinstance(outcomes[4].event, EntryPosted)


def test_events_that_were_deleted_are_not_taken_for_a_new_ledger(ledger: FakeLedger) -> None:
    """Otherwise every balance would be zero, and every old command id new."""
    ledger.ask(post(command_id="c"))
    ledger.member().run()
    for p in range(2):
        ledger.cluster.delete_before(TOPICS.events, p, ledger.cluster.high_end(TOPICS.events, p))
    error = ledger.member().fails()
    assert isinstance(error, LogCorrupt)
    assert "were deleted" in error.message


def test_what_is_restored_is_not_read_on(ledger: FakeLedger) -> None:
    """Else a handler would fetch all that it writes, and nobody would take it."""
    ledger.ask(post())
    ledger.member("b").run()
    assert ledger.member("b").ready().log._reading == {}


def test_what_is_given_up_half_restored_is_not_read_on() -> None:
    ledger = FakeLedger(partitions=1)
    for i in range(5):
        ledger.ask(post(command_id=f"c-{i}"))
    ledger.member("b").run()
    del ledger.disks["b"]
    slow = ledger.member("b", lambda cluster, instance: FakeLog(cluster, instance, read_limit=1))
    assert slow.turn().restoring
    assert slow.log._reading
    ledger.member("a").turn()  # the assignment goes by name, so the partition goes to a
    assert slow.turn().restoring == 0
    assert slow.log._reading == {}
