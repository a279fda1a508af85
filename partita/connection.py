"""What a `LedgerEngine` is connected to: a requester and the read model, each made when it is first needed.

Also how much of each partition the engine was told of, so that what it reads is never older.
"""

import asyncio
import time
from collections.abc import Sequence

from commands.codec import Outcome
from commands.rejections import from_event
from commands.types import Command
from commands.validation import check_account_id
from events.checkpoint import Verifier
from events.errors import LedgerError
from events.partitioner import partition_of
from events.types import BatchPosted, BatchRejected, CommandRejected
from partita.receipts import Receipt
from partita.requester import Requester
from partita.settings import Settings
from partita.waiting import Answer
from partita.wiring import Wiring
from projections.proofs.queries import ProofReader
from projections.queries import ReadModel
from projections.snapshots.queries import History


class Connection:
    """One engine's connections, for one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._wiring = Wiring(settings)
        self._requester: Requester | None = None
        self._reader: ReadModel | None = None
        self._connecting: asyncio.Task[Requester] | None = None
        self._told: dict[int, int] = {}
        self._closed = False

    async def close(self) -> None:
        """Let go of all connections."""
        self._closed = True
        if self._connecting is not None:  # a requester that is being made is let go as well
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._requester is not None:
            await self._requester.close()
        if self._reader is not None:
            await self._reader.close()
        self._wiring.close()

    async def ask(self, command: Command, timeout: float | None) -> Outcome:
        """Return the outcome of a command that was accepted.

        Raises:
            Rejected: it was not.
            OutcomeUnknown: none came within `timeout` seconds.
            BrokerUnavailable, RegistryUnavailable, TopicMissing: not connected; nothing was sent.
        """
        requester = await self._connected()
        answer = self._heard(await requester.ask(command, timeout=timeout))
        if isinstance(answer, LedgerError):
            raise answer
        return answer

    async def ask_all(self, commands: Sequence[Command], timeout: float | None) -> list[Answer]:
        """Return, in their order, the outcome of each command that was accepted, or the error that `ask` raises.

        Raises:
            BrokerUnavailable, RegistryUnavailable, TopicMissing: not connected; nothing was sent.
        """
        requester = await self._connected()
        return [self._heard(answer) for answer in await requester.ask_all(commands, timeout=timeout)]

    def _heard(self, answer: Answer) -> Answer:
        if isinstance(answer, LedgerError):
            return answer
        event = answer.event
        if event.sequence >= 0:  # neither a dry run nor a refusal that passes
            self._hear(answer.partition, event.sequence)
            for entry in event.entries if isinstance(event, BatchPosted) else ():
                self._hear(entry.partition, entry.sequence)
        return from_event(event) if isinstance(event, CommandRejected | BatchRejected) else answer

    def _hear(self, partition: int, sequence: int) -> None:
        self._told[partition] = max(self._told.get(partition, 0), sequence)

    def told(self, account_id: str | None = None) -> dict[int, int]:
        """Return the last sequence that this engine was told of each partition, or of that of an account.

        Raises:
            InvalidAccountId: no account can have this id.
        """
        if account_id is not None and (fault := check_account_id(account_id)):
            raise fault
        if account_id is None or self._requester is None:
            return dict(self._told)
        partition = partition_of(account_id, self._requester.partition_count)
        return {partition: self._told[partition]} if partition in self._told else {}

    @property
    def read_model(self) -> ReadModel:
        """The read model; it connects when it is asked something."""
        self._check_open()
        if self._reader is None:
            self._reader = self._wiring.read_model()
        return self._reader

    @property
    def history(self) -> History:
        """The snapshots of the read model."""
        return History(self.read_model)

    @property
    def proofs(self) -> ProofReader:
        """What answers questions to the trees and checkpoints."""
        return self._wiring.proofs(self.read_model)

    @property
    def verifiers(self) -> Sequence[Verifier]:
        """Every verifier key that the ledger ever had, as far as it is known here."""
        return self._wiring.verifiers()

    async def receipt(self, entry_id: str, timeout: float) -> Receipt:
        """Return the receipt of an entry; raises as `partita.receipting.Receipts.of`."""
        deadline, reader = time.monotonic() + timeout, self.read_model
        receipts = await asyncio.to_thread(self._wiring.receipts, reader)
        return await receipts.of(entry_id, deadline)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the engine is closed")

    async def _connected(self) -> Requester:
        """Return the requester. Calls that come while it connects share the attempt, and its failure."""
        self._check_open()
        if self._requester is not None and not self._requester.broken:
            return self._requester
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
        requester = await asyncio.shield(self._connecting)  # a call that is cancelled doesn't end it for the others
        self._check_open()
        return requester

    async def _connect(self) -> Requester:
        if self._requester is not None:
            await self._requester.close()
        requester = await asyncio.to_thread(self._wiring.requester)
        await requester.start()
        self._requester = requester
        return requester
