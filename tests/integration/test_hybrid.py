"""A hybrid ledger on the real stack: an entry returns when PostgreSQL and immudb have it, or says which has not."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from events.errors import LedgerError
from partita import (
    HybridConfig,
    HybridLedger,
    IdempotencyConflict,
    ReceiptIncomplete,
    ReceiptRefused,
    create_hybrid_ledger,
)
from projections.immudb.mirrored import event_of, key_of, verify_receipt_part
from tests.docs.pages import blocks
from tests.support.immudb import messages
from tests.support.services import Ledger, ledger_on
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def mirrored(full_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger with all services, its mirror too."""
    addresses = full_stack.addresses
    place = {"immudb_host": addresses["immudb_host"], "immudb_port": int(addresses["immudb_port"])}
    with ledger_on(addresses, tmp_path_factory.mktemp("hybrid"), **place) as ledger:
        ledger.options = {**ledger.options, "immudb_database": ledger.name}
        handler = ledger.service("handler").start()
        ledger.service("balances").start()
        ledger.service("mirror").start()
        ledger.await_handler(handler)
        yield ledger


def config(ledger: Ledger, directory: Path, **changes: float) -> HybridConfig:
    return HybridConfig(
        postgres_url=ledger.addresses["postgres_url"],
        kafka_bootstrap=ledger.addresses["kafka_bootstrap"],
        schema_registry_url=ledger.addresses["schema_registry_url"],
        ledger=ledger.name,
        immudb_host=ledger.addresses["immudb_host"],
        immudb_port=int(ledger.addresses["immudb_port"]),
        immudb_database=ledger.name,
        immudb_state_file=directory / "state.json",
        **changes,  # type: ignore[arg-type]  # only times
    )


@pytest.fixture
async def hybrid(mirrored: Ledger, tmp_path: Path) -> AsyncIterator[HybridLedger]:
    async with await create_hybrid_ledger(config=config(mirrored, tmp_path)) as engine:
        yield engine


async def test_an_entry_has_its_row_and_its_transaction(hybrid: HybridLedger, mirrored: Ledger) -> None:
    entry = await hybrid.create_entry("alice", "12.50", "credit", "invoice 7", {"a": [1]}, command_id="c-1")
    assert entry.receipt is not None
    assert (entry.amount, entry.receipt.pg_id) == (Decimal("12.5"), entry.entry_id)
    assert entry.receipt.immudb_tx == entry.receipt.immudb["tx"] > 0
    found = await asyncio.to_thread(mirrored.wiring().mirror().find, entry.partition, entry.sequence)
    assert found is not None
    shown = verify_receipt_part(
        entry.receipt.immudb,
        topic=mirrored.wiring().topics.events,
        partition=entry.partition,
        sequence=entry.sequence,
        event=event_of(found),
    )
    assert shown.tx == entry.receipt.immudb_tx
    again = await hybrid.create_entry("alice", "12.50", "credit", "invoice 7", {"a": [1]}, command_id="c-1")
    assert again.replayed
    assert again.receipt is not None
    assert again.receipt.immudb_tx == entry.receipt.immudb_tx
    assert again.to_dict()["receipt"]["pg_id"] == entry.entry_id


async def test_a_rejection_and_a_dry_run_have_no_receipt(hybrid: HybridLedger) -> None:
    tried = await hybrid.create_entry("bob", "1", "credit", dry_run=True)
    assert tried.receipt is None
    await hybrid.create_entry("bob", "1", "credit", command_id="b-1")
    with pytest.raises(IdempotencyConflict):
        await hybrid.create_entry("bob", "2", "credit", command_id="b-1")


async def test_many_at_once_have_their_receipts(hybrid: HybridLedger) -> None:
    entries = await asyncio.gather(*(hybrid.create_entry(f"m-{number % 7}", "1", "credit") for number in range(40)))
    receipts = [entry.receipt for entry in entries]
    assert [receipt and receipt.pg_id for receipt in receipts] == [entry.entry_id for entry in entries]


@pytest.mark.parametrize(("stopped", "behind"), [("mirror", "mirror"), ("balances", "projection")])
async def test_the_one_that_is_behind_is_told_and_the_entry_is_there(
    mirrored: Ledger, tmp_path: Path, stopped: str, behind: str
) -> None:
    service = next(service for service in mirrored.services if service.arguments[-1] == stopped)
    service.kill()
    try:
        async with await create_hybrid_ledger(config(mirrored, tmp_path, receipt_timeout=1.0)) as engine:
            with pytest.raises(ReceiptIncomplete) as raised:
                await engine.create_entry("carol", "1", "credit", command_id=f"late-{stopped}")
    finally:
        service.start()
    error = raised.value
    assert (error.details["behind"], error.entry.amount, error.retriable) == (behind, Decimal(1), True)
    assert isinstance(error.__cause__, LedgerError)
    async with await create_hybrid_ledger(config(mirrored, tmp_path)) as engine:
        again = await engine.create_entry("carol", "1", "credit", command_id=f"late-{stopped}")
        assert (again.entry_id, again.replayed) == (error.entry.entry_id, True)
        assert again.receipt is not None
        assert (await engine.receipt(error.entry)).immudb_tx == again.receipt.immudb_tx


async def test_a_copy_that_somebody_has_written_over_is_no_delay(hybrid: HybridLedger, mirrored: Ledger) -> None:
    entry = await hybrid.create_entry("dora", "1", "credit", command_id="over")
    schema, key = messages(), key_of(mirrored.settings().topics.events, entry.partition, entry.sequence)
    with closing(mirrored.wiring().verified_database()) as database:
        pair = schema.KeyValue(key=key, value=b"forged")
        await asyncio.to_thread(database._client._call, "Set", schema.SetRequest(KVs=[pair]))
    with pytest.raises(ReceiptRefused) as raised:
        await hybrid.create_entry("dora", "1", "credit", command_id="over")
    error = raised.value
    assert (error.retriable, error.details["copy"], error.details["reason"]) == (False, "mirror", "ImmudbTampered")
    assert error.entry.entry_id == entry.entry_id


def test_the_example_of_the_page_prints_what_it_says(mirrored: Ledger) -> None:
    *_, example = blocks("docs/audit.md", "python")
    *_, printed = blocks("docs/audit.md", "text")
    done = subprocess.run(
        [sys.executable, "-c", example], env=mirrored.environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout == printed, done.stderr


def test_no_secret_is_shown() -> None:
    shown = repr(HybridConfig(postgres_url="postgresql://a:hunter2@h/d", immudb_password="hunter2"))
    assert "hunter2" not in shown
