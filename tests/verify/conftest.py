"""One honest ledger, at rest, that the tests tamper with one at a time and put right again."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal

import pytest

from partita import InsufficientFunds
from projections.proofs.projection import PROOFS
from tests.support.services import Ledger, ledger_on
from tests.support.stack import Stack


@pytest.fixture(scope="module")
def honest(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger that has had something of everything, and whose services have ended in order."""
    with ledger_on(stack.addresses, tmp_path_factory.mktemp("honest")) as ledger:
        handler = ledger.service("handler").start()
        ledger.service("balances").start()
        ledger.service("proofs").start()
        ledger.await_handler(handler)
        asyncio.run(_live(ledger))
        for service in ledger.services:
            assert service.stop() == 0, service.log_text()[-3000:]
        yield ledger


async def _live(ledger: Ledger) -> None:
    async with ledger.engine() as engine:
        await engine.open_account("world", floor=None)
        for name in ("ann", "ben", "cyd"):
            await engine.transfer("world", name, 100, command_id=f"in-{name}")
        await engine.create_entry("ann", "0.5", "debit", reference="coffee", metadata={"shop": 7})
        await engine.place_hold("ben", 20, command_id="hold")
        await engine.settle_hold("ben", "hold", 5)
        await engine.place_hold("cyd", 1, command_id="gone")
        await engine.release_hold("cyd", "gone")
        await engine.freeze_account("cyd", reason="audit")
        await engine.transfer("ann", "ben", 10, command_id="pay")
        undone = await engine.rollback_batch("pay", "twice", command_id="undo")
        with suppress(InsufficientFunds):
            await engine.create_entry("ann", 1000, "debit", command_id="too-much")
        with suppress(InsufficientFunds):
            await engine.transfer("ann", "ben", 1000, command_id="too-much-for-both")
        async with engine.lock_account("ann"):
            assert await engine.get_balance("ann") == Decimal("99.5")
        await engine.get_batch(undone.batch_id)  # which has all that was told, as every other question
        async with ledger.wiring().read_model(PROOFS) as trees:
            await trees.wait_for(engine.position(), 60)
