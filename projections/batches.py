"""Batches, as rows: of each step in their own partitions, and of the batch as it is after them. Pure.

A stretch of the log may have the first steps of a batch, or the last. So what makes a row anew is told apart from
what goes on from the row that there is.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple, assert_never

from events.money import to_text
from events.types import (
    BatchCommitted,
    BatchPosted,
    BatchRejected,
    BatchReserved,
    BatchSettled,
    BatchStarted,
    PlacedEntry,
    entry_id,
)
from projections.records import BatchStatus
from projections.times import timestamp

Step = BatchStarted | BatchReserved | BatchCommitted | BatchSettled | BatchPosted
"""An event of a batch in its own partition that is no rejection."""

STEP_COLUMNS: Final = (
    "partition",
    "sequence",
    "batch_id",
    "step",
    "entries",
    "reversal_of",
    "reference",
    "metadata",
    "details",
    "recorded_at",
    "writer_epoch",
)

OF_THE_COMMAND: Final = frozenset({"IdempotencyConflict", "WrongPartition"})
"""Rejections that say nothing of the batch with that id: it is another one, or its own partition is another."""


class Whole(NamedTuple):
    """All of a batch's row."""

    batch_id: str
    status: BatchStatus
    command_type: str
    reversal_of: str | None
    entries: int | None
    reference: str | None
    metadata: str | None
    code: str | None
    message: str | None
    details: str | None
    leg: int | None
    partition: int
    sequence: int
    started_at: datetime
    ended_at: datetime | None


class Committed(NamedTuple):
    """What replaces a part of the row of a batch that is decided."""

    batch_id: str
    partition: int
    sequence: int


class Refused(NamedTuple):
    """What replaces a part of the row of a batch that ends so; or makes one, if it was refused at once."""

    batch_id: str
    command_type: str
    reversal_of: str | None
    code: str
    message: str
    details: str
    leg: int | None
    partition: int
    sequence: int
    ended_at: datetime


@dataclass(slots=True)
class Batches:
    """What a stretch of the log does to batches, event by event; of each batch, what it is at the end.

    A batch is in one of `whole`, `committed` and `refused`: the others go on from what was before the stretch.
    """

    steps: list[tuple[Any, ...]] = field(default_factory=list)
    whole: dict[str, Whole] = field(default_factory=dict)
    committed: dict[str, Committed] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)

    def take(self, partition: int, event: Step) -> None:
        """Add the rows of one step."""
        self.steps.append(_step_row(partition, event))
        match event:
            case BatchStarted():
                self._tell(_whole(partition, event, BatchStatus.PENDING, None))
            case BatchCommitted():
                self._commit(Committed(event.command_id, partition, event.sequence))
            case BatchPosted():
                self._tell(_whole(partition, event, BatchStatus.POSTED, timestamp(event.recorded_at)))
            case BatchReserved() | BatchSettled():
                pass
            case _ as unreachable:
                assert_never(unreachable)

    def reject(self, partition: int, event: BatchRejected) -> None:
        """Add the end of a batch, unless the rejection is that of a command that only has its id."""
        if event.code in OF_THE_COMMAND:
            return
        refused = Refused(
            event.command_id,
            event.command_type,
            event.reversal_of,
            event.code,
            event.message,
            json.dumps(dict(event.details), sort_keys=True, ensure_ascii=False),
            event.leg,
            partition,
            event.sequence,
            timestamp(event.recorded_at),
        )
        before = self.whole.get(refused.batch_id)
        if before is not None and before.ended_at is None:
            self._tell(before._replace(status=BatchStatus.REJECTED, **refused._asdict()))
        elif before is not None or refused.batch_id in self.refused:  # that one was over: this was refused at once
            self._tell(_refused_at_once(refused))
        else:
            self.committed.pop(refused.batch_id, None)
            self.refused[refused.batch_id] = refused

    def _commit(self, committed: Committed) -> None:
        if (before := self.whole.get(committed.batch_id)) is not None:
            self._tell(before._replace(status=BatchStatus.COMMITTED, sequence=committed.sequence))
        else:
            self.committed[committed.batch_id] = committed

    def _tell(self, whole: Whole) -> None:
        """Replace all that the stretch has told of the batch before, but when it was first heard of."""
        batch_id, first = whole.batch_id, whole.started_at
        if (before := self.whole.get(batch_id)) is not None:
            first = min(first, before.started_at)
        if (refused := self.refused.pop(batch_id, None)) is not None:
            first = min(first, refused.ended_at)
        self.committed.pop(batch_id, None)
        self.whole[batch_id] = whole._replace(started_at=first)


def _whole(
    partition: int, event: BatchStarted | BatchPosted, status: BatchStatus, ended_at: datetime | None
) -> Whole:
    return Whole(
        batch_id=event.command_id,
        status=status,
        command_type="PostBatch" if event.reversal_of is None else "ReverseBatch",
        reversal_of=event.reversal_of,
        entries=len(event.entries),
        reference=event.reference,
        metadata=event.metadata,
        code=None,
        message=None,
        details=None,
        leg=None,
        partition=partition,
        sequence=event.sequence,
        started_at=timestamp(event.recorded_at),
        ended_at=ended_at,
    )


def _refused_at_once(refused: Refused) -> Whole:
    return Whole(
        status=BatchStatus.REJECTED,
        entries=None,
        reference=None,
        metadata=None,
        started_at=refused.ended_at,
        **refused._asdict(),
    )


def _step_row(partition: int, event: Step) -> tuple[Any, ...]:
    return (
        partition,
        event.sequence,
        event.command_id,
        type(event).__name__,
        *_told(event),
        timestamp(event.recorded_at),
        event.writer_epoch,
    )


def _told(event: Step) -> tuple[Any, ...]:
    """Return what the step says, from `entries` to `details`."""
    match event:
        case BatchStarted():
            details = _details(entries=[_asked(entry) for entry in event.entries], forced=event.forced)
            return len(event.entries), event.reversal_of, event.reference, event.metadata, details
        case BatchPosted():
            details = _details(entries=[entry_id(entry.partition, entry.sequence) for entry in event.entries])
            return len(event.entries), event.reversal_of, event.reference, event.metadata, details
        case BatchReserved():
            return None, None, None, None, _details(partition=event.partition)
        case BatchSettled():
            posted = [entry_id(event.partition, entry.sequence) for entry in event.entries]
            return None, None, None, None, _details(partition=event.partition, entries=posted)
        case BatchCommitted():
            return None, None, None, None, _details()
        case _ as unreachable:
            assert_never(unreachable)


def _asked(entry: PlacedEntry) -> dict[str, object]:
    """Return an entry as it was asked for, without what only its own row has."""
    return {
        "leg": entry.leg,
        "partition": entry.partition,
        "account_id": entry.account_id,
        "entry_type": entry.entry_type,
        "amount": to_text(entry.amount),
        "asset": entry.asset,
    }


def _details(**told: object) -> str:
    return json.dumps(told, sort_keys=True, ensure_ascii=False)
