"""The ledger against a chain: `ReconciliationEngine`, and what people say of what it finds.

Owns putting the parts together and the order in which they are asked. What is compared, and how, is `reconciler`.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from events.money import to_decimal
from events.reconciliation import (
    DiscrepancyExplained,
    DiscrepancyIgnored,
    DiscrepancyReopened,
    DiscrepancyResolved,
    Said,
)
from events.topics import ensure_topics
from events.types import EntryType
from partita.engine import LedgerEngine
from partita.settings import Settings
from partita.wiring import Wiring
from projections.records import BatchStatus
from reconciler.configured import ChainProvider
from reconciler.deposits import Deposit
from reconciler.errors import DiscrepancyNotFound, InvalidStatement, NotACorrection
from reconciler.expectations import Expectations
from reconciler.ranges import reconcile_blocks
from reconciler.reconcile import Reconciler
from reconciler.report import Report
from reconciler.resolutions import Resolutions
from reconciler.service import ReconcilerService, Round

log = logging.getLogger(__name__)

MIGRATIONS: Final = "reconciler:migrations"
_MOST_REASON: Final = 1_000


@dataclass(frozen=True, slots=True)
class Opened:
    """The parts that reconciling and anchoring stand on."""

    wiring: Wiring
    reconciler: Reconciler
    expectations: Expectations
    resolutions: Resolutions
    partition_count: int
    ours_are_given: bool

    async def close(self) -> None:
        """Let go of all connections."""
        await _closed(self.wiring, self.reconciler)


async def _closed(wiring: Wiring, reconciler: Reconciler) -> None:
    async with AsyncExitStack() as stack:  # each is closed, whatever closing another one says
        stack.push_async_callback(asyncio.to_thread, wiring.close)
        stack.push_async_callback(reconciler.store.close)
        stack.push_async_callback(reconciler.reader.close)


async def opened(settings: Settings, provider: ChainProvider | None) -> Opened:
    """Return the parts, with their tables and topics there, and the nodes found to be of the right chain."""
    parts = await prepared(settings, provider)
    try:
        await parts.reconciler.reader.check()
    except BaseException:
        await parts.close()
        raise
    return parts


async def prepared(settings: Settings, provider: ChainProvider | None) -> Opened:
    """Return the parts, with their tables and topics there; the nodes have not been asked anything."""
    wiring = Wiring(settings)
    chosen = provider or wiring.chain_provider()
    reconciler = wiring.reconciler(chosen)
    try:
        count = await asyncio.to_thread(_prepare_topics, wiring)
        from projections.migrate import upgrade  # noqa: PLC0415  # Alembic is not in the plain install

        await upgrade(wiring.chain_database, folder=MIGRATIONS)
        expectations = wiring.expectations(reconciler.store, count)
        resolutions = await asyncio.to_thread(wiring.resolutions, reconciler.store)
    except BaseException:
        await _closed(wiring, reconciler)
        raise
    return Opened(wiring, reconciler, expectations, resolutions, count, bool(reconciler.terms.ours))


def _prepare_topics(wiring: Wiring) -> int:
    """Make the topic of what is said, on a ledger that is older than it, and return the ledger's partition count."""
    wiring.check_broker()
    count = wiring.partition_count()
    replication = wiring.settings.replication
    return ensure_topics(wiring.clients, wiring.topics, partitions=count, replication=replication)


class ReconciliationEngine:
    """Compares a ledger with a chain. `chain_provider` says which, and by which nodes; else the settings do.

    It asks for the same settings as `ledger`, and makes the tables that it needs (schema `<ledger>_chain`). Close it,
    or use it as an async context manager.
    """

    def __init__(self, ledger: LedgerEngine, chain_provider: ChainProvider | None = None) -> None:
        self._ledger = ledger
        self._provider = chain_provider
        self._parts: Opened | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections; the ledger's engine stays open."""
        parts, self._parts = self._parts, None
        if parts is not None:
            await parts.close()

    async def _opened(self) -> Opened:
        async with self._opening:
            if self._parts is None:
                self._parts = await opened(self._ledger.settings, self._provider)
            return self._parts

    async def reconcile(
        self,
        start_block: int,
        end_block: int | None = None,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Compare the blocks `start_block` to `end_block`, or to the newest that is settled, and report.

        All that the log has when it is called is taken into account. What is found is kept: the same range again
        finds the same, under the same ids, and tells nothing again that people have seen to.

        Raises:
            InvalidChain: the chain, a token, an address or the range can't be.
            WrongChain: the node is one of another chain.
            ChainUnavailable, ProvidersDisagree: the chain can't be read, or its nodes say different things.
            LogCorrupt, BrokerUnavailable, TopicMissing: the log can't be read.
            ReadModelUnavailable: PostgreSQL does not answer.
        """
        parts = await self._opened()
        await parts.expectations.catch_up()
        await parts.resolutions.catch_up()
        if not parts.ours_are_given:
            await parts.reconciler.learn_addresses()
        finality = parts.reconciler.reader.finality
        return await reconcile_blocks(
            parts.reconciler, start_block, end_block, finality=finality, on_progress=on_progress
        )

    async def list_discrepancies(self, *, settled: bool = False, limit: int = 1000) -> list[dict[str, Any]]:
        """Return what was found and holds, the oldest first, as rows of `discrepancies`; with `settled` all of it."""
        parts = await self._opened()
        await parts.resolutions.catch_up()
        chain_id = parts.reconciler.chain.chain_id
        found = await parts.reconciler.store.discrepancies(chain_id, settled=settled, limit=limit)
        return [dict(row) for row in found]

    async def explain(self, discrepancy_id: str, reason: str, *, actor: str | None = None) -> None:
        """Say that a discrepancy is as it should be; raises `DiscrepancyNotFound`, `InvalidStatement`."""
        await self._say(DiscrepancyExplained(*await self._head(discrepancy_id, reason, actor)))

    async def ignore(self, discrepancy_id: str, reason: str, *, actor: str | None = None) -> None:
        """Let a discrepancy be; raises `DiscrepancyNotFound`, `InvalidStatement`."""
        await self._say(DiscrepancyIgnored(*await self._head(discrepancy_id, reason, actor)))

    async def reopen(self, discrepancy_id: str, reason: str, *, actor: str | None = None) -> None:
        """Take back what was said of a discrepancy; raises `DiscrepancyNotFound`, `InvalidStatement`."""
        await self._say(DiscrepancyReopened(*await self._head(discrepancy_id, reason, actor)))

    async def resolve(self, discrepancy_id: str, batch_id: str, reason: str, *, actor: str | None = None) -> None:
        """Say that a batch has put a discrepancy right.

        Raises:
            DiscrepancyNotFound, InvalidStatement: as for the others.
            BatchNotInReadModel: there is no such batch.
            NotACorrection: it was not posted.
        """
        head = await self._head(discrepancy_id, reason, actor)
        batch = await self._ledger.get_batch(batch_id)
        if batch.status is not BatchStatus.POSTED:
            raise NotACorrection(f"batch {batch_id} is {batch.status.lower()}, not posted", batch_id=batch_id)
        await self._say(DiscrepancyResolved._make((*head, batch_id)))

    async def _head(self, discrepancy_id: str, reason: str, actor: str | None) -> tuple[Any, ...]:
        """Return what every event begins with."""
        if not reason.strip() or len(reason) > _MOST_REASON or "\0" in reason + (actor or ""):
            raise InvalidStatement(f"a reason has 1 to {_MOST_REASON} characters", characters=len(reason))
        parts = await self._opened()
        chain_id = parts.reconciler.chain.chain_id
        if not await parts.reconciler.store.discrepancies(chain_id, settled=True, only=discrepancy_id, limit=1):
            raise DiscrepancyNotFound(
                f"there is no discrepancy {discrepancy_id[:80]!r} on {parts.reconciler.chain.name} now",
                discrepancy_id=discrepancy_id,
            )
        return uuid.uuid4().hex, time.time_ns() // 1000, discrepancy_id, chain_id, actor, reason

    async def _say(self, event: Said) -> None:
        await (await self._opened()).resolutions.say(event)


@dataclass(frozen=True, slots=True)
class _Deposits:
    """Posts deposits as entries."""

    ledger: LedgerEngine

    async def post(self, deposit: Deposit) -> None:
        await self.ledger.create_entry(
            deposit.account_id,
            to_decimal(deposit.amount),
            EntryType.CREDIT,
            metadata=deposit.metadata,
            asset=deposit.asset,
            command_id=deposit.command_id,
        )


async def run_reconciler_service(
    settings: Settings, stop: asyncio.Event, on_round: Callable[[Round], None] = lambda _: None
) -> None:
    """Follow the log and the chain of the settings until `stop` is set; raises as `ReconcilerService.run`."""
    parts = await prepared(settings, None)
    accounts: Mapping[str, str] = {
        address.lower(): account for address, account in settings.chain_deposit_accounts.items()
    }
    ledger = LedgerEngine(settings=settings)
    try:
        service = ReconcilerService(
            reconciler=parts.reconciler,
            expectations=parts.expectations,
            resolutions=parts.resolutions.catch_up,
            start_block=settings.chain_start_block,
            ours_are_given=parts.ours_are_given,
            ledger=_Deposits(ledger) if accounts else None,
            deposit_accounts=accounts,
        )
        await service.run(stop, on_round)
    finally:
        await ledger.close()
        await parts.close()
