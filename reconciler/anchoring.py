"""Putting a root over the newest checkpoints on a chain, and staying with it until it is there for good.

One step at a time, each of which may be the last before a crash: what is sent is written down before, so that it is
found again. A transaction that is stuck is replaced by one with a higher fee; one that a reorganisation has thrown
out is sent again. When its block is settled, the anchor is recorded as an event.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from events.errors import LedgerError
from events.reconciliation import CheckpointsAnchored
from reconciler.anchors import data_of, root_over
from reconciler.matching import State, Transaction
from reconciler.provider import Fees, NodeRefused, Wallet
from reconciler.reading import ChainReader
from reconciler.rounds import run_rounds
from reconciler.store import Attempt, ChainStore

log = logging.getLogger(__name__)

STUCK_AFTER: Final = 90.0
"""Seconds in no block after which a transaction is replaced by one with a higher fee."""
POLL: Final = 2.0
"""Seconds between two looks at what is on its way."""
MOST_ATTEMPTS: Final = 24
"""Transactions of one anchor: by then the last one offers a hundred times what the first did."""
_RAISE: Final = (5, 4)
"""A replacement offers a quarter more; nodes want at least a tenth."""


class AnchorStuck(LedgerError):
    """No transaction of an anchor got into a block, however much was offered."""


@dataclass(slots=True, kw_only=True)
class Anchoring:
    """Anchors checkpoints from one address on one chain."""

    reader: ChainReader
    wallet: Wallet
    store: ChainStore
    checkpoints: Callable[[], Awaitable[Sequence[str]]]
    record: Callable[[CheckpointsAnchored], Awaitable[None]]
    stuck_after: float = STUCK_AFTER
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], int] = lambda: time.time_ns() // 1000
    _sent_at: float = field(default=float("-inf"), init=False)

    @property
    def _chain_id(self) -> int:
        return self.reader.chain.chain_id

    async def begin(self) -> bool:
        """Send an anchor of the newest checkpoints; return whether there is one on its way now.

        There is none when there are no checkpoints, or when these are anchored already.
        """
        if await self._open() is not None:
            return True
        notes = sorted(await self.checkpoints())
        root = root_over(notes).hex()
        if not notes or root == await self.store.last_anchor(self._chain_id):
            return False
        await self._send(root, notes, await self.wallet.nonce(), await self.wallet.fees())
        return True

    async def _open(self) -> Mapping[str, Any] | None:
        return await self.store.open_anchor(self._chain_id, self.wallet.address)

    async def step(self) -> CheckpointsAnchored | None:
        """See to the anchor that is on its way; return it once it is on the chain for good, and recorded.

        Raises:
            AnchorStuck: as many transactions as there may be were sent, and none is in a block.
            ChainUnavailable: the chain's node does not answer.
        """
        found = await self._open()
        if found is None:
            return None
        settled = (await self.reader.settled()).number
        for tx_hash in reversed(found["tx_hashes"]):
            transaction = (await self.reader.lookup(tx_hash, settled)).transaction
            if transaction.state in (State.DONE, State.FAILED) or transaction.block_number is not None:
                return await self._in_block(found, transaction)
            if transaction.state is State.PENDING:
                await self._waiting(found)
                return None
        await self._thrown_out(found)
        return None

    async def _in_block(self, found: Mapping[str, Any], transaction: Transaction) -> CheckpointsAnchored | None:
        if transaction.state is State.PENDING:
            return None
        if transaction.state is State.FAILED:
            raise AnchorStuck(f"transaction {transaction.tx_hash} of an anchor failed", tx_hash=transaction.tx_hash)
        assert transaction.block_number is not None
        assert transaction.block_hash is not None
        event = CheckpointsAnchored(
            event_id=f"{self._chain_id}:{found['root']}",
            recorded_at=self.now(),
            chain_id=self._chain_id,
            block_number=transaction.block_number,
            block_hash=transaction.block_hash,
            transaction_hash=transaction.tx_hash,
            sender=self.wallet.address,
            root=bytes.fromhex(found["root"]),
            notes=tuple(found["notes"]),
        )
        await self.record(event)
        await self.store.end_anchor(self._chain_id, self.wallet.address)
        return event

    async def _waiting(self, found: Mapping[str, Any]) -> None:
        """Offer more if the transaction has been in no block for long."""
        if self._sent_at == float("-inf"):  # sent by a process before this one
            self._sent_at = self.clock()
        if self.clock() - self._sent_at >= self.stuck_after:
            log.warning("transaction %s is stuck: offering more", found["tx_hashes"][-1])
            await self._send(found["root"], found["notes"], found["nonce"], await self._raised(found), found)

    async def _raised(self, found: Mapping[str, Any]) -> Fees:
        over, under = _RAISE
        fresh = await self.wallet.fees()
        most, tip = (int(found[name]) * over // under + 1 for name in ("fee", "tip"))
        return Fees(max(fresh.most, most), max(fresh.tip, tip))

    async def _thrown_out(self, found: Mapping[str, Any]) -> None:
        """Send again what the chain does not know (any more), under a number that is free."""
        nonce = await self.wallet.nonce()
        fees = await self._raised(found) if nonce <= found["nonce"] else await self.wallet.fees()
        log.warning("no transaction of the anchor of %s is known to the chain: sending it again", found["root"])
        await self._send(found["root"], found["notes"], nonce, fees, found)

    async def _send(
        self,
        root: str,
        notes: Sequence[str],
        nonce: int,
        fees: Fees,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        if before is not None and len(before["tx_hashes"]) >= MOST_ATTEMPTS:
            raise AnchorStuck(
                f"{MOST_ATTEMPTS} transactions of the anchor of {root} were sent, and none is in a block", root=root
            )
        signed = await self.wallet.signed(data_of(bytes.fromhex(root)), nonce, fees)
        attempt = Attempt(nonce, signed.tx_hash, fees.most, fees.tip)
        await self.store.keep_attempt(self._chain_id, self.wallet.address, root, notes, attempt)
        try:
            await self.wallet.send(signed)
        except NodeRefused as error:
            if before is None:
                raise
            log.warning("%s", error.message)  # the number may be used: the next step will see by what
        self._sent_at = self.clock()

    async def run(self, stop: asyncio.Event, *, every: float, poll: float = POLL) -> None:
        """Anchor what is new every so many seconds, until `stop` is set; raises as `run_rounds`."""
        due = self.clock()
        is_checked = False

        async def one() -> bool:
            nonlocal due, is_checked
            if not is_checked:
                await self.reader.check()
                is_checked = True
            if self.clock() >= due:
                await self.begin()
                due = self.clock() + every
            await self.step()
            return False

        await run_rounds(one, stop, poll=poll)
