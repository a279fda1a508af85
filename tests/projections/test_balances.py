"""The balances service on the real stack: what it writes, and what makes it stop a partition."""

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from events.errors import BrokerUnavailable, PartitionCountMismatch, TopicMissing
from events.follow import StoredEvent
from events.topics import Topics
from events.types import Event, PartitionOpened
from projections.balances import Balances
from projections.database import Database
from projections.errors import PartitionsHalted, PositionConflict, ReadModelBehind, ReadModelUnavailable
from projections.queries import ReadModel
from projections.store import Store
from tests.contract.harness import eventually
from tests.projections.conftest import projecting
from tests.projections.log import NOON, TestLedger, account_in

HALTS = {
    "gap": "a gap: sequence 3 where 2",
    "duplicate": "a duplicate: sequence 1 where 2",
    "garbage": "magic byte",
    "empty": "empty value",
    "unknown schema": "no schema with id",
    "truncated": "not a partita.events.EntryPosted",
    "old writer": "written by epoch 0 after epoch 1",
    "nul": "PostgreSQL refuses it",
    "nul in metadata": "PostgreSQL refuses it",
    "no amount": "PostgreSQL refuses it",
    "too large": "PostgreSQL refuses it",
    "recorded never": "PostgreSQL refuses it",
    "version twice": "PostgreSQL refuses it",
    "another count": "opened as partition 0 of 9",
}


def broken(ledger: TestLedger, account: str, kind: str) -> tuple[int, bytes]:
    """Return the bytes that break the partition of `account`, which is at sequence 2."""
    fields: dict[str, dict[str, Any]] = {
        "gap": {"sequence": 3},
        "duplicate": {"sequence": 1},
        "old writer": {"writer_epoch": 0},
        "nul": {"reference": "a\0b"},
        "nul in metadata": {"metadata": '{"a":"\\u0000"}'},
        "no amount": {"amount": 0},
        "too large": {"running_balance": 10**38},
        "recorded never": {"recorded_at": 2**62},
        "version twice": {"version": 1},
    }
    partition, event = ledger.writer.post(account, **fields.get(kind, {}))
    ledger.writer.posted.pop()
    ledger.writer.balances[account, "USD"] -= event.amount if kind != "no amount" else 10**18
    data = ledger.codec.encode(event)
    match kind:
        case "garbage":
            data = b"garbage"
        case "empty":
            data = b""
        case "unknown schema":
            data = b"\0\x7f\xff\xff\xff" + data[5:]
        case "truncated":
            data = data[:40]
        case "another count":
            data = ledger.codec.encode(PartitionOpened(2, 1, NOON, partition, 9))
        case _:
            pass
    return partition, data


@pytest.mark.parametrize("kind", HALTS)
async def test_a_broken_event_stops_its_partition_and_no_other(
    ledger: TestLedger, reader: ReadModel, kind: str
) -> None:
    victim, other = account_in(0, 4), account_in(1, 4)
    events = [ledger.writer.post(victim), ledger.writer.post(other)]
    bad = broken(ledger, victim, kind)
    later = ledger.writer.post(victim)
    ledger.writer.posted.pop()
    ledger.writer.balances[victim, "USD"] -= later[1].amount
    ledger.append([*events, bad, later, ledger.writer.post(other), ledger.writer.reject(other)])
    async with projecting(ledger) as service:
        await reader.wait_for({1: ledger.wanted()[1]}, 30)
        await service.until(lambda progress: 0 in progress.halted)
        ledger.append([ledger.writer.post(other)])
        await reader.wait_for({1: ledger.wanted()[1]}, 30)
        with pytest.raises(ReadModelBehind, match="has stopped there"):
            await reader.wait_for({0: 2}, 30)
        position = (await reader.positions())[0]
        assert (position.next_offset, position.next_sequence) == (2, 2)
        assert position.halted is not None
        assert HALTS[kind] in position.halted
        service.stop.set()
        with pytest.raises(PartitionsHalted) as caught:
            await service.task
        assert HALTS[kind] in caught.value.reasons[0]
    await ledger.rows_are_the_log()


async def test_a_halt_is_over_when_a_later_start_gets_past_it(ledger: TestLedger, reader: ReadModel) -> None:
    ledger.append([ledger.writer.post("a")])
    await ledger.execute("ALTER TABLE entries ADD CONSTRAINT stop CHECK (reference <> 'unwelcome')")
    partition, event = ledger.writer.post("a", reference="unwelcome")
    ledger.append([(partition, event)])
    async with projecting(ledger) as service:
        await service.until(lambda progress: partition in progress.halted)
    await ledger.execute("ALTER TABLE entries DROP CONSTRAINT stop")
    async with projecting(ledger) as service:
        await service.until(lambda progress: progress.events == 1)
        service.stop.set()
        await service.task
    assert (await reader.positions())[partition].halted is None
    await ledger.rows_are_the_log()


async def test_everything_that_can_be_stored_comes_through(ledger: TestLedger, reader: ReadModel) -> None:
    texts = ["\\N", "a\tb\nc\r\\.", "\\.", "né ↯ 日本 \u2028 \x01\x7f", "", "'; DROP TABLE entries --", "%s {0} $1"]
    posted: list[tuple[int, Event]] = [
        ledger.writer.post("a", reference=text, metadata='{"n":[1.5,null,"\\"\\\\"]}') for text in texts
    ]
    posted += [ledger.writer.post(f"x{text}", asset=f"A{text}", command_id=f"c{text}") for text in texts]
    posted += [ledger.writer.post("big", 10**37), ledger.writer.post("big", -1), ledger.writer.reject("a")]
    ledger.append(posted)
    async with projecting(ledger):
        await reader.wait_for(ledger.wanted(), 30)
    await ledger.rows_are_the_log()
    page = await reader.entries("a")
    assert [entry.reference for entry in page.entries] == texts
    assert {str(entry.metadata) for entry in page.entries} == {str({"n": [1.5, None, '"\\']})}
    balance = await reader.balance("big", "USD")
    assert str(balance.balance) == "9999999999999999999.999999999999999999"
    [rejection] = await ledger.fetch("SELECT code, details ->> 'requested' FROM rejections")
    assert tuple(rejection) == ("InsufficientFunds", "1")


async def test_an_aborted_transaction_is_as_if_it_had_never_been(ledger: TestLedger, reader: ReadModel) -> None:
    aborted = [(p, e._replace(sequence=1)) for p, e in [ledger.writer.post("a")]]
    ledger.writer = type(ledger.writer)(4, sequences=dict.fromkeys(range(4), 1))
    await asyncio.to_thread(ledger.append_in_transaction, aborted, commit=False)
    committed = [ledger.writer.post("a"), ledger.writer.post("b"), ledger.writer.post("a")]
    await asyncio.to_thread(ledger.append_in_transaction, committed, commit=True)
    async with projecting(ledger):
        await reader.wait_for(ledger.wanted(), 30)
    await ledger.rows_are_the_log()


async def test_one_event_is_visible_at_once(ledger: TestLedger, reader: ReadModel) -> None:
    async with projecting(ledger):
        await reader.wait_for(ledger.wanted(), 30)
        producer = ledger.clients.producer(linger_ms=0)
        taken = []
        for _ in range(30):
            partition, event = ledger.writer.post("a")
            begun = time.perf_counter()
            producer.produce(ledger.topics.events, ledger.codec.encode(event), partition=partition)
            await reader.wait_for({partition: event.sequence}, 10)
            taken.append(time.perf_counter() - begun)
    assert statistics.median(taken) < 0.1, "it must not wait for a batch to fill, or for a time-out"


async def test_a_writer_with_a_stale_position_writes_nothing(ledger: TestLedger) -> None:
    partition, event = ledger.writer.post("a")
    events = [StoredEvent(partition, 1, b"", event)]
    async with AsyncExitStack() as closing:
        current, zombie = Store(ledger.database, Balances()), Store(ledger.database, Balances())
        for store in (current, zombie):
            closing.push_async_callback(store.close)
            await store.open()
            await store.positions(4)
        await current.write(events, {partition: 0})
        with pytest.raises(PositionConflict):
            await zombie.write(events, {partition: 0})
        with pytest.raises(PositionConflict):
            await zombie.halt(partition, 0, "confused")
    await ledger.rows_are_the_log()
    assert await ledger.fetch("SELECT 1 FROM positions WHERE halted IS NOT NULL") == []


async def test_of_two_services_one_writes_and_the_other_takes_over_when_it_ends(
    ledger: TestLedger, reader: ReadModel
) -> None:
    """A batch has entries in several partitions, so one reads all: a share would never see it whole."""
    async with projecting(ledger, instance="one") as one, projecting(ledger, instance="two") as two:
        ledger.append([ledger.writer.post(f"a-{n}") for n in range(200)])
        await reader.wait_for(ledger.wanted(), 60)
        assert sorted([one.progress.events, two.progress.events]) == [0, 204]
        [held] = await ledger.fetch(
            "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' "
            "AND classid = (hashtextextended($1, 0) >> 32 & 4294967295)::oid",
            f"partita.balances.{ledger.name}",
        )
        first, second = (one, two) if one.progress.events else (two, one)
        assert held["application_name"] == f"partita balances {'one' if first is one else 'two'}"
        first.stop.set()
        await first.task
        ledger.append([ledger.writer.post(f"a-{n}") for n in range(200)])
        await reader.wait_for(ledger.wanted(), 60)
        assert second.progress.events == 200
    await ledger.rows_are_the_log()


async def test_services_that_keep_to_no_lock_never_write_twice(
    ledger: TestLedger, reader: ReadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always(_: Store[Any]) -> bool:
        return True

    monkeypatch.setattr(Store, "take_over", always)
    ledger.append([ledger.writer.post(f"a-{n % 100}") for n in range(3000)])
    async with projecting(ledger, batch_size=50) as one, projecting(ledger, batch_size=50) as two:
        await reader.wait_for(ledger.wanted(), 60)
        one.stop.set()
        two.stop.set()
        ended = await asyncio.gather(one.task, two.task, return_exceptions=True)
    await ledger.rows_are_the_log()
    conflicts = [error for error in ended if isinstance(error, BaseException)]
    assert all(isinstance(error, PositionConflict) for error in conflicts), conflicts
    assert len(conflicts) < 2


async def test_a_log_that_is_gone_at_the_position_halts(ledger: TestLedger, reader: ReadModel) -> None:
    partition, _ = first = ledger.writer.post("a")
    ledger.append([first, ledger.writer.post("a")])
    async with projecting(ledger):
        await reader.wait_for(ledger.wanted(), 30)
    ledger.append([ledger.writer.post("a"), ledger.writer.post("a")])
    admin = ledger.clients.admin()
    cut = TopicPartition(ledger.topics.events, partition, 4)
    for future in admin.delete_records([cut]).values():
        future.result(10)
    async with projecting(ledger) as service:
        await service.until(lambda progress: partition in progress.halted)
    assert "not there at the position" in str((await reader.positions())[partition].halted)


async def test_another_partition_count_is_refused(ledger: TestLedger) -> None:
    store = Store(ledger.database, Balances())
    await store.open()
    await store.positions(5)
    await store.close()
    with pytest.raises(PartitionCountMismatch):
        async with projecting(ledger) as service:
            await service.task


async def test_kafka_is_told_of_positions_that_were_there_before(ledger: TestLedger, reader: ReadModel) -> None:
    """A service that comes after one that was killed has nothing to write, and its lag must not stay."""
    ledger.append([ledger.writer.post(f"a-{n}") for n in range(20)])
    async with projecting(ledger):
        await reader.wait_for(ledger.wanted(), 30)
    wanted = {p: position.next_offset for p, position in (await reader.positions()).items()}
    group = f"{ledger.name}.again"
    async with projecting(ledger, ledger=group):
        await asyncio.to_thread(eventually, lambda: committed(ledger, f"{group}.balances") == wanted)


def committed(ledger: TestLedger, group: str) -> dict[int, int]:
    """Return what tools that show lag see."""
    partitions = [TopicPartition(ledger.topics.events, p) for p in range(4)]
    admin = ledger.clients.admin()
    [asked] = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, partitions)]).values()
    found = asked.result(10)
    return {tp.partition: tp.offset for tp in found.topic_partitions}


async def test_a_refused_partition_count_leaves_the_positions_as_they_were(ledger: TestLedger) -> None:
    """A projection pointed at a larger ledger by mistake must not keep the right one from going on."""
    store = Store(ledger.database, Balances())
    await store.open()
    before = await store.positions(4)
    with pytest.raises(PartitionCountMismatch):
        await store.positions(6)
    assert await store.positions(4) == before
    await store.close()


async def test_what_is_not_there_is_named_in_seconds(ledger: TestLedger) -> None:
    nowhere = Database(url="postgresql://me:secret@127.0.0.1:1/x", schema=ledger.name)
    ledger.database, database = nowhere, ledger.database
    with pytest.raises(ReadModelUnavailable):
        async with asyncio.timeout(15), projecting(ledger) as service:
            await service.task
    ledger.database = Database(url=database.url, schema="no_such_ledger")
    with pytest.raises(ReadModelUnavailable, match="has a projection been started"):
        async with asyncio.timeout(15), projecting(ledger) as service:
            await service.task
    ledger.database = database
    topics = ledger.topics
    ledger.topics = Topics(prefix="no_such_ledger")
    with pytest.raises((TopicMissing, BrokerUnavailable)):
        async with asyncio.timeout(30), projecting(ledger) as service:
            await service.task
    ledger.topics = topics
