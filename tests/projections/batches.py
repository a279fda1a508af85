"""What handlers make of batches and locks: a log of all that can happen to them, in any of its orders."""

import random
from collections.abc import Callable, Iterator
from typing import Any

from commands.types import (
    Command,
    LockAccount,
    OpenAccount,
    PlaceHold,
    PostBatch,
    ReleaseHold,
    ReverseBatch,
    UnlockAccount,
)
from events.follow import StoredEvent
from events.types import BatchEntry, LockGranted
from projections.balances import Balances
from projections.buffer import Buffer
from projections.database import Database
from projections.store import Store
from tests.support.fake_ledger import FakeLedger, Member
from tests.support.samples import CREDIT, DEBIT, UNIT, post

PARTITIONS = 4
ACCOUNTS = tuple(f"a-{n}" for n in range(8))
WORLD = "world"


def entry(account_id: str, units: int) -> BatchEntry:
    return BatchEntry(account_id, CREDIT if units > 0 else DEBIT, abs(units), "USD", f"for {account_id}", '{"k":1}')


def transfer(batch_id: str, *entries: BatchEntry, **fields: Any) -> PostBatch:
    return PostBatch(batch_id, None, entries)._replace(**fields)


def of_batches(seed: int) -> FakeLedger:
    """Return a ledger on which three handlers, by turns and at once, were asked for batches, reversals and locks."""
    ledger = FakeLedger(partitions=PARTITIONS, group_size=3)
    chance = random.Random(seed)
    members = [ledger.member(name) for name in "abc"]
    _rest(members, chance)
    for commands in _told(chance, ledger):
        for command in commands:
            ledger.ask(command)
            chance.choice(members).turn()
        _rest(members, chance)
    ledger.accounts()  # all invariants hold in the log
    return ledger


def _rest(members: list[Member], chance: random.Random) -> None:
    """Turn all handlers, in any order, until none has anything to do."""
    idle = 0
    for _ in range(5000):
        turn = chance.choice(members).turn()
        idle = 0 if turn.commands or turn.restoring else idle + 1
        if idle == 20:
            return
    raise AssertionError("it does not come to rest")


def _told(chance: random.Random, ledger: FakeLedger) -> Iterator[list[Command]]:
    """Yield what is asked at once, one after the other."""
    yield [
        OpenAccount("open", None, WORLD, None),
        *(post(name, 9 * UNIT) for name in ACCOUNTS[:6]),
    ]
    yield [  # the last two accounts are opened by a batch, and after a batch that came to nothing
        transfer("new-1", entry(WORLD, -UNIT), entry(ACCOUNTS[6], UNIT), balanced=True),
        transfer("new-2", entry(ACCOUNTS[7], UNIT), entry(ACCOUNTS[0], -99 * UNIT)),
    ]
    yield [post(ACCOUNTS[7], UNIT), PlaceHold("h", None, ACCOUNTS[1], UNIT, "USD")]
    yield [_any_transfer(chance, f"b-{n}") for n in range(30)]
    yield [LockAccount("lock", None, ACCOUNTS[2], 10**6), LockAccount("lock-new", None, "locked", 10**6)]
    yield [  # refused for now, and once it is in flight
        transfer("locked-1", entry(ACCOUNTS[2], -1), entry(ACCOUNTS[3], 1)),
        transfer("locked-2", entry(ACCOUNTS[3], -1), entry(ACCOUNTS[2], 1), reference="first"),
    ]
    tokens = {e.account_id: e.token for e in (s.event for s in ledger.events()) if isinstance(e, LockGranted)}
    yield [UnlockAccount("unlock", None, name, token) for name, token in sorted(tokens.items())]
    yield [post("locked", UNIT), ReleaseHold("r", None, ACCOUNTS[1], "h")]
    yield [
        transfer("locked-1", entry(ACCOUNTS[2], -1), entry(ACCOUNTS[3], 1)),
        transfer("locked-2", entry(ACCOUNTS[3], -2), entry(ACCOUNTS[2], 2), reference="second"),
        transfer("b-0", entry(ACCOUNTS[0], 1)),
        *(ReverseBatch(f"b-{n}~r", None, f"b-{n}", "oops") for n in range(0, 30, 3)),
        *(_any_transfer(chance, f"c-{n}") for n in range(20)),
    ]
    yield [transfer("away", entry(ACCOUNTS[4], -2 * UNIT), entry(ACCOUNTS[5], 2 * UNIT))]
    all_there_is = [entry(name, -account.balance("USD")) for name, account in ledger.accounts().items()]
    yield [transfer("empty", *(leg for leg in all_there_is if leg.amount and leg.entry_type is DEBIT))]
    yield [ReverseBatch("away~no", None, "away")]
    yield [ReverseBatch("away~yes", None, "away", force=True)]


def _any_transfer(chance: random.Random, batch_id: str) -> PostBatch:
    """Return a batch that may be too much for its accounts."""
    names = chance.choices(ACCOUNTS, k=chance.randint(1, 4))
    legs = [entry(name, chance.randint(-2, 4) * UNIT or UNIT) for name in names]
    return transfer(batch_id, *legs, reference=batch_id if chance.random() < 0.5 else None)


def by_partition(events: list[StoredEvent]) -> dict[int, list[StoredEvent]]:
    """Return the events of each partition, in order, without its opening."""
    found: dict[int, list[StoredEvent]] = {p: [] for p in range(PARTITIONS)}
    for stored in events:
        if stored.event.sequence > 0:
            found[stored.partition].append(stored)
    return found


async def write(story: FakeLedger, database: Database, read: Callable[[dict[int, int]], tuple[int, int]]) -> None:
    """Put the story's events into the tables, a cut at a time; `read` says of which partition to read how many."""
    log: dict[int, list[StoredEvent]] = {p: [] for p in range(PARTITIONS)}
    for stored in story.events():
        log[stored.partition].append(stored._replace(offset=stored.event.sequence))
    buffer = Buffer(room=10_000, most=10_000)
    buffer.begin(dict.fromkeys(log, 0))
    store = Store(database, Balances())
    await store.open()
    await store.positions(PARTITIONS)
    while left := {p: len(events) for p, events in log.items() if events}:
        partition, count = read(left)
        buffer.add(log[partition][:count])
        del log[partition][:count]
        if events := buffer.take():
            first = {stored.partition: stored.offset for stored in reversed(events)}
            await store.write(events, first)
    await store.close()
