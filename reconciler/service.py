"""The reconciler as a service: it follows the log and the chain for ever, and keeps what it finds.

Each round reads what is new of both and compares it. The cursor and the findings move together in PostgreSQL, so the
service can be killed at any time; a second one hinders it and no more. What passes is waited for, what doesn't is
told.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from events.errors import LedgerError
from reconciler.deposits import Ledger, deposit
from reconciler.errors import ChainUnavailable
from reconciler.expectations import Expectations
from reconciler.findings import Row
from reconciler.reconcile import Reconciler
from reconciler.store import Cursor

log = logging.getLogger(__name__)

POLL: Final = 2.0
"""Seconds between two rounds when there was nothing to do."""
GIVE_UP_AFTER: Final = 300.0
MOST_DEPOSITS: Final = 10_000
"""Deposits that one round posts, and refusals that are remembered."""
_FIRST_DELAY: Final = 0.2
_LONGEST_DELAY: Final = 10.0


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did: entries and blocks that were new, the block that is reached, and what was found anew."""

    entries: int
    blocks: int
    reached: int
    deposits: int


@dataclass(slots=True, kw_only=True)
class ReconcilerService:
    """Runs rounds. `deposit_accounts` says by address which account is credited with what the ledger lacks."""

    reconciler: Reconciler
    expectations: Expectations
    resolutions: Callable[[], Awaitable[int]]
    start_block: int | None = None
    ours_are_given: bool = True
    ledger: Ledger | None = None
    deposit_accounts: Mapping[str, str] = field(default_factory=dict)
    poll: float = POLL
    give_up_after: float = GIVE_UP_AFTER
    _looked_at: int = -1
    _given_up: set[str | None] = field(default_factory=set)

    async def run(self, stop: asyncio.Event, on_round: Callable[[Round], None] = lambda _: None) -> None:
        """Run until `stop` is set. The chain is waited for however long it can't be read.

        Raises:
            LedgerError: what waiting does not mend, or did not within `give_up_after` seconds.
        """
        loop = asyncio.get_running_loop()
        well_at, delay = loop.time(), _FIRST_DELAY
        while not stop.is_set():
            try:
                done = await self.round(stop)
            except LedgerError as error:
                if not error.retriable:
                    raise
                if isinstance(error, ChainUnavailable):
                    well_at = loop.time()
                elif loop.time() - well_at > self.give_up_after:
                    raise
                log.warning("%s; trying again", error.message)
                await _wait(stop, delay)
                delay = min(delay * 2, _LONGEST_DELAY)
                continue
            well_at, delay = loop.time(), _FIRST_DELAY
            on_round(done)
            if not (done.entries or done.blocks or done.deposits):
                await _wait(stop, self.poll)

    async def round(self, stop: asyncio.Event) -> Round:
        """Read what is new of log and chain, and compare it."""
        reconciler = self.reconciler
        entries = await self.expectations.catch_up()
        await self.resolutions()
        if entries and not self.ours_are_given:
            await reconciler.learn_addresses()
        head = await reconciler.reader.settled()
        reconciler.settled = head.number
        cursor = await self._cursor(head.number)
        first = cursor.number
        while cursor.number < head.number and not stop.is_set():
            stretch, _ = await reconciler.blocks(cursor.number + 1, head.number, move=cursor)
            cursor = Cursor(stretch.last.number, stretch.last.hash)
        if entries or head.number != self._looked_at:
            await self._look_at_open_entries(stop)
            self._looked_at = head.number
        posted = await self._deposit()
        return Round(entries, cursor.number - first, cursor.number, posted)

    async def _cursor(self, head: int) -> Cursor:
        """Return from where to go on: where the cursor is, or before a reorganisation, or where it all begins."""
        reconciler = self.reconciler
        cursor = await reconciler.store.cursor(reconciler.chain.chain_id)
        if cursor is None:
            at = max(min(head, (self.start_block if self.start_block is not None else head + 1) - 1), 0)
            block = await reconciler.reader.block(at)
            await reconciler.store.begin(reconciler.chain.chain_id, Cursor(block.number, block.hash))
            log.info("%s: beginning after block %d", reconciler.chain.name, at)
            return await self._cursor(head)
        return await reconciler.walk_back(cursor) or cursor

    async def _look_at_open_entries(self, stop: asyncio.Event) -> None:
        after = ""
        while not stop.is_set() and (page := await self.reconciler.pending(after, settled=False)) is not None:
            after, _ = page

    async def _deposit(self) -> int:
        """Post what the ledger lacks; return how many entries that were. They come back with the log, and end it."""
        if self.ledger is None or not self.deposit_accounts:
            return 0
        reconciler = self.reconciler
        chain, tokens = reconciler.chain, reconciler.terms.tokens
        lacking = await reconciler.store.lacking(chain.chain_id, [*self.deposit_accounts], MOST_DEPOSITS)
        count = 0
        for row in lacking:
            if row.discrepancy_id in self._given_up:
                continue
            try:
                if (found := deposit(row, chain, tokens, self.deposit_accounts)) is not None:
                    await self.ledger.post(found)
                    count += 1
            except LedgerError as error:
                if error.retriable:
                    raise
                self._give_up(row, error)
        return count

    def _give_up(self, row: Row, error: LedgerError) -> None:
        """Leave a deposit that the ledger refuses to people: it stays a discrepancy."""
        log.warning("%s, log %s, is not posted: %s", row.tx_hash, row.log_index, error.message)
        if len(self._given_up) >= MOST_DEPOSITS:
            self._given_up.clear()
        self._given_up.add(row.discrepancy_id)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
