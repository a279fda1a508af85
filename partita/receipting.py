"""Making receipts: the checkpoint and the proof from the read side, the event's bytes from the log.

What else there is to show goes with it: that the event is in immudb, and that a checkpoint with it was anchored on a
chain; then the receipt is for that checkpoint. It is verified before it is handed out, by what its holder verifies it
with.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from events.checkpoint import KeyInvalid, Verifier, read, verify
from events.clients import KafkaClients
from events.codec import EventCodec
from events.errors import LedgerError
from events.follow import find_event
from events.merkle import leaf_hash
from events.types import BatchEntryPosted, EntryPosted, HoldSettled, entry_id
from partita.receipts import Receipt, entry_shown, verify_receipt
from partita.results import entry_at
from projections.errors import EntryNotFound, TreeDamaged
from projections.proofs.following import CHECKPOINTS
from projections.proofs.projection import PROOFS
from projections.proofs.queries import CheckpointRow, ProofReader
from reconciler.anchors import Anchor

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5
_MOST_DIGITS: Final = 9, 18


class ReceiptNotReady(LedgerError):
    """No checkpoint with the entry has come to the read side in time. The entry itself is safe in the log.

    `reached` is how many events the newest checkpoint has, or None.
    """

    retriable = True

    def __init__(self, wanted: str, *, reached: int | None, waited: float, halted: str | None) -> None:
        why = f"the checkpoints have stopped: {halted}" if halted else f"waited {waited:.1f} s"
        super().__init__(
            f"there is no receipt of {wanted} yet: the newest checkpoint there has {reached or 0} events; {why}",
            entry_id=wanted,
            reached=reached,
            waited=waited,
            halted=halted,
        )


Anchored = Callable[[int, int], Awaitable[Anchor | None]]
"""Gives the oldest anchor of a tree of a partition that has the event at a sequence."""
Mirrored = Callable[[int, int], Mapping[str, Any] | None]
"""Gives what shows that immudb has the event at a sequence of a partition; it blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipts:
    """Makes the receipts of one ledger, whose events are on `topic`; `verifiers` are its keys, as far as known.

    `mirrored` is None where no immudb is configured.
    """

    proofs: ProofReader
    clients: KafkaClients
    topic: str
    codec: EventCodec
    verifiers: Sequence[Verifier]
    anchored: Anchored
    mirrored: Mirrored | None = None

    async def of(self, wanted: str, deadline: float) -> Receipt:
        """Return the receipt of the entry with this id, by `deadline` on the monotonic clock.

        Raises:
            EntryNotFound: no entry has this id.
            ReceiptNotReady: the read side has not come so far.
            TreeDamaged: what the read side has is not the log.
            KeyInvalid, CheckpointInvalid: the verifier key of the checkpoint is not known here.
            ImmudbTampered, ImmudbUnavailable, TrustedStateInvalid: what immudb shows can't be believed.
            BrokerUnavailable, ReadModelUnavailable: not reached.
        """
        partition, index = place_of(wanted)
        newest = await self._covering(wanted, partition, index, deadline)
        anchor = await self.anchored(partition, index)
        note = newest.note if anchor is None else anchor.checkpoint
        checkpoint, key = read(note), self._key(newest, note)
        shown = await self.proofs.inclusion(partition, index, checkpoint.size)
        patience = max(deadline - time.monotonic(), 1.0)
        stored = await asyncio.to_thread(
            find_event, self.clients, self.topic, self.codec, (partition, shown.first_offset), index, timeout=patience
        )
        if leaf_hash(stored.data) != shown.leaf:
            raise TreeDamaged(f"partition {partition}: the tiles have another event {index}", partition=partition)
        if not isinstance(stored.event, EntryPosted | HoldSettled | BatchEntryPosted):
            raise EntryNotFound(wanted)
        copy = None if self.mirrored is None else await asyncio.to_thread(self.mirrored, partition, index)
        receipt = Receipt(
            entry=entry_shown(entry_at(partition, stored.event)),
            leaf=stored.data,
            leaf_index=index,
            tree_size=checkpoint.size,
            root=checkpoint.root,
            inclusion_proof=shown.proof,
            checkpoint=note,
            public_key=str(key),
            immudb=copy,
            anchor=None if anchor is None else anchor.to_dict(),
        )
        verify_receipt(receipt, [key])
        return receipt

    async def _covering(self, wanted: str, partition: int, index: int, deadline: float) -> CheckpointRow:
        """Return the newest checkpoint once its tree has the leaf."""
        begun, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            newest = await self.proofs.newest_of(partition)
            if newest is not None and newest.tree_size > index:
                return newest
            trees = await self.proofs.reader.positions(PROOFS)
            if trees and partition not in trees:
                raise EntryNotFound(wanted)
            rows = trees.get(partition), (await self.proofs.reader.positions(CHECKPOINTS)).get(partition)
            halted = next((row.halted for row in rows if row is not None and row.halted), None)
            now = time.monotonic()
            if halted or now + pause > deadline:
                reached = None if newest is None else newest.tree_size
                raise ReceiptNotReady(wanted, reached=reached, waited=now - begun, halted=halted)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _key(self, newest: CheckpointRow, note: str) -> Verifier:
        """Return the key that has signed the note: one that is known here, or that of the newest checkpoint."""
        known = [Verifier.parse(newest.public_key)] if newest.public_key is not None else []
        if not (keys := [*known, *self.verifiers]):
            raise KeyInvalid("no verifier key of the ledger is known here: give it the file of them", given=0)
        return verify(note, keys)[1]


def place_of(wanted: str) -> tuple[int, int]:
    """Return the partition and the sequence in an entry's id; raises `EntryNotFound` when it is none."""
    parts = wanted.split("-")
    if len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts):
        partition, index = (int(part[:digits]) for part, digits in zip(parts, _MOST_DIGITS, strict=True))
        if entry_id(partition, index) == wanted:
            return partition, index
    raise EntryNotFound(wanted)
