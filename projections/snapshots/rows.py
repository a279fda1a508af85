"""Events to what they add to the snapshots' tables. Pure.

An entry counts from two times, each on a clock of its own. On the *recorded* clock it is when it was recorded; of a
batch, when the last of its entries was, so that it is there as a whole or not at all. On the *effective* clock it is
the time that the requester gave, or else that of the recorded clock. (A time that is the entry's own to the
microsecond is taken for one that was not given, since the table `entries` has both alike.)
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from events.follow import StoredEvent
from events.money import SCALE, to_scaled
from events.types import (
    AccountOpened,
    BatchEntryPosted,
    Entry,
    EntryPosted,
    EntryReleased,
    EntryReserved,
    EntryType,
    HoldPlaced,
    HoldReleased,
    HoldSettled,
)
from projections.changes import Row
from projections.rows import escaped
from projections.snapshots.periods import periods_of
from projections.times import clipped, copied

BALANCE_COLUMNS: Final = ("account_id", "asset", "recorded_at", "version", "balance")

Balance = tuple[str, str]
"""An account and an asset."""


class Added(NamedTuple):
    """What a stretch of the log adds.

    `balances` are lines of COPY, in the order of `BALANCE_COLUMNS`; `accounts` are those that had entries, by asset.
    `corrections` and `totals` are to be added to what is there, and are in the order of their tables' columns.
    """

    balances: list[str]
    accounts: list[Balance]
    floorless: list[str]
    corrections: list[Row]
    totals: list[Row]


@dataclass(slots=True)
class _Sums:
    """Sums in units by key and moment, until they are spread over periods."""

    width: int
    by_moment: dict[tuple[str, str | bool, int], list[int]] = field(default_factory=dict)

    def add(self, first: str, second: str | bool, micros: int, column: int, units: int) -> None:
        key = (first, second, micros)
        sums = self.by_moment.get(key)
        if sums is None:
            sums = self.by_moment[key] = [0] * self.width
        sums[column] += units

    def rows(self) -> list[Row]:
        """Return, sorted: level, the two parts of the key, bucket, and the sums."""
        spread: defaultdict[Row, list[int]] = defaultdict(lambda: [0] * self.width)
        for (first, second, micros), sums in self.by_moment.items():
            for level, bucket in periods_of(micros):
                into = spread[level, first, second, bucket]
                for column, units in enumerate(sums):
                    into[column] += units
        return [(*key, *map(to_scaled, sums)) for key, sums in sorted(spread.items()) if any(sums)]


RECORDED, EFFECTIVE = 0, 1
"""Columns of the corrections."""
CREDITS, DEBITS, EFFECTIVE_CREDITS, EFFECTIVE_DEBITS, HELD, IN_FLIGHT = range(6)
"""Columns of the totals."""


@dataclass(slots=True)
class _Stretch:
    floorless: frozenset[str]
    batches: dict[str, int]
    """When each batch counts from."""
    balances: list[str] = field(default_factory=list)
    accounts: set[Balance] = field(default_factory=set)
    corrections: _Sums = field(default_factory=lambda: _Sums(2))
    totals: _Sums = field(default_factory=lambda: _Sums(6))

    def post(self, event: Entry) -> None:
        account, asset, recorded = event.account_id, event.asset, event.recorded_at
        counted = self.batches[event.batch_id] if isinstance(event, BatchEntryPosted) else recorded
        given = event.effective_at
        effective = counted if given is None or given == recorded else clipped(given)
        self.balances.append(_balance_line(event))
        self.accounts.add((account, asset))
        for column, counts_from in ((RECORDED, counted), (EFFECTIVE, effective)):
            if counts_from != recorded:
                self.corrections.add(account, asset, recorded, column, -event.change)
                self.corrections.add(account, asset, counts_from, column, event.change)
        side = CREDITS if event.entry_type is EntryType.CREDIT else DEBITS
        floorless = account in self.floorless
        self.totals.add(asset, floorless, counted, side, event.amount)
        self.totals.add(asset, floorless, effective, side + EFFECTIVE_CREDITS, event.amount)
        if isinstance(event, HoldSettled):
            self.totals.add(asset, floorless, counted, HELD, -event.amount)
        elif isinstance(event, BatchEntryPosted) and event.reserved and event.entry_type is EntryType.DEBIT:
            self.totals.add(asset, floorless, counted, IN_FLIGHT, -event.amount)

    def reserve(self, event: HoldPlaced | HoldReleased | EntryReserved | EntryReleased) -> None:
        """Count what is reserved of balances; a credit that is promised reserves nothing."""
        units = event.amount if isinstance(event, HoldPlaced | EntryReserved) else -event.amount
        if isinstance(event, HoldPlaced | HoldReleased):
            column = HELD
        elif event.entry_type is EntryType.DEBIT:
            column = IN_FLIGHT
        else:
            return
        self.totals.add(event.asset, event.account_id in self.floorless, event.recorded_at, column, units)


def opened_floorless(events: Iterable[StoredEvent]) -> list[str]:
    """Return the accounts that `events` open without a floor, sorted."""
    opened = (stored.event for stored in events if isinstance(stored.event, AccountOpened))
    return sorted(event.account_id for event in opened if event.floor is None)


def accounts_of(events: Iterable[StoredEvent]) -> list[str]:
    """Return the accounts whose money `events` move or reserve, sorted."""
    return sorted({stored.event.account_id for stored in events if isinstance(stored.event, _MONEY)})


_RESERVING: Final = (HoldPlaced, HoldReleased, EntryReserved, EntryReleased)
_MONEY: Final = (EntryPosted, HoldSettled, BatchEntryPosted, *_RESERVING)


def added_by(events: Sequence[StoredEvent], floorless: Iterable[str]) -> Added:
    """Return what `events` add, in which a batch has all its entries.

    `floorless` are accounts without a floor, among them every one of those that are told in `events`.

    Raises:
        OverflowError: an event was recorded outside the years 1 to 9999.
    """
    stretch = _Stretch(frozenset(floorless), _when_batches_count(events))
    for stored in events:
        event = stored.event
        if isinstance(event, EntryPosted | HoldSettled | BatchEntryPosted):
            stretch.post(event)
        elif isinstance(event, _RESERVING):
            stretch.reserve(event)
    return Added(
        balances=stretch.balances,
        accounts=sorted(stretch.accounts),
        floorless=opened_floorless(events),
        corrections=[(account, asset, level, *rest) for level, account, asset, *rest in stretch.corrections.rows()],
        totals=stretch.totals.rows(),
    )


def _when_batches_count(events: Iterable[StoredEvent]) -> dict[str, int]:
    times: dict[str, int] = {}
    for stored in events:
        if isinstance(event := stored.event, BatchEntryPosted):
            times[event.batch_id] = max(event.recorded_at, times.get(event.batch_id, event.recorded_at))
    return times


def _balance_line(event: Entry) -> str:
    account, asset = escaped(event.account_id), escaped(event.asset)
    balance = f"{event.running_balance}e-{SCALE}"
    return f"{account}\t{asset}\t{copied(event.recorded_at)}\t{event.version}\t{balance}\n"
