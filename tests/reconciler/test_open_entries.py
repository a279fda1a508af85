"""Which entries are asked about with each new block: those of which it is not known for good what became of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from projections.database import Database
from reconciler.matching import Finding, Kind, State, Transaction
from reconciler.store import ChainStore, Cursor, Scope
from reconciler.transfers import Expectation
from tests.reconciler.samples import a_hash, entry, transfer

pytestmark = pytest.mark.stack

CHAIN = 31337
NAMES = ("anvil", "31337", "")


@pytest.fixture
async def store(database: Database) -> AsyncIterator[ChainStore]:
    made = ChainStore(database)
    yield made
    await made.close()


def an_entry(number: int, **given: Any) -> Expectation:
    return entry(number, tx_hash=a_hash(number), **given)


async def found(store: ChainStore, kind: Kind, named: Expectation, block: int | None = None) -> None:
    """Write what was found of an entry."""
    where, arrived = Transaction(named.tx_hash, State.UNKNOWN), None
    if block is not None:
        where = Transaction(named.tx_hash, State.DONE, block, a_hash(1000 + block))
        arrived = transfer(tx_hash=named.tx_hash, block_number=block, block_hash=where.block_hash)
    finding = Finding(kind=kind, expectation=named, transfer=arrived, transaction=where)
    await store.write(CHAIN, Scope(names=NAMES, tx_hashes=[named.tx_hash], expected=1), [finding])


async def is_open(
    store: ChainStore, *, names: Sequence[str] = NAMES, chain_id: int = CHAIN, settled: bool = False
) -> list[str]:
    while await store.take_up(names, chain_id):
        continue
    return [e.entry_id for e in await store.pending(names, chain_id, "", 100, settled=settled)]


async def test_an_entry_is_open_until_its_transfer_is_there(store: ChainStore) -> None:
    paid, other = an_entry(1), an_entry(2)
    await store.expect("events", [paid, other], {})
    assert await is_open(store) == [paid.entry_id, other.entry_id]
    await found(store, Kind.MISSING_ON_CHAIN, paid)
    assert await is_open(store) == [paid.entry_id, other.entry_id]
    await found(store, Kind.MATCHED, paid, block=7)
    assert await is_open(store) == [other.entry_id]
    await found(store, Kind.AMOUNT_MISMATCH, other, block=8)
    assert await is_open(store) == []


async def test_what_a_reorganisation_took_is_open_again(store: ChainStore) -> None:
    paid, kept = an_entry(1), an_entry(2)
    await store.expect("events", [paid, kept], {})
    await store.begin(CHAIN, Cursor(9, a_hash(9)))
    await found(store, Kind.MATCHED, paid, block=7)
    await found(store, Kind.MATCHED, kept, block=3)
    assert await is_open(store) == []
    await store.rewind(CHAIN, Cursor(9, a_hash(9)), Cursor(5, a_hash(5)))
    assert await is_open(store) == [paid.entry_id]
    await found(store, Kind.MATCHED, paid, block=8)
    assert await is_open(store) == []


async def test_what_was_found_before_an_entry_was_taken_up_counts(store: ChainStore) -> None:
    matched, missing, new = (an_entry(number) for number in (1, 2, 3))
    await store.expect("events", [matched, missing, new], {})
    await found(store, Kind.MATCHED, matched, block=7)
    await found(store, Kind.MISSING_ON_CHAIN, missing)
    assert await is_open(store) == [missing.entry_id, new.entry_id]


async def test_what_may_still_change_is_asked_whatever_people_say_of_it(store: ChainStore) -> None:
    soon = an_entry(1)
    await store.expect("events", [soon], {})
    await found(store, Kind.NOT_YET_FINAL, soon, block=7)
    (of_soon,) = await store.discrepancies(CHAIN)
    explained = ("e1", of_soon["discrepancy_id"], "explained", "wait", None, None, 1, 0)
    await store.fold("reconciliation", [explained], [], {})
    assert await is_open(store) == [soon.entry_id]


async def test_what_a_process_without_this_table_wrote_is_mended_when_it_is_looked_at(
    store: ChainStore, database: Database
) -> None:
    paid = an_entry(1)
    await store.expect("events", [paid], {})
    assert await is_open(store) == [paid.entry_id]
    await found(store, Kind.MATCHED, paid, block=7)
    connection = await database.connect()
    await connection.execute(
        f'INSERT INTO "{database.schema}".open_entries (chain_id, entry_id) VALUES ($1, $2)', CHAIN, paid.entry_id
    )
    await connection.close()
    assert await is_open(store) == [paid.entry_id]
    await found(store, Kind.MATCHED, paid, block=7)
    assert await is_open(store) == []


async def test_addresses_are_learned_from_all_entries_however_many_come_at_once(
    store: ChainStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.store.ADDRESSES_AT_ONCE", 3)
    named = [f"0x{number * 7919 % 101:040x}" for number in range(1, 30)]
    await store.expect("events", [an_entry(n, recipient=address) for n, address in enumerate([*named, named[0]])], {})
    seen: set[str] = set()
    after, rounds = 0, 0
    while (found := await store.ours(NAMES, after))[1] > after:
        seen |= found[0]
        after, rounds = found[1], rounds + 1
    assert (seen, rounds) == ({*named}, 10)


async def test_what_people_have_seen_to_is_only_asked_when_they_want_to_know(store: ChainStore) -> None:
    lost, late = an_entry(1), an_entry(2)
    await store.expect("events", [lost, late], {})
    for each in (lost, late):
        await found(store, Kind.MISSING_ON_CHAIN, each)
    (of_lost,) = [d for d in await store.discrepancies(CHAIN) if d["entry_id"] == lost.entry_id]
    ignored = ("e1", of_lost["discrepancy_id"], "ignored", "dust", None, None, 1, 0)
    await store.fold("reconciliation", [ignored], [], {})
    assert await is_open(store) == [late.entry_id]
    assert await is_open(store, settled=True) == [lost.entry_id, late.entry_id]
    reopened = ("e2", of_lost["discrepancy_id"], "reopened", "it was not dust", None, None, 2, 1)
    await store.fold("reconciliation", [reopened], [], {})
    assert await is_open(store) == [lost.entry_id, late.entry_id]


async def test_a_chain_that_comes_later_or_has_another_name_begins_with_all_that_name_it(store: ChainStore) -> None:
    ours, unnamed, theirs = an_entry(1), an_entry(2, chain=""), an_entry(3, chain="base")
    await store.expect("events", [ours, unnamed, theirs], {})
    assert await is_open(store) == [ours.entry_id, unnamed.entry_id]
    assert await is_open(store, names=("8453", ""), chain_id=8453) == [unnamed.entry_id]
    assert await is_open(store, names=("base", "8453", ""), chain_id=8453) == [unnamed.entry_id, theirs.entry_id]
    await store.expect("events", [an_entry(4, chain="")], {})
    assert await is_open(store) == ["0-1", "0-2", "0-4"]
    assert await is_open(store, names=("base", ""), chain_id=8453) == ["0-2", "0-3", "0-4"]
    assert await is_open(store, names=("another", "")) == ["0-2", "0-4"]


async def test_entries_that_many_write_at_once_are_all_taken_up(store: ChainStore, database: Database) -> None:
    writers = [ChainStore(database) for _ in range(6)]
    done = asyncio.Event()

    async def write(writer: ChainStore, number: int) -> None:
        for at in range(40):
            await writer.expect("events", [an_entry(number * 1000 + at * 10 + n) for n in range(at % 5 + 1)], {})

    async def take_up() -> None:
        while not done.is_set():
            await store.take_up(NAMES, CHAIN)

    taking = asyncio.create_task(take_up())
    await asyncio.gather(*(write(writer, number) for number, writer in enumerate(writers)))
    done.set()
    await taking
    while await store.take_up(NAMES, CHAIN):
        continue
    (counted,) = await store._fetch(
        "SELECT (SELECT count(*) FROM {schema}.expectations) AS there, count(*) AS open FROM {schema}.open_entries"
    )
    assert (counted["there"], counted["open"]) == (6 * 40 * 3, 6 * 40 * 3)
    await asyncio.gather(*(writer.close() for writer in writers))
