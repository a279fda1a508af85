"""Events to rows: what a stretch of the log adds to the tables. Pure.

An entry is a line of PostgreSQL's COPY text format, since entries are many and this takes a third of the time of
values that a driver encodes; the others are tuples of values. Both are in the order of the `*_COLUMNS`. Amounts
and times stay exact.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple, assert_never

from events.follow import StoredEvent
from events.money import SCALE, to_scaled
from events.types import CommandRejected, EntryPosted, PartitionOpened

Row = tuple[Any, ...]

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
)
BALANCE_COLUMNS: Final = ("account_id", "asset", "balance", "version", "partition", "sequence", "updated_at")
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
)

NULL: Final = "\\N"
"""What stands for NULL in COPY's text format; in a text it would be escaped."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
EARLIEST: Final = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
LATEST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


class Advance(NamedTuple):
    """How far one partition has been read after a stretch of events. `recorded_at` is that of its last event."""

    partition: int
    next_offset: int
    next_sequence: int
    writer_epoch: int
    recorded_at: datetime


class Rows(NamedTuple):
    """What a stretch of the log adds: rows to append, balances to replace, and positions to move to."""

    entries: list[str]
    balances: list[Row]
    rejections: list[Row]
    advances: list[Advance]


def rows_of(events: Sequence[StoredEvent]) -> Rows:
    """Return what `events` add; each partition's events are contiguous and in order.

    Raises:
        OverflowError: an event was recorded outside the years 1 to 9999.
    """
    entries: list[str] = []
    rejections: list[Row] = []
    last_entry: dict[tuple[str, str], tuple[int, EntryPosted]] = {}
    last: dict[int, StoredEvent] = {}
    for stored in events:
        event, partition = stored.event, stored.partition
        last[partition] = stored
        match event:
            case EntryPosted():
                entries.append(_entry_line(partition, event))
                last_entry[event.account_id, event.asset] = partition, event
            case CommandRejected():
                rejections.append(_rejection_row(partition, event))
            case PartitionOpened():
                pass
            case _ as unreachable:
                assert_never(unreachable)
    balances = [_balance_row(partition, entry) for partition, entry in last_entry.values()]
    return Rows(entries, balances, rejections, [_advance(stored) for stored in last.values()])


def timestamp(micros: int) -> datetime:
    """Return the aware datetime of `micros` microseconds since 1970, exactly.

    Raises:
        OverflowError: outside the years 1 to 9999.
    """
    return _EPOCH + timedelta(0, 0, micros)


def _entry_line(partition: int, event: EntryPosted) -> str:
    """Return one line; the id is `events.types.entry_id`, written out because this is the hot path."""
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
    recorded_at = _time(recorded)
    return (
        f"{partition}-{sequence}\t{partition}\t{sequence}\t{account}\t{version}\t{kind}\t{amount}e-{SCALE}\t{asset}\t"
        f"{balance}e-{SCALE}\t{command}\t{NULL if reference is None else reference}\t"
        f"{NULL if metadata is None else escaped(metadata)}\t"
        f"{recorded_at if event.effective_at is None else _effective(event.effective_at)}\t{recorded_at}\t{epoch}\n"
    )


def escaped(text: str) -> str:
    """Return `text` so that COPY reads it back as it is."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _time(micros: int) -> str:
    """Return `micros` microseconds since 1970 as PostgreSQL reads it; raises OverflowError as `timestamp`."""
    seconds, rest = divmod(micros, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}+00"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(0, seconds)).isoformat()[:19]


def _effective(micros: int) -> str:
    """Return an effective time as `_time`; beyond the years 1 to 9999 it becomes their first or last instant.

    A requester chooses it, so it must not be able to stop the projection; the log keeps what was given.
    """
    return _time(min(max(micros, EARLIEST), LATEST))


def _balance_row(partition: int, event: EntryPosted) -> Row:
    balance = to_scaled(event.running_balance)
    recorded_at = timestamp(event.recorded_at)
    return event.account_id, event.asset, balance, event.version, partition, event.sequence, recorded_at


def _rejection_row(partition: int, event: CommandRejected) -> Row:
    return (
        partition,
        event.sequence,
        event.command_id,
        event.account_id,
        event.command_type,
        event.code,
        event.message,
        json.dumps(dict(event.details), sort_keys=True, ensure_ascii=False),
        timestamp(event.recorded_at),
    )


def _advance(stored: StoredEvent) -> Advance:
    event = stored.event
    return Advance(
        stored.partition,
        stored.offset + 1,
        event.sequence + 1,
        event.writer_epoch,
        timestamp(event.recorded_at),
    )
