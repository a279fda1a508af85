"""Batches in the read model: shown whole or not at all, whoever looks, and as the log has them in the end."""

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from events.codec import EventCodec
from events.money import to_units
from events.types import (
    BatchCommitted,
    BatchEntryPosted,
    BatchPosted,
    BatchRejected,
    BatchReserved,
    BatchSettled,
    BatchStarted,
    EntryReleased,
    EntryReserved,
    EntryType,
    Event,
    LockGranted,
    LockReleased,
)
from projections.checks import check_all, checks_within
from projections.database import Database
from projections.errors import BatchNotInReadModel
from projections.migrate import upgrade
from projections.queries import ReadModel
from projections.records import BatchRow, BatchStatus
from tests.projections.batches import ACCOUNTS, by_partition, of_batches, write
from tests.projections.conftest import projecting
from tests.projections.log import UNIT, TestLedger, account_in
from tests.support.fake_ledger import FakeLedger
from tests.support.stack import Stack

HAPPENS = {
    *(BatchStarted, BatchReserved, BatchCommitted, BatchSettled, BatchPosted, BatchRejected, BatchEntryPosted),
    *(EntryReserved, EntryReleased, LockGranted, LockReleased),
}

TABLES = ("entries", "changes", "rejections", "batch_steps", "accounts", "balances", "batches", "holds")

IN_PART = """
SELECT coalesce(e.batch_id, b.batch_id) AS batch_id, e.there, e.legs, b.status
FROM (
    SELECT batch_id, count(*) AS there, max(legs) AS legs FROM entries WHERE batch_id IS NOT NULL GROUP BY batch_id
) AS e FULL JOIN batches AS b USING (batch_id)
WHERE e.there <> e.legs OR (b.status = 'POSTED' AND e.there IS DISTINCT FROM b.entries)
"""


@dataclass
class Watcher:
    """Looks at the tables as often as it can, and notes what should not be there."""

    connection: asyncpg.Connection
    looks: int = 0
    seen: int = 0
    in_part: list[asyncpg.Record] | None = None

    async def watch(self) -> None:
        while not self.in_part:
            self.in_part = await self.connection.fetch(IN_PART)
            self.seen = max(self.seen, await self.connection.fetchval("SELECT count(DISTINCT batch_id) FROM entries"))
            self.looks += 1


@asynccontextmanager
async def watched(ledger: TestLedger) -> AsyncIterator[Watcher]:
    """See that at no moment a reader sees a part of a batch."""
    connection = await ledger.database.connect()
    await connection.execute(f"SET search_path TO {ledger.name}")
    watcher = Watcher(connection)
    task = asyncio.create_task(watcher.watch())
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()
    assert not watcher.in_part
    assert watcher.looks > 10


def deliver(ledger: TestLedger, story: FakeLedger, chance: random.Random) -> None:
    """Append the story's events, now some of this partition, now of that: any order, any delay."""
    waiting = by_partition(story.events())
    producer = ledger.clients.producer(linger_ms=0)
    while left := [p for p, events in waiting.items() if events]:
        partition, count = chance.choice(left), chance.choice((1, 2, 5, 40))
        for stored in waiting[partition][:count]:
            producer.produce(ledger.topics.events, ledger.codec.encode(stored.event), partition=partition)
        assert producer.flush(30) == 0
        del waiting[partition][:count]


@pytest.mark.parametrize("seed", range(3))
async def test_no_reader_ever_sees_a_part_of_a_batch(ledger: TestLedger, reader: ReadModel, seed: int) -> None:
    story = await asyncio.to_thread(of_batches, seed)
    assert {type(stored.event) for stored in story.events()} >= HAPPENS
    assert any(isinstance(stored.event, BatchEntryPosted) and stored.event.forced for stored in story.events())
    async with watched(ledger) as watcher, projecting(ledger, batch_size=20):
        await asyncio.to_thread(deliver, ledger, story, random.Random(seed))
        await reader.wait_for(
            {p: events[-1].event.sequence for p, events in by_partition(story.events()).items()}, 60
        )
    assert watcher.seen > 10
    await is_the_log(ledger, reader, story)


async def is_the_log(ledger: TestLedger, reader: ReadModel, story: FakeLedger) -> None:
    """See that the tables are what the log adds up to, and that all checks hold."""
    assert [result for result in await check_all(ledger.database) if not result.ok] == []
    for name, account in story.accounts().items():
        if account.status is None:
            continue
        row = await reader.account(name)
        assert (row.version, row.status) == (account.version, account.status)
        held = {b.asset: to_units(b.held) for b in row.balances if b.held}
        assert held == account.held
        assert {b.asset: to_units(b.balance) for b in row.balances} == account.balances
    events = [stored.event for stored in story.events()]
    answers: dict[str, BatchPosted | BatchRejected] = {}
    for event in events:
        if isinstance(event, BatchPosted):
            answers[event.command_id] = event
        elif isinstance(event, BatchRejected):
            answers.setdefault(event.command_id, event)
    for batch_id, answer in answers.items():
        _is_as_answered(await reader.batch(batch_id), answer)
    assert Counter(row["status"] for row in await ledger.fetch("SELECT status FROM batches")) == Counter(
        "POSTED" if isinstance(answer, BatchPosted) else "REJECTED" for answer in answers.values()
    )


def _is_as_answered(row: BatchRow, answer: BatchPosted | BatchRejected) -> None:
    if isinstance(answer, BatchRejected):
        assert (row.status, row.code, row.leg) == (BatchStatus.REJECTED, answer.code, answer.leg)
        assert (row.entries, row.details) == ((), dict(answer.details))
        return
    assert (row.status, row.code, row.size) == (BatchStatus.POSTED, None, len(answer.entries))
    assert (row.reference, row.reversal_of) == (answer.reference, answer.reversal_of)
    assert [(e.partition, e.sequence, e.account_id, to_units(e.running_balance), e.leg) for e in row.entries] == [
        (e.partition, e.sequence, e.account_id, e.running_balance, leg) for leg, e in enumerate(answer.entries)
    ]


def test_a_row_that_changes_is_the_same_whatever_came_in_one_stretch(stack: Stack) -> None:
    """An event at a time, or everything that can be there at once: what is replaced must not tell the difference."""
    story = of_batches(0)
    chance = random.Random(0)
    read: dict[str, Callable[[dict[int, int]], tuple[int, int]]] = {
        "each": lambda left: (chance.choice(sorted(left)), 1),
        "some": lambda left: (chance.choice(sorted(left)), chance.choice((1, 5, 40))),
        "all": lambda left: (max(left), left[max(left)]),
    }
    tables: list[dict[str, list[str]]] = []
    for name, how in read.items():
        with asyncio.Runner() as runner:
            tables.append(runner.run(_tables_of(stack, story, name, how)))
    assert tables[0] == tables[1] == tables[2]
    assert {"locked", ACCOUNTS[7]} <= {json.loads(row)["account_id"] for row in tables[0]["accounts"]}


async def _tables_of(
    stack: Stack, story: FakeLedger, name: str, how: Callable[[dict[int, int]], tuple[int, int]]
) -> dict[str, list[str]]:
    database = Database(url=stack.addresses["postgres_url"], schema=f"t{uuid.uuid4().hex[:12]}")
    await upgrade(database)
    await write(story, database, how)
    assert [result for result in await check_all(database) if not result.ok] == [], name
    connection = await database.connect()
    try:
        await connection.execute(f"SET search_path TO {database.schema}")
        rows = {
            name: await connection.fetch(f"SELECT to_jsonb(t)::text FROM {name} AS t ORDER BY 1") for name in TABLES
        }
        return {name: [row[0] for row in found] for name, found in rows.items()}
    finally:
        await connection.execute(f"DROP SCHEMA {database.schema} CASCADE")
        await connection.close()


@pytest.mark.parametrize(
    ("tampering", "broken", "named"),
    [
        ("DELETE FROM entries WHERE batch_id = 'away' AND leg = 1", "I6 batches", "1 of its 2 entries are there"),
        ("DELETE FROM entries WHERE batch_id = 'away'", "I6 batches", "0 of its 2 entries are there"),
        ("UPDATE entries SET legs = 3 WHERE batch_id = 'away'", "I6 batches", "batch away"),
        (
            "UPDATE entries SET batch_id = 'x' WHERE batch_id = 'away' AND leg = 1",
            "I6 batches",
            "batch away",
        ),
        (
            "UPDATE batches SET status = 'REJECTED', code = 'X' WHERE batch_id = 'away'",
            "I6 batches",
            "REJECTED: 2 of",
        ),
        ("UPDATE batches SET reference = 'x' WHERE batch_id = 'away'", "I7 batches", "batch away"),
        ("UPDATE batches SET started_at = now() WHERE batch_id = 'away'", "I7 batches", "batch away"),
        ("DELETE FROM batches WHERE batch_id = 'away'", "I7 batches", "batch away"),
        ("UPDATE rejections SET message = 'x' WHERE command_id = 'new-2'", "I7 batches", "batch new-2"),
        ("DELETE FROM batch_steps WHERE step = 'BatchCommitted'", "I5", "comes after"),
        ("DELETE FROM changes WHERE change = 'EntryReleased'", "I6 held", "holds and batches reserve"),
        (
            "UPDATE changes SET leg = 9 WHERE batch_id = 'away' AND change = 'EntryReserved' AND leg = 1",
            "I6 promises",
            "still promises entry 9 of batch away",
        ),
        (
            "UPDATE entries SET forced = false WHERE forced; UPDATE changes SET details = details - 'forced'",
            "I4",
            "floor 0",
        ),
    ],
)
async def test_what_is_wrong_with_a_batch_is_found_and_named(
    written: Database, tampering: str, broken: str, named: str
) -> None:
    connection = await written.connect()
    try:
        await connection.execute(f"BEGIN; SET LOCAL search_path TO {written.schema}")
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(tampering)
        results = {r.name: str(r.detail) for r in await checks_within(connection, written.schema) if not r.ok}
    finally:
        await connection.close()
    assert named in results.get(broken, ""), results


@pytest.fixture(scope="module")
def written(stack: Stack) -> Iterator[Database]:
    """A read model with batches, for all these tests: what is tampered with is never committed."""
    database = Database(url=stack.addresses["postgres_url"], schema=f"t{uuid.uuid4().hex[:12]}")
    with asyncio.Runner() as runner:
        runner.run(upgrade(database))
        runner.run(write(of_batches(0), database, lambda left: (max(left), left[max(left)])))
        assert [result for result in runner.run(check_all(database)) if not result.ok] == []
        yield database
        connection = runner.run(database.connect())
        runner.run(connection.execute(f"DROP SCHEMA {database.schema} CASCADE"))
        runner.run(connection.close())


def leg(ledger: TestLedger, batch_id: str, number: int, account: str, **fields: Any) -> tuple[int, Event]:
    """Post an entry of a batch of two that was promised."""
    writer = ledger.writer
    balance = writer.balances[account, "USD"] = writer.balances.get((account, "USD"), 0) + UNIT
    amounts = {"entry_type": EntryType.CREDIT, "amount": UNIT, "asset": "USD", "running_balance": balance, "held": 0}
    told = {"command_id": batch_id, "batch_id": batch_id, "leg": number, "legs": 2, "reserved": True, "forced": False}
    made = writer.make(BatchEntryPosted, account, **amounts, **told, **fields)
    writer.posted.append(made)
    return made


A, B = account_in(0, 4), account_in(1, 4)


@pytest.mark.parametrize("in_the_batch", [False, True], ids=["before-it", "in-it"])
async def test_a_refused_event_keeps_all_of_the_batch_away(
    ledger: TestLedger, reader: ReadModel, in_the_batch: bool
) -> None:
    await ledger.execute("ALTER TABLE entries ADD CONSTRAINT stop CHECK (reference <> 'unwelcome')")
    post = ledger.writer.post
    unwelcome: dict[str, Any] = {"reference": "unwelcome"}
    before = [post(A), *([] if in_the_batch else [post(A, **unwelcome)])]
    refused = len(before) + 1 if in_the_batch else len(before)
    of_a = [*before, leg(ledger, "b", 0, A, **(unwelcome if in_the_batch else {})), post(A)]
    ledger.append([*of_a, post(B), leg(ledger, "b", 1, B), post(B)])
    async with projecting(ledger) as service:
        await service.until(lambda progress: 0 in progress.halted)
        await reader.wait_for({1: 1}, 30)
        ledger.append([post(account_in(2, 4))])
        await reader.wait_for({2: 1}, 30)  # another partition goes on
        positions = await reader.positions()
        assert [positions[p].next_sequence for p in range(4)] == [refused, 2, 2, 1]
        assert f"sequence {refused}: PostgreSQL refuses it" in str(positions[0].halted)
        assert positions[1].halted is None
        assert await ledger.fetch("SELECT 1 FROM entries WHERE batch_id IS NOT NULL") == []
    await ledger.execute("ALTER TABLE entries DROP CONSTRAINT stop")
    async with projecting(ledger) as service:
        await service.until(lambda progress: progress.events == len(of_a) + 3 - refused)
    await ledger.rows_are_the_log()


async def test_a_partition_that_halts_behind_a_batch_that_waits_stays_halted_when_the_batch_is_whole(
    ledger: TestLedger, reader: ReadModel
) -> None:
    ledger.append([leg(ledger, "b", 0, A)])
    ledger.append([(0, b"garbage")])
    async with projecting(ledger) as service:
        await service.until(lambda progress: 0 in progress.halted)
        assert (await reader.positions())[0].next_sequence == 1
        ledger.append([leg(ledger, "b", 1, B)])
        await service.until(lambda progress: progress.events == 6)
        position = (await reader.positions())[0]
        assert (position.next_sequence, "magic byte" in str(position.halted)) == (2, True)
    await ledger.rows_are_the_log()


@pytest.fixture
async def small(stack: Stack, codec: EventCodec) -> AsyncIterator[TestLedger]:
    """A ledger of two partitions, with two batches so that each partition waits for what the other has far behind."""
    made = await asyncio.to_thread(TestLedger.create, stack.addresses, codec, partitions=2)
    await upgrade(made.database)
    first, second = account_in(0, 2), account_in(1, 2)
    made.append(
        [
            *(leg(made, "a", 0, first), leg(made, "b", 1, second)),
            *(made.writer.post(account) for account in (first, second) for _ in range(60)),
            *(leg(made, "b", 0, first), leg(made, "a", 1, second)),
        ]
    )
    yield made
    await made.drop()


async def test_partitions_that_wait_for_each_other_are_read_further(small: TestLedger) -> None:
    async with ReadModel(small.database) as reader, watched(small), projecting(small, batch_size=5):
        await reader.wait_for(small.wanted(), 30)
    await small.rows_are_the_log()


async def test_partitions_that_wait_for_each_other_for_ever_are_halted_and_say_why(small: TestLedger) -> None:
    async with (
        ReadModel(small.database) as reader,
        watched(small),
        projecting(small, batch_size=5, most_waiting=50) as service,
    ):
        await service.until(lambda progress: len(progress.halted) == 2)
        halted = {p: (row.next_sequence, str(row.halted)) for p, row in (await reader.positions()).items()}
        assert {p: at for p, (at, _) in halted.items()} == {0: 1, 1: 1}
        assert halted[0][1].startswith("batch a is not whole among the next 50 events")
        assert halted[1][1].startswith("batch b is not whole")
    assert await small.fetch("SELECT 1 FROM entries") == []
    async with ReadModel(small.database) as reader, projecting(small) as service:
        await service.until(lambda progress: progress.events == 124)
        assert [row.halted for row in (await reader.positions()).values()] == [None, None]
    await small.rows_are_the_log()


async def test_a_batch_that_nobody_knows_is_not_found(reader: ReadModel) -> None:
    for batch_id in ("nothing", "", "a\0b"):
        with pytest.raises(BatchNotInReadModel):
            await reader.batch(batch_id)
