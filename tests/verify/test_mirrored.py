"""`partita verify` and a mirror that somebody has got at: immudb's values, its files, and what is trusted of it."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from partita import LedgerEntry
from partita.verify.run import verify
from projections.immudb.mirrored import key_of
from tests.projections.test_audit_trail import files_with
from tests.support.immudb import messages
from tests.support.services import Ledger, eventually, ledger_on
from tests.support.stack import NativeStack, Stack

ENTRIES = 40


@pytest.fixture(scope="module")
def mirrored(full_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger at rest, all of it in immudb."""
    addresses = full_stack.addresses
    place = {"immudb_host": addresses["immudb_host"], "immudb_port": int(addresses["immudb_port"])}
    with ledger_on(addresses, tmp_path_factory.mktemp("verified"), **place) as ledger:
        ledger.options = {**ledger.options, "immudb_database": ledger.name}
        handler = ledger.service("handler").start()
        for name in ("balances", "mirror"):
            ledger.service(name).start()
        ledger.await_handler(handler)
        last = asyncio.run(_live(ledger))
        mirror = ledger.wiring().mirror()
        with closing(mirror.database):
            eventually(lambda: all(mirror.find(entry.partition, entry.sequence) for entry in last))
        for service in ledger.services:
            assert service.stop() == 0, service.log_text()[-3000:]
        yield ledger


async def _live(ledger: Ledger) -> list[LedgerEntry]:
    async with ledger.engine() as engine:
        paid = [engine.create_entry(f"payee-{n % 7}", n + 1, "credit", f"payment {n:03}") for n in range(ENTRIES)]
        entries = await asyncio.gather(*paid)
        await engine.get_balance("payee-0")
    return entries


async def fault(ledger: Ledger) -> str | None:
    """Return what is wrong with the mirror; nothing else is wrong."""
    with closing(ledger.wiring()) as wiring:
        found = await verify(wiring, patience=0.5)
    results = [result for results in found.found.values() for result in results if result.name != "I7 mirror"]
    assert [result for result in results if not result.ok] == []
    (mirror,) = found.found["mirror"]
    assert mirror.checked > (ENTRIES if mirror.ok else 0)
    return mirror.detail


@contextmanager
def kept(path: Path) -> Iterator[bytes]:
    before = path.read_bytes()
    yield before
    path.write_bytes(before)


async def test_a_mirror_that_is_whole_is_proven(mirrored: Ledger) -> None:
    assert await fault(mirrored) is None


async def test_a_trusted_state_that_was_cut_is_told(mirrored: Ledger) -> None:
    with kept(mirrored.settings().trusted_state_file()) as before:
        mirrored.settings().trusted_state_file().write_bytes(before[:40])
        assert "trusted state" in (await fault(mirrored) or "")
    assert await fault(mirrored) is None


async def test_a_bit_that_is_changed_on_immudbs_disk_is_found(mirrored: Ledger, full_stack: Stack) -> None:
    if not isinstance(full_stack, NativeStack):
        pytest.skip("the files of a container's immudb are in the container")
    full_stack.stop("immudb")
    (path,) = files_with(full_stack.directory / "data" / "immudb" / mirrored.name, b"payment 017")
    with kept(path) as before:
        path.write_bytes(before.replace(b"payment 017", b"payment 018", 1))
        full_stack.start("immudb")
        told = await fault(mirrored)
        full_stack.stop("immudb")
    full_stack.start("immudb")
    assert told is not None
    assert told.startswith(mirrored.settings().topics.events), told
    assert await fault(mirrored) is None


async def test_a_value_that_was_written_over_is_named(mirrored: Ledger) -> None:
    """Last: what is in immudb stays there."""
    key = key_of(mirrored.settings().topics.events, 1, 2)
    with closing(mirrored.wiring().verified_database()) as database:
        schema = messages()
        pair = schema.KeyValue(key=key, value=b"forged")
        database._client._call("Set", schema.SetRequest(KVs=[pair]))
    assert await fault(mirrored) == f"{key.decode()}: another value is there"
