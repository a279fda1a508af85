"""Events to rows: what a stretch of the log adds to the tables. Pure.

An entry is a line of PostgreSQL's COPY text format, since entries are many and this takes a third of the time of
values that a driver encodes; the others are tuples of values. Both are in the order of the `*_COLUMNS`. Amounts
and times stay exact.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from events.follow import StoredEvent
from events.money import SCALE, to_scaled
from events.types import (
    BatchCommitted,
    BatchEntryPosted,
    BatchPosted,
    BatchRejected,
    BatchReserved,
    BatchSettled,
    BatchStarted,
    CommandRejected,
    Entry,
    EntryPosted,
    EntryType,
    Event,
    HoldEvent,
    HoldSettled,
    PartitionOpened,
    Promise,
)
from projections.batches import Batches
from projections.changes import Change, Lives, Row, holds_funds
from projections.times import clipped, copied, timestamp

ENTRY_COLUMNS: Final = (
    "entry_id",
    "partition",
    "sequence",
    "account_id",
    "version",
    "entry_type",
    "amount",
    "asset",
    "running_balance",
    "command_id",
    "reference",
    "metadata",
    "effective_at",
    "recorded_at",
    "writer_epoch",
    "hold_id",
    "batch_id",
    "leg",
    "legs",
    "forced",
)
BALANCE_COLUMNS: Final = ("account_id", "asset", "balance", "version", "partition", "sequence", "updated_at")
HELD_COLUMNS: Final = ("account_id", "asset", "held")
REJECTION_COLUMNS: Final = (
    "partition",
    "sequence",
    "command_id",
    "account_id",
    "command_type",
    "code",
    "message",
    "details",
    "recorded_at",
    "leg",
    "reversal_of",
)

NULL: Final = "\\N"
"""What stands for NULL in COPY's text format; in a text it would be escaped."""
_PLAIN: Final = "\t".join([NULL] * 5)
"""The last columns of an entry that settles no hold and is in no batch."""


_Funds = Entry | HoldEvent | Promise


class Rows(NamedTuple):
    """What a stretch of the log adds: rows to append and rows to replace.

    To append: `entries`, `rejections`, `changes`, `steps` of batches, `accounts`, `holds`. To replace, once they are
    there: `balances` and what is `held` of them, the `statuses` of accounts, what is `taken` of holds. To replace, or
    to append where they are not there: `batches`. Those that were only `committed` or `refused` in this stretch are
    replaced in part.
    """

    entries: list[str]
    rejections: list[Row]
    changes: list[Row]
    steps: list[Row]
    accounts: list[Row]
    holds: list[Row]
    balances: list[Row]
    held: list[Row]
    statuses: list[Row]
    taken: list[Row]
    batches: list[Row]
    committed: list[Row]
    refused: list[Row]


@dataclass(slots=True)
class _Stretch:
    """What the events of a stretch add, one by one. `funds` is the last event of each account and asset."""

    entries: list[str] = field(default_factory=list)
    rejections: list[Row] = field(default_factory=list)
    funds: dict[tuple[str, str], tuple[int, _Funds]] = field(default_factory=dict)
    lives: Lives = field(default_factory=Lives)
    batches: Batches = field(default_factory=Batches)

    def post(self, partition: int, event: EntryPosted) -> None:
        self.entries.append(_entry_line(partition, event))
        self.funds[event.account_id, event.asset] = partition, event

    def take(self, partition: int, event: Event) -> None:
        """Add what any event but the most frequent adds."""
        match event:
            case PartitionOpened():
                pass
            case CommandRejected():
                self.rejections.append(_rejection_row(partition, event))
            case BatchRejected():
                self.rejections.append(_rejection_row(partition, event))
                self.batches.reject(partition, event)
            case BatchStarted() | BatchReserved() | BatchCommitted() | BatchSettled() | BatchPosted():
                self.batches.take(partition, event)
            case EntryPosted():
                self.post(partition, event)
            case BatchEntryPosted():
                self._post_of_batch(partition, event)
            case _:
                self._change(partition, event)

    def _post_of_batch(self, partition: int, event: BatchEntryPosted) -> None:
        self.entries.append(_entry_line(partition, _as_entry(event), _of_batch(event)))
        self.funds[event.account_id, event.asset] = partition, event
        if event.reserved and event.entry_type is EntryType.DEBIT:
            self.lives.held[event.account_id, event.asset] = event.held

    def _change(self, partition: int, event: Change | HoldSettled) -> None:
        if isinstance(event, HoldSettled):
            self.entries.append(_entry_line(partition, _as_entry(event), _of_hold(event)))
        if isinstance(event, HoldEvent) or holds_funds(event):
            self.funds[event.account_id, event.asset] = partition, event
        self.lives.take(partition, event)


def rows_of(events: Sequence[StoredEvent]) -> Rows:
    """Return what `events` add; each partition's events are contiguous and in order.

    Raises:
        OverflowError: an event was recorded outside the years 1 to 9999.
    """
    stretch = _Stretch()
    for stored in events:
        event, partition = stored.event, stored.partition
        if isinstance(event, EntryPosted):  # nearly all
            stretch.post(partition, event)
        else:
            stretch.take(partition, event)
    lives, batches = stretch.lives, stretch.batches
    return Rows(
        entries=stretch.entries,
        rejections=stretch.rejections,
        changes=lives.changes,
        steps=batches.steps,
        accounts=lives.accounts,
        holds=lives.holds,
        balances=[_balance_row(partition, event) for partition, event in stretch.funds.values()],
        held=[(*key, to_scaled(units)) for key, units in lives.held.items()],
        statuses=list(lives.statuses.values()),
        taken=list(lives.taken.values()),
        batches=list(batches.whole.values()),
        committed=list(batches.committed.values()),
        refused=list(batches.refused.values()),
    )


def _as_entry(event: HoldSettled | BatchEntryPosted) -> EntryPosted:
    """Return the entry that settling a hold is, or that of a batch, without the hold or the batch."""
    texts = event.reference, event.metadata, event.effective_at
    return EntryPosted(*event[:8], event.entry_type, event.amount, event.asset, event.running_balance, *texts)


def _of_hold(event: HoldSettled) -> str:
    return "\t".join([escaped(event.hold_id), NULL, NULL, NULL, NULL])


def _of_batch(event: BatchEntryPosted) -> str:
    forced = "t" if event.forced else "f"
    return "\t".join([NULL, escaped(event.batch_id), str(event.leg), str(event.legs), forced])


def _entry_line(partition: int, event: EntryPosted, last: str = _PLAIN) -> str:
    """Return one line; `last` are its columns from `hold_id` on.

    The entry's id is `events.types.entry_id`, written out because this is the hot path.
    """
    (
        sequence,
        epoch,
        recorded,
        command,
        _,
        _,
        account,
        version,
        kind,
        amount,
        asset,
        balance,
        reference,
        metadata,
        _,
    ) = event
    if not (free := f"{account}{asset}{command}{reference}").isprintable() or "\\" in free:
        account, asset, command = escaped(account), escaped(asset), escaped(command)
        reference = None if reference is None else escaped(reference)
    recorded_at = copied(recorded)
    return (
        f"{partition}-{sequence}\t{partition}\t{sequence}\t{account}\t{version}\t{kind}\t{amount}e-{SCALE}\t{asset}\t"
        f"{balance}e-{SCALE}\t{command}\t{NULL if reference is None else reference}\t"
        f"{NULL if metadata is None else escaped(metadata)}\t"
        f"{recorded_at if event.effective_at is None else copied(clipped(event.effective_at))}\t"
        f"{recorded_at}\t{epoch}\t{last}\n"
    )


def escaped(text: str) -> str:
    """Return `text` so that COPY reads it back as it is."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _balance_row(partition: int, event: _Funds) -> Row:
    units = event.running_balance if isinstance(event, Entry) else event.balance
    recorded_at = timestamp(event.recorded_at)
    return event.account_id, event.asset, to_scaled(units), event.version, partition, event.sequence, recorded_at


def _rejection_row(partition: int, event: CommandRejected | BatchRejected) -> Row:
    """Return the row of a command on an account, or of one on a batch, which is of no account."""
    if isinstance(event, BatchRejected):
        account_id, leg, reversal_of = None, event.leg, event.reversal_of
    else:
        account_id, leg, reversal_of = event.account_id, None, None
    return (
        partition,
        event.sequence,
        event.command_id,
        account_id,
        event.command_type,
        event.code,
        event.message,
        json.dumps(dict(event.details), sort_keys=True, ensure_ascii=False),
        timestamp(event.recorded_at),
        leg,
        reversal_of,
    )
