"""The reader on a real PostgreSQL."""

import asyncio
from decimal import Decimal

import pytest

from events.types import AccountFrozen, AccountStatus, EntryType
from projections.database import Database
from projections.errors import (
    AccountNotInReadModel,
    EntryNotFound,
    InvalidCursor,
    ReadModelBehind,
    ReadModelUnavailable,
)
from projections.queries import ReadModel
from projections.records import HoldStatus
from tests.projections.conftest import projecting
from tests.projections.log import NOON, UNIT, TestLedger
from tests.support.stack import Stack


async def test_balances_are_exact_and_print_plainly(ledger: TestLedger, reader: ReadModel) -> None:
    writer = ledger.writer
    ledger.append([writer.post("a", 100 * UNIT), writer.post("a", -UNIT // 10), writer.post("a", 5, asset="EUR")])
    async with projecting(ledger):
        usd = await reader.balance("a", "USD", at_least=ledger.wanted())
    assert (str(usd.balance), usd.version, usd.asset) == ("99.9", 2, "USD")
    assert usd.updated_at is not None
    assert usd.updated_at.utcoffset() is not None
    assert [(row.asset, f"{row.balance:f}") for row in (await reader.account("a")).balances] == [
        ("EUR", "0.000000000000000005"),
        ("USD", "99.9"),
    ]


async def test_an_unknown_account_has_nothing(ledger: TestLedger, reader: ReadModel) -> None:
    for account in ("nobody", "", "a\0b", "\ud800", "x" * 10_000):
        balance = await reader.balance(account, "USD")
        assert (balance.balance, balance.version, balance.updated_at) == (Decimal(0), 0, None)
        with pytest.raises(AccountNotInReadModel):
            await reader.account(account)
        assert (await reader.holds(account, status=None)).holds == ()
        assert (await reader.entries(account)).entries == ()
        with pytest.raises(EntryNotFound):
            await reader.entry(account)


async def test_an_entry_is_as_it_was_posted(ledger: TestLedger, reader: ReadModel) -> None:
    partition, event = ledger.writer.post(
        "a", 10 * UNIT, reference="order", metadata='{"a":[1,2.5]}', effective_at=NOON - 1
    )
    ledger.append([(partition, event)])
    async with projecting(ledger):
        await reader.wait_for(ledger.wanted(), 30)
    entry = await reader.entry(f"{partition}-{event.sequence}")
    assert (entry.account_id, entry.version, entry.entry_type) == ("a", 1, EntryType.CREDIT)
    assert (str(entry.amount), str(entry.running_balance), entry.asset) == ("10", "10", "USD")
    assert (entry.reference, entry.metadata) == ("order", {"a": [1, 2.5]})
    assert entry.effective_at.isoformat() == "2026-09-21T14:13:19.999999+00:00"


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("asset", [None, "USD"])
async def test_pages_are_stable_while_entries_are_posted(
    ledger: TestLedger,
    reader: ReadModel,
    newest_first: bool,
    asset: str | None,
) -> None:
    ledger.append([ledger.writer.post("a", asset="EUR" if n % 3 else "USD") for n in range(50)])
    there = range(1, 51) if asset is None else range(1, 51, 3)
    expected = sorted(there, reverse=newest_first)
    async with projecting(ledger):
        await reader.wait_for(ledger.wanted(), 30)
        found: list[int] = []
        cursor = None
        while len(found) < len(expected):
            page = await reader.entries("a", asset=asset, after=cursor, limit=7, newest_first=newest_first)
            found += [entry.version for entry in page.entries]
            cursor = page.next_cursor
            ledger.append([ledger.writer.post("a"), ledger.writer.post("b")])
            await reader.wait_for(ledger.wanted(), 30)
    assert found[: len(expected)] == expected
    assert len(set(found)) == len(found)


async def test_the_last_page_has_no_cursor(ledger: TestLedger, reader: ReadModel) -> None:
    ledger.append([ledger.writer.post("a") for _ in range(4)])
    async with projecting(ledger):
        await reader.wait_for(ledger.wanted(), 30)
    assert (await reader.entries("a", limit=4)).next_cursor is None
    page = await reader.entries("a", limit=3)
    assert page.next_cursor is not None
    rest = await reader.entries("a", limit=3, after=page.next_cursor)
    assert ([entry.version for entry in rest.entries], rest.next_cursor) == ([4], None)
    for statement in ({"account_id": "b"}, {"account_id": "a", "newest_first": True}):
        with pytest.raises(InvalidCursor):
            await reader.entries(after=page.next_cursor, **statement)
    for limit in (0, 1001):
        with pytest.raises(ValueError, match="limit"):
            await reader.entries("a", limit=limit)


async def test_an_account_is_told_with_its_balances(ledger: TestLedger, reader: ReadModel) -> None:
    writer = ledger.writer
    told = {"account_type": "credit", "reference": "r", "metadata": '{"tier":1}'}
    ledger.append(
        [
            writer.open_account("a", floor=-50 * UNIT, assets=("EUR", "USD"), **told),
            writer.post("a", 10 * UNIT),
            writer.place("a", "h-1", 25 * UNIT),
            writer.place("a", "h-2", UNIT, asset="EUR"),
            writer.make(AccountFrozen, "a"),
            writer.open_account("world", floor=None),
        ]
    )
    async with projecting(ledger):
        account = await reader.account("a", at_least=ledger.wanted(), timeout=60)
    assert (account.status, account.permanent, account.floor) == (AccountStatus.FROZEN, False, Decimal(-50))
    assert (account.assets, account.account_type, account.reference) == (("EUR", "USD"), "credit", "r")
    assert (account.metadata, account.version) == ({"tier": 1}, 5)
    assert account.opened_at < account.updated_at
    assert [(b.asset, str(b.balance), str(b.held), str(b.available), b.version) for b in account.balances] == [
        ("EUR", "0", "1", "-1", 4),
        ("USD", "10", "25", "-15", 3),
    ]
    assert await reader.balance("a", "USD") == account.balances[1]
    world = await reader.account("world")
    assert (world.floor, world.balances, world.version, world.opened_at) == (None, (), 1, world.updated_at)
    ledger.append([writer.post("a", asset="EUR")])
    with pytest.raises(ReadModelBehind):
        await reader.account("a", at_least=ledger.wanted(), timeout=0.05)
    async with projecting(ledger):
        later = await reader.account("a", at_least=ledger.wanted(), timeout=60)
    assert (later.version, later.updated_at > account.updated_at) == (6, True)


async def test_holds_are_told_by_their_status(ledger: TestLedger, reader: ReadModel) -> None:
    writer = ledger.writer
    ledger.append(
        [
            writer.post("a", 90 * UNIT),
            *(writer.place("a", name, 5 * UNIT, expires_at=NOON) for name in ("z", "y", "x", "w")),
            writer.settle("a", "z", 2 * UNIT, remaining=3 * UNIT, reference="part"),
            writer.settle("a", "y", 5 * UNIT),
            writer.release("a", "x", 5 * UNIT),
            writer.release("a", "w", 5 * UNIT, expired=True),
            writer.place("a", "v", UNIT, asset="EUR", reference="r", metadata='{"k":[1]}'),
        ]
    )
    async with projecting(ledger):
        opened = await reader.holds("a", at_least=ledger.wanted(), timeout=60)
    assert [(hold.hold_id, str(hold.remaining), hold.ended_at) for hold in opened.holds] == [
        ("z", "3", None),
        ("v", "1", None),
    ]
    assert (opened.holds[1].reference, opened.holds[1].metadata) == ("r", {"k": [1]})
    assert (str(opened.holds[0].amount), opened.holds[0].version, opened.holds[0].placed_version) == ("5", 6, 2)
    assert [hold.expires_at is None for hold in opened.holds] == [False, True]
    found = {status: (await reader.holds("a", status=status)).holds for status in HoldStatus}
    assert {status: [hold.hold_id for hold in holds] for status, holds in found.items()} == {
        HoldStatus.PLACED: ["z", "v"],
        HoldStatus.SETTLED: ["y"],
        HoldStatus.RELEASED: ["x"],
        HoldStatus.EXPIRED: ["w"],
    }
    entries = (await reader.entries("a")).entries
    assert [entry.hold_id for entry in entries] == [None, "z", "y"]


async def test_pages_of_holds_are_stable_while_holds_end(ledger: TestLedger, reader: ReadModel) -> None:
    writer = ledger.writer
    ledger.append([writer.post("a", 90 * UNIT), *(writer.place("a", f"h-{n}", UNIT) for n in range(9))])
    async with projecting(ledger):
        first = await reader.holds("a", limit=4, at_least=ledger.wanted(), timeout=60)
        ledger.append([writer.release("a", "h-0", UNIT), writer.release("a", "h-5", UNIT), writer.place("a", "x", 1)])
        second = await reader.holds("a", limit=4, after=first.next_cursor, at_least=ledger.wanted(), timeout=60)
    assert [hold.hold_id for page in (first, second) for hold in page.holds] == [
        *("h-0", "h-1", "h-2", "h-3"),
        *("h-4", "h-6", "h-7", "h-8"),
    ]
    last = await reader.holds("a", limit=4, after=second.next_cursor)
    assert ([hold.hold_id for hold in last.holds], last.next_cursor) == (["x"], None)
    with pytest.raises(InvalidCursor):
        await reader.holds("a", status=None, after=first.next_cursor)
    with pytest.raises(InvalidCursor):
        await reader.entries("a", after=first.next_cursor)
    with pytest.raises(ValueError, match="limit"):
        await reader.holds("a", limit=0)


async def test_thousands_of_calls_share_a_few_connections(ledger: TestLedger) -> None:
    ledger.append([ledger.writer.post(f"a-{n}") for n in range(20)])
    async with ReadModel(ledger.database, connections=2, timeout=60) as reader, projecting(ledger):
        wanted = ledger.wanted()
        calls = (reader.balance(f"a-{n % 20}", "USD", at_least=wanted, timeout=60) for n in range(3000))
        assert {row.balance for row in await asyncio.gather(*calls)} == {Decimal(1)}


async def test_a_reader_that_is_behind_says_so(ledger: TestLedger, reader: ReadModel) -> None:
    assert await reader.positions() == {}
    with pytest.raises(ReadModelBehind):
        await reader.balance("a", "USD", at_least={0: 0}, timeout=0.1)


async def test_an_absent_postgresql_is_told_in_seconds() -> None:
    nowhere = Database(url="postgresql://me:secret@127.0.0.1:1/x")
    async with asyncio.timeout(15), ReadModel(nowhere) as reader:
        results = await asyncio.gather(
            *(reader.balance("a", "USD") for _ in range(50)),
            reader.wait_for({0: 0}, 60),
            return_exceptions=True,
        )
    assert {type(result) for result in results} == {ReadModelUnavailable}
    assert "secret" not in str(results)


async def test_a_ledger_that_is_not_there_is_named(stack: Stack) -> None:
    database = Database(url=stack.addresses["postgres_url"], schema="no_such_ledger")
    async with ReadModel(database) as reader:
        with pytest.raises(ReadModelUnavailable, match="has a projection been started"):
            await reader.balance("a", "USD")


async def test_a_restart_of_postgresql_is_not_noticed(ledger: TestLedger, reader: ReadModel, stack: Stack) -> None:
    await reader.balance("a", "USD")
    await asyncio.to_thread(stack.stop, "postgres")
    await asyncio.to_thread(stack.start, "postgres")
    assert (await reader.balance("a", "USD")).version == 0
