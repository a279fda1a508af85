"""Any valid story of accounts and holds, in stretches of any size, on a real PostgreSQL: the tables are its fold."""

import asyncio
import itertools
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from commands.decide import Place, decide
from commands.payload import payload_hash
from commands.types import (
    AccountCommand,
    CloseAccount,
    ExpireHold,
    FreezeAccount,
    OpenAccount,
    PlaceHold,
    Policy,
    PostEntry,
    ReleaseHold,
    ReopenAccount,
    SettleHold,
    UnfreezeAccount,
)
from events.account import NEW_ACCOUNT, Account, Hold, evolve, evolve_hold
from events.follow import StoredEvent
from events.money import to_units
from events.types import (
    AccountEvent,
    AccountStatus,
    CommandRejected,
    EntryPosted,
    EntryType,
    Event,
    HoldEvent,
    HoldReleased,
    PartitionOpened,
    StatusEvent,
)
from projections.balances import Balances
from projections.checks import check_all
from projections.database import Database
from projections.errors import AccountNotInReadModel
from projections.migrate import upgrade
from projections.queries import ReadModel
from projections.records import HoldStatus
from projections.rows import Rows
from projections.store import Store
from tests.projections.log import NOON
from tests.support.stack import Stack

KINDS = {PartitionOpened, CommandRejected, EntryPosted, *get_args(HoldEvent), *get_args(StatusEvent)}
"""What happens here; batches and locks have stories of their own."""


class Move(NamedTuple):
    """What becomes a command that the account's state allows; whether the money does is another matter."""

    account: str
    pick: int
    amount: int
    asset: str
    nth: int
    extra: bool

    def command(self, account: Account, holds: Sequence[str], head: tuple[str, None, str]) -> AccountCommand:
        kinds = likely(account, holds)
        kind = kinds[self.pick % len(kinds)]
        if kind is PostEntry:
            way, amount = (EntryType.DEBIT, self.amount) if self.extra else (EntryType.CREDIT, self.amount * 20)
            return PostEntry(*head, way, amount, self.asset, metadata='{"a":1}')
        if kind is PlaceHold:
            expires_at = 5 if self.extra else None
            return PlaceHold(*head, self.amount, self.asset, expires_at, reference="r", metadata='{"c":3}')
        if kind is SettleHold:
            return SettleHold(*head, holds[self.nth % len(holds)], self.amount if self.extra else None)
        if kind is OpenAccount:
            assets = ("USD", "EUR") if self.extra else ()
            return OpenAccount(*head, (0, -5, None)[self.nth % 3], assets, "credit", "r", '{"b":2}')
        if kind is CloseAccount:
            return CloseAccount(*head, permanent=self.nth == 0)
        of_hold = [holds[self.nth % len(holds)]] if kind in (ReleaseHold, ExpireHold) else []
        made: AccountCommand = kind(*head, *of_hold)
        return made


def likely(account: Account, holds: Sequence[str]) -> Sequence[type[Any]]:
    """Return the kinds of commands that may well be accepted."""
    match account.status:
        case None:
            return PostEntry, OpenAccount
        case AccountStatus.FROZEN:
            return (UnfreezeAccount, ReleaseHold) if holds else (UnfreezeAccount,)
        case AccountStatus.CLOSED:
            return (ReopenAccount,)
        case AccountStatus.OPEN:
            of_holds = (SettleHold, SettleHold, ReleaseHold, ExpireHold) if holds else ()
            of_nothing = () if any(account.balances.values()) else (CloseAccount,)
            return PostEntry, PlaceHold, PostEntry, PlaceHold, FreezeAccount, *of_holds, *of_nothing


MOVES = st.builds(
    Move,
    st.sampled_from("ab"),
    st.integers(0, 100),
    st.integers(1, 9),
    st.sampled_from(["USD", "USD", "EUR"]),
    st.integers(0, 5),
    st.booleans(),
)


@dataclass
class Story:
    """A ledger of one partition: what was decided, and what it adds up to."""

    events: list[StoredEvent] = field(default_factory=list)
    accounts: dict[str, Account] = field(default_factory=dict)
    holds: dict[tuple[str, str], Hold] = field(default_factory=dict)
    ended: dict[tuple[str, str], HoldStatus] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        self.events.append(StoredEvent(0, event.sequence, b"", event))

    def make(self, move: Move, account_id: str) -> None:
        """Add what is decided of a command."""
        account = self.accounts.get(account_id, NEW_ACCOUNT)
        sequence = len(self.events)
        holds = [name for of, name in self.holds if of == account_id]
        command = move.command(account, holds, (f"c-{sequence}", None, account_id))
        hold = self.holds.get((account_id, getattr(command, "hold_id", "")))
        place = Place(0, 0, sequence, 1, NOON + sequence, sequence)
        event = decide(account, command, payload_hash(command), place, Policy(), hold=hold)
        self.add(event)
        self._fold(account, event)

    def _fold(self, account: Account, event: AccountEvent) -> None:
        if (after := evolve(account, event)) is not account:
            self.accounts[event.account_id] = after
        if isinstance(event, HoldEvent):
            key = event.account_id, event.hold_id
            hold = evolve_hold(self.holds.pop(key, None), event)
            if hold is not None:
                self.holds[key] = hold
            elif isinstance(event, HoldReleased):
                self.ended[key] = HoldStatus.EXPIRED if event.expired else HoldStatus.RELEASED
            else:
                self.ended[key] = HoldStatus.SETTLED

    async def write(self, store: Store[Rows], start: int, sizes: Sequence[int]) -> None:
        """Write the events from `start` on in stretches of these sizes, by turns."""
        for size in itertools.cycle(sizes):
            if start >= len(self.events):
                return
            await store.write(self.events[start : start + size], {0: start})
            start = min(start + size, len(self.events))

    async def is_read(self, reader: ReadModel, account_id: str) -> None:
        """See that the read model has the account as it is here."""
        expected = self.accounts.get(account_id)
        if expected is None:
            try:
                await reader.account(account_id)
            except AccountNotInReadModel:
                return
            raise AssertionError(f"{account_id} was never opened")
        account = await reader.account(account_id)
        assert (account.status, account.permanent, account.version) == (
            expected.status,
            expected.permanent,
            expected.version,
        )
        assert account.assets == tuple(expected.assets)
        assert (None if account.floor is None else to_units(account.floor)) == expected.floor
        assert {row.asset for row in account.balances} >= expected.balances.keys() | expected.held.keys()
        for row in account.balances:
            balance, held = expected.balance(row.asset), expected.held.get(row.asset, 0)
            assert (to_units(row.balance), to_units(row.held), to_units(row.available)) == (
                balance,
                held,
                balance - held,
            )
        holds = (await reader.holds(account_id, status=None)).holds
        assert {
            hold.hold_id: (hold.asset, to_units(hold.remaining)) for hold in holds if hold.status is HoldStatus.PLACED
        } == {name: (hold.asset, hold.amount) for (of, name), hold in self.holds.items() if of == account_id}
        assert {hold.hold_id: hold.status for hold in holds if hold.status is not HoldStatus.PLACED} == {
            name: status for (of, name), status in self.ended.items() if of == account_id
        }


def test_the_tables_are_the_fold_of_any_story(stack: Stack) -> None:
    """One ledger takes all stories, one after the other, each with accounts of its own."""
    database = Database(url=stack.addresses["postgres_url"], schema=f"t{uuid.uuid4().hex[:12]}")
    story, tellings = Story(), itertools.count()

    with asyncio.Runner() as runner:
        store = Store(database, Balances())
        reader = ReadModel(database)
        runner.run(_begin(database, store))
        story.add(PartitionOpened(0, 1, NOON, 0, 1))
        runner.run(story.write(store, 0, [1]))

        @settings(max_examples=80, deadline=None)
        @given(st.lists(MOVES, min_size=10, max_size=50), st.lists(st.integers(1, 12), min_size=1, max_size=4))
        def tell(moves: list[Move], sizes: list[int]) -> None:
            telling, start = next(tellings), runner.run(store.positions(1))[0].next_offset
            del story.events[start:]  # of a telling that failed
            for move in moves:
                story.make(move, f"{telling}:{move.account}")
            runner.run(story.write(store, start, sizes))
            for account_id in {f"{telling}:{move.account}" for move in moves}:
                runner.run(story.is_read(reader, account_id))

        try:
            tell()
            assert [check for check in runner.run(check_all(database)) if not check.ok] == []
            kinds = Counter(type(stored.event) for stored in story.events)
            assert kinds.keys() == KINDS, "there were stories of everything that can happen"
        finally:
            runner.run(_end(database, store, reader))


async def _begin(database: Database, store: Store[Rows]) -> None:
    await upgrade(database)
    await store.open()
    await store.positions(1)


async def _end(database: Database, store: Store[Rows], reader: ReadModel) -> None:
    await store.close()
    await reader.close()
    connection = await database.connect()
    await connection.execute(f"DROP SCHEMA {database.schema} CASCADE")
    await connection.close()
