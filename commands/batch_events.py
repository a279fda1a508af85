"""The events that end a batch, whoever decided it: they are its answers too."""

from collections.abc import Sequence
from typing import Any

from commands.promises import Refusal
from commands.rejections import details_of
from commands.types import TryBatch
from events.batch import Flight
from events.types import BatchPosted, BatchRejected, BatchResult, EntryResult

Head = tuple[int, int, int, str, int, bytes]
"""The first fields of a batch's event: sequence, writer epoch, recorded_at, batch id, command offset, hash."""


def posted(head: Head, batch: Flight | TryBatch, results: Sequence[EntryResult]) -> BatchPosted:
    """Return the event of a batch that is posted; `results` are those of its entries, in their order."""
    entries = [
        BatchResult(
            entry.partition,
            result.sequence,
            result.version,
            result.running_balance,
            entry.account_id,
            entry.entry_type,
            entry.amount,
            entry.asset,
            entry.reference,
            entry.metadata,
            entry.effective_at,
        )
        for entry, result in zip(batch.entries, results, strict=True)
    ]
    return BatchPosted(*head, entries, batch.reference, batch.metadata, batch.reversal_of)


def rejected(head: Head, kind: type[Any], refused: Refusal, reversal_of: str | None) -> BatchRejected:
    """Return the event of a batch that is refused; `kind` is the type of the command."""
    leg, fault = refused
    return BatchRejected(*head, kind.__name__, fault.code, fault.message, details_of(fault), leg, reversal_of)
