"""Balances at any time are the fold of what counted by then, on both clocks, whatever happened."""

import asyncio
import itertools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.follow import StoredEvent
from events.money import to_units
from events.partitioner import partition_of
from events.types import BatchEntryPosted, EntryReleased, EntryReserved, EntryType, Event
from projections.balances import Balances
from projections.checks import check_all
from projections.database import Database
from projections.errors import InvalidCursor, InvalidPointInTime
from projections.migrate import upgrade
from projections.queries import ReadModel
from projections.snapshots.periods import LEVELS, periods_of, spans_to
from projections.snapshots.projection import Snapshots
from projections.snapshots.queries import Clock, History
from projections.store import Store
from tests.projections.log import NOON, Writer
from tests.support.stack import Stack

PARTITIONS = 2
STEPS = (0, 1, 700, 1024, 1_000_000, 90_000_000_000, 10**14)
"""By which recorded time goes on, in microseconds: from nothing to three years."""
FIRST, LAST = (-62_135_596_800_000_000, 253_402_300_799_999_999)
TIMES = st.integers(FIRST, LAST)


@given(TIMES, TIMES)
def test_every_moment_up_to_a_time_is_in_one_period_and_none_after_it(moment: int, time: int) -> None:
    spans = spans_to(time)
    within = [
        period
        for period in periods_of(moment)
        for span in spans
        if span.level == period.level and span.first <= period.bucket <= span.last
    ]
    assert len(within) == (1 if moment <= time else 0)


@given(TIMES)
def test_a_sum_up_to_a_time_is_of_few_rows(time: int) -> None:
    assert sorted(span.level for span in spans_to(time)) == list(range(LEVELS))
    assert all(span.last - span.first < 1024 for span in spans_to(time) if span.level < LEVELS - 1)
    assert (LAST >> 50) - (FIRST >> 50) < 300


class Counted(NamedTuple):
    """An entry, and from when it counts on each clock."""

    account: str
    change: int
    recorded: int
    effective: int


class Move(NamedTuple):
    """Something that happens: `legs` are pairs of an account's number and units, more than one for a batch."""

    kind: str
    step: int
    legs: Sequence[tuple[int, int]]
    given: int | None


MOVES = st.builds(
    Move,
    st.sampled_from(["post", "post", "post", "late", "late", "batch", "promised", "refused", "hold"]),
    st.sampled_from(STEPS),
    st.lists(st.tuples(st.integers(0, 3), st.integers(-9, 9).filter(bool)), min_size=1, max_size=3),
    st.sampled_from((None, 0, -1, -(10**6), -(10**11), -(10**15), 10**6, 10**12)),
)


@dataclass
class Story:
    """A ledger of two partitions, whose accounts and asset are `name`'s own, and what its entries add up to."""

    name: str
    writer: Writer
    now: int
    counted: list[Counted] = field(default_factory=list)
    batch_id: str = ""
    holds: list[tuple[int, str, int]] = field(default_factory=list)
    """When something was reserved or set free; of holds or batches; how much."""
    stretches: list[list[tuple[int, Event]]] = field(default_factory=list)

    def account(self, number: int) -> str:
        """Return an account of the partition that its number says."""
        names = (f"{self.name}:{n}" for n in itertools.count())
        partition = number // 2
        own = (name for name in names if partition_of(name, PARTITIONS) == partition)
        return next(itertools.islice(own, number % 2, None))

    def open(self) -> None:
        world = self.account(0)
        self.stretches.append([self.writer.open_account(world, None, recorded_at=self.now)])

    def happen(self, move: Move) -> None:
        self.now += move.step
        events = getattr(self, f"_{move.kind}")(move)
        self.stretches.append(events)

    def _post(self, move: Move, effective: int | None = None) -> list[tuple[int, Event]]:
        number, units = move.legs[0]
        account = self.account(number)
        times = {"recorded_at": self.now, "effective_at": effective}
        made = self.writer.post(account, units, asset=self.name, **times)
        self.counted.append(Counted(account, units, self.now, self.now if effective is None else effective))
        return [made]

    def _late(self, move: Move) -> list[tuple[int, Event]]:
        return self._post(move, None if move.given is None else self.now + move.given)

    def _hold(self, move: Move) -> list[tuple[int, Event]]:
        number, units = move.legs[0]
        account, hold, amount = self.account(number), f"h-{len(self.holds)}", abs(units)
        effective = None if move.given is None else self.now + move.given
        events: list[tuple[int, Event]] = [
            self.writer.place(account, hold, amount + 1, asset=self.name, recorded_at=self.now)
        ]
        self.holds.append((self.now, "held", amount + 1))
        self.now += move.step
        events.append(
            self.writer.settle(
                account, hold, amount, 1, recorded_at=self.now, asset=self.name, effective_at=effective
            )
        )
        self.holds.append((self.now, "held", -amount))
        self.counted.append(Counted(account, -amount, self.now, self.now if effective is None else effective))
        self.now += move.step
        events.append(self.writer.release(account, hold, 1, asset=self.name, recorded_at=self.now))
        self.holds.append((self.now, "held", -1))
        return events

    def _batch(self, move: Move) -> list[tuple[int, Event]]:
        return self._entries(move, reserved=False)

    def _promised(self, move: Move) -> list[tuple[int, Event]]:
        return [*self._promises(move, EntryReserved), *self._entries(move, reserved=True)]

    def _refused(self, move: Move) -> list[tuple[int, Event]]:
        return [*self._promises(move, EntryReserved), *self._promises(move, EntryReleased)]

    def _promises(self, move: Move, kind: type[EntryReserved] | type[EntryReleased]) -> list[tuple[int, Event]]:
        events: list[tuple[int, Event]] = []
        batch_id, sign = f"{self.name}-{len(self.counted)}-{self.now}", 1 if kind is EntryReserved else -1
        batch_id = self.batch_id = batch_id if kind is EntryReserved else self.batch_id
        for leg, (number, units) in enumerate(move.legs):
            account, debit = self.account(number), units < 0
            key = account, self.name
            self.writer.held[key] = self.writer.held.get(key, 0) + (sign * abs(units) if debit else 0)
            told = {
                "batch_id": batch_id,
                "command_id": batch_id,
                "leg": leg,
                "legs": len(move.legs),
                "home": 0,
                "attempt": 1,
                "entry_type": EntryType.DEBIT if debit else EntryType.CREDIT,
                "amount": abs(units),
                "asset": self.name,
                "balance": self.writer.balances.get(key, 0),
                "held": self.writer.held[key],
                "forced": False,
                "recorded_at": self.now,
            }
            fields = {name: value for name, value in told.items() if name in kind._fields}
            events.append(self.writer.make(kind, account, **fields))
            if debit:
                self.holds.append((self.now, "in_flight", sign * abs(units)))
        self.now += move.step
        return events

    def _entries(self, move: Move, *, reserved: bool) -> list[tuple[int, Event]]:
        events: list[tuple[int, Event]] = []
        batch_id = self.batch_id if reserved else f"{self.name}-{len(self.counted)}-{self.now}"
        times = [self.now + nth * move.step for nth in range(len(move.legs))]
        given = None if move.given is None else self.now - 5 + move.given
        for leg, ((number, units), recorded) in enumerate(zip(move.legs, times, strict=True)):
            account, debit = self.account(number), units < 0
            key = account, self.name
            balance = self.writer.balances[key] = self.writer.balances.get(key, 0) + units
            held = self.writer.held.get(key, 0) - (abs(units) if reserved and debit else 0)
            self.writer.held[key] = held
            made = self.writer.make(
                BatchEntryPosted,
                account,
                batch_id=batch_id,
                command_id=batch_id,
                leg=leg,
                legs=len(move.legs),
                entry_type=EntryType.DEBIT if debit else EntryType.CREDIT,
                amount=abs(units),
                asset=self.name,
                running_balance=balance,
                held=held,
                recorded_at=recorded,
                effective_at=given,
                reserved=reserved,
                forced=False,
            )
            events.append(made)
            self.counted.append(Counted(account, units, times[-1], times[-1] if given is None else given))
            if reserved and debit:
                self.holds.append((times[-1], "in_flight", units))
        self.now = times[-1]
        return events

    def moments(self) -> list[int]:
        """Return all times at which something changes, and those beside them."""
        changes = {NOON, *(time for entry in self.counted for time in (entry.recorded, entry.effective))}
        changes |= {time for time, _, _ in self.holds}
        return sorted({time + beside for time in changes for beside in (-1, 0, 1)})


@dataclass
class Tables:
    """Both projections' tables, and where they are."""

    database: Database
    writer: Writer = field(default_factory=lambda: Writer(PARTITIONS))
    now: int = NOON

    async def begin(self) -> None:
        await upgrade(self.database)
        self.model = ReadModel(self.database)
        self.history = History(self.model)
        self.stores: list[Store[Any]] = [
            Store(self.database, Snapshots()),
            Store(self.database, Balances()),
        ]
        for store in self.stores:
            await store.open()
            await store.positions(PARTITIONS)
        await self.write(self.writer.opened())

    async def write(self, events: Sequence[tuple[int, Event]]) -> None:
        stored = [StoredEvent(partition, event.sequence, b"", event) for partition, event in events]
        first = {item.partition: item.offset for item in reversed(stored)}
        for store in self.stores:
            await store.write(stored, first)

    async def end(self) -> None:
        for store in self.stores:
            await store.close()
        await self.model.close()
        connection = await self.database.connect()
        await connection.execute(f"DROP SCHEMA {self.database.schema} CASCADE")
        await connection.close()


def at(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


async def is_told(story: Story, history: History, micros: int, clock: Clock) -> None:
    """See that all questions about a time are answered with the fold of what counted by then."""
    seen = [entry for entry in story.counted if (entry.recorded, entry.effective)[clock is Clock.EFFECTIVE] <= micros]
    fold = dict.fromkeys({entry.account for entry in story.counted}, 0)
    for entry in seen:
        fold[entry.account] += entry.change
    for account, balance in fold.items():
        assert to_units(await history.balance(account, story.name, at(micros), clock)) == balance
    told: dict[str, int] = {}
    after: str | None = None
    while True:
        page = await history.snapshot(at(micros), clock, after=after, limit=200)
        told |= {row.account_id: to_units(row.balance) for row in page.balances if row.asset == story.name}
        if (after := page.next_cursor) is None:
            break
    assert told.keys() <= fold.keys()
    assert {entry.account for entry in seen} <= told.keys()
    assert told == {account: fold[account] for account in told}
    sums = [row for row in await history.trial_balance(at(micros), clock) if row.asset == story.name]
    if seen:
        [trial] = sums
        assert to_units(trial.credits) == sum(entry.change for entry in seen if entry.change > 0)
        assert to_units(trial.debits) == -sum(entry.change for entry in seen if entry.change < 0)
        assert to_units(trial.floorless) == fold.get(story.account(0), 0)
        assert trial.balance == trial.floorless + trial.others == trial.credits - trial.debits
        for what in ("held", "in_flight"):
            reserved = sum(units for time, of, units in story.holds if time <= micros and of == what)
            assert to_units(getattr(trial, what)) == reserved


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def tables(stack: Stack, runner: asyncio.Runner) -> Iterator[Tables]:
    made = Tables(Database(url=stack.addresses["postgres_url"], schema=f"t{uuid.uuid4().hex[:12]}"))
    runner.run(made.begin())
    yield made
    runner.run(made.end())


def test_what_is_told_of_any_time_is_the_fold_of_what_counted_by_then(tables: Tables, runner: asyncio.Runner) -> None:
    names = itertools.count()

    @settings(max_examples=25, deadline=None)
    @given(st.lists(MOVES, min_size=3, max_size=12), st.integers(1, 4), st.data())
    def tell(moves: list[Move], size: int, data: st.DataObject) -> None:
        story = Story(f"S{next(names)}", tables.writer, tables.now)
        story.open()
        for move in moves:
            story.happen(move)
        tables.now = story.now
        for start in range(0, len(story.stretches), size):
            stretch = story.stretches[start : start + size]
            runner.run(tables.write([event for events in stretch for event in events]))
        times = data.draw(st.lists(st.sampled_from(story.moments()), min_size=3, max_size=5))
        for micros, clock in itertools.product(times, Clock):
            runner.run(is_told(story, tables.history, micros, clock))

    tell()
    results = runner.run(check_all(tables.database))
    of_snapshots = [result for result in results if "snapshot" in result.name]
    assert [result for result in of_snapshots if not result.ok] == []
    assert all(result.checked > 0 for result in of_snapshots)
    assert len(of_snapshots) == 4


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            """
            ALTER TABLE snapshot_balances DISABLE TRIGGER append_only;
            UPDATE snapshot_balances SET balance = balance + 1e-18 WHERE account_id = 'victim'
            """,
            ("I7 snapshot balances", "account victim, version 1"),
        ),
        (
            "UPDATE snapshot_corrections SET effective = effective - 1e-18 WHERE account_id = 'victim' AND level = 0",
            ("I7 snapshot corrections", "account victim, level 0"),
        ),
        (
            "UPDATE snapshot_totals SET held = held + 1 WHERE asset = 'VIC' AND level = 0",
            ("I7 snapshot totals", "asset VIC, floorless f"),
        ),
        (
            "DELETE FROM snapshot_accounts WHERE account_id = 'victim'",
            ("I7 snapshot accounts", "account victim, asset VIC: not there"),
        ),
    ],
)
async def test_what_is_changed_in_a_snapshot_is_found_and_named(
    stack: Stack, change: str, found: tuple[str, str]
) -> None:
    tables = Tables(Database(url=stack.addresses["postgres_url"], schema=f"t{uuid.uuid4().hex[:12]}"))
    await tables.begin()
    await tables.write([tables.writer.post("victim", 5, asset="VIC", effective_at=NOON - 10**12)])
    assert [result for result in await check_all(tables.database) if not result.ok] == []
    connection = await tables.database.connect()
    await connection.execute(f"SET search_path TO {tables.database.schema}; {change}")
    await connection.close()
    [broken] = [result for result in await check_all(tables.database) if not result.ok]
    assert broken.name == found[0]
    assert broken.detail is not None
    assert found[1] in broken.detail
    await tables.end()


def test_what_can_not_be_asked_is_refused(tables: Tables, runner: asyncio.Runner) -> None:
    naive = datetime(2026, 5, 1)  # noqa: DTZ001  # that is the point
    with pytest.raises(InvalidPointInTime):
        runner.run(tables.history.balance("a", "USD", naive))
    with pytest.raises(InvalidCursor):
        runner.run(tables.history.snapshot(at(NOON), after="nonsense"))
    page = runner.run(tables.history.snapshot(at(NOON), limit=1))
    if page.next_cursor:
        with pytest.raises(InvalidCursor):
            runner.run(tables.history.snapshot(at(NOON + 1), after=page.next_cursor, limit=1))
    assert runner.run(tables.history.balance("nobody", "USD", at(NOON))) == 0
