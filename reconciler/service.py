"""The reconciler as a service: it follows the log and the chain for ever, and keeps what it finds.

Each round reads what is new of both and compares it. The cursor and the findings move together in PostgreSQL, so the
service can be killed at any time; a second one hinders it and no more. What passes is waited for, what doesn't is
told.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from events.errors import LedgerError
from reconciler.deposits import Ledger, deposit
from reconciler.expectations import Expectations
from reconciler.findings import Row
from reconciler.reconcile import Reconciler
from reconciler.rounds import GIVE_UP_AFTER, run_rounds
from reconciler.store import Cursor

log = logging.getLogger(__name__)

POLL: Final = 2.0
"""Seconds between two rounds when there was nothing to do."""
MOST_DEPOSITS: Final = 10_000
"""Deposits that one round posts, and refusals that are remembered."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did: entries and blocks that were new, the block that is reached, and deposits posted."""

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
    _is_checked: bool = False
    _looked_at: int | None = None
    _given_up: set[str | None] = field(default_factory=set)

    async def run(self, stop: asyncio.Event, on_round: Callable[[Round], None] = lambda _: None) -> None:
        """Run until `stop` is set; raises as `run_rounds`, and as the reader's `check`."""

        async def one() -> bool:
            done = await self.round(stop)
            on_round(done)
            return bool(done.entries or done.blocks or done.deposits)

        await run_rounds(one, stop, poll=self.poll, give_up_after=self.give_up_after)

    async def round(self, stop: asyncio.Event) -> Round:
        """Read what is new of log and chain, and compare it."""
        reconciler = self.reconciler
        if not self._is_checked:
            await reconciler.reader.check()
            self._is_checked = True
        entries = await self.expectations.catch_up()
        await self.resolutions()
        if not self.ours_are_given:
            await reconciler.learn_addresses()
        head = await reconciler.reader.settled()
        reconciler.settled = head.number
        cursor = await self._cursor(head.number)
        first = cursor.number
        while cursor.number < head.number and not stop.is_set():
            stretch, _ = await reconciler.blocks(cursor.number + 1, head.number, move=cursor)
            cursor = Cursor(stretch.last.number, stretch.last.hash)
        await self._look_at_open_entries(head.number, stop)
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

    async def _look_at_open_entries(self, head: int, stop: asyncio.Event) -> None:
        """Look up what is open when there are more blocks or more entries, whoever has read them from the log."""
        if await self.reconciler.take_up():
            self._looked_at = None
        if self._looked_at == head:
            return
        after = ""
        while not stop.is_set() and (page := await self.reconciler.pending(after, settled=False)) is not None:
            after, _ = page
        self._looked_at = head

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
