"""Locks as a caller has them, on a ledger in memory: tokens go along by themselves, and who is locked out waits."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from commands.codec import Outcome
from commands.rejections import from_event
from commands.types import Command, LockAccount, PostBatch, ReverseBatch, UnlockAccount
from events.types import BatchEntry, BatchRejected, CommandRejected, EntryPosted
from partita import AccountLocked, InvalidLease, LockLost, LockManager, OutcomeUnknown
from partita.locks import Locks
from tests.support.fake_ledger import FakeLedger
from tests.support.samples import CODECS, CREDIT, DEBIT, TOPICS, UNIT, post

MANAGER = LockManager(lease=10.0, first_delay=0.001, longest_delay=0.002)
MINUTE = 60_000_000


class Desk:
    """Asks a ledger in memory once, as a connection does, and notes it. Commands of `deaf` types have no answer."""

    def __init__(self) -> None:
        self.ledger = FakeLedger(partitions=2)
        self.member = self.ledger.member().ready()
        self.asked: list[Command] = []
        self.deaf: set[type[Any]] = set()

    async def __call__(self, command: Command, timeout: float) -> Outcome:
        await asyncio.sleep(0)  # others have their turn, as they do while an outcome is on its way
        self.asked.append(command)
        if type(command) in self.deaf:
            raise OutcomeUnknown("", command.command_id, timeout)
        reply_key = f"ask-{len(self.asked)}"
        self.ledger.ask(command._replace(reply_key=reply_key))
        self.member.run()
        told = {record.key: record.value or b"" for record in self.ledger.cluster.all_visible(TOPICS.outcomes)}
        outcome = CODECS.outcomes.decode(told[reply_key.encode()])
        if isinstance(outcome.event, CommandRejected | BatchRejected):
            raise from_event(outcome.event)
        return outcome

    def kinds(self) -> Mapping[str, int]:
        return Counter(type(command).__name__ for command in self.asked)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def locks_of(desk: Desk) -> Locks:
    """What one engine has."""
    return Locks(desk, MANAGER, patience=5)


async def test_within_the_block_the_task_writes_and_others_wait(desk: Desk) -> None:
    mine, others = locks_of(desk), locks_of(desk)
    async with mine.hold(["alice"], None, None) as lock:
        waiting = asyncio.create_task(others.ask(post(command_id="theirs")))
        await asyncio.sleep(0.01)
        event = (await mine.ask(post(command_id="mine"))).event
        assert isinstance(event, EntryPosted)
        assert (event.version, lock.tokens) == (2, {"alice": 1})
        assert not waiting.done()
    assert isinstance((await waiting).event, EntryPosted)
    order = [getattr(item.event, "command_id", "") for item in desk.ledger.events()]
    assert order.index("mine") < order.index("theirs")


async def test_who_is_locked_out_asks_under_the_same_id_until_its_deadline(desk: Desk) -> None:
    async with locks_of(desk).hold(["alice"], None, None):
        desk.asked.clear()
        out = asyncio.create_task(locks_of(desk).ask(post(), 0.05))
        batch = PostBatch("b", None, [BatchEntry("alice", CREDIT, UNIT, "USD")])
        with pytest.raises(AccountLocked):
            await locks_of(desk).ask(batch, 0.05)
        with pytest.raises(AccountLocked) as refused:
            await out
    assert refused.value.retriable
    tries = Counter((type(command).__name__, command.command_id) for command in desk.asked)
    assert tries["PostEntry", "c-1"] > 2
    assert tries["PostBatch", "b"] > 2


async def test_tasks_begun_in_the_block_are_within_the_lock_and_those_begun_before_are_not(desk: Desk) -> None:
    locks, inside = locks_of(desk), asyncio.Event()

    async def before() -> Outcome:
        await inside.wait()
        return await locks.ask(post(command_id="before"), 0.01)

    outsider = asyncio.create_task(before())
    async with locks.hold(["alice"], None, None):
        inside.set()
        await asyncio.gather(*(locks.ask(post(command_id=f"c-{i}"), 0.01) for i in range(3)))
        with pytest.raises(AccountLocked):
            await outsider


async def test_every_entry_of_a_batch_carries_the_token_of_its_account(desk: Desk) -> None:
    locks = locks_of(desk)
    await locks.ask(post(amount=5 * UNIT))
    entries = [BatchEntry("alice", DEBIT, UNIT, "USD"), BatchEntry("bob", CREDIT, UNIT, "USD")]
    async with locks.hold(["bob", "alice"], None, None):
        await locks.ask(PostBatch("b-1", None, [*entries, BatchEntry("carol", CREDIT, UNIT, "USD")]), 0.01)
        asked = desk.asked[-1]
        assert isinstance(asked, PostBatch)
        assert [entry.lock_token is None for entry in asked.entries] == [False, False, True]


async def test_a_batch_is_undone_under_ones_own_locks(desk: Desk) -> None:
    locks = locks_of(desk)
    await locks.ask(post(amount=5 * UNIT))
    entries = [BatchEntry("alice", DEBIT, UNIT, "USD"), BatchEntry("bob", CREDIT, UNIT, "USD")]
    await locks.ask(PostBatch("b-1", None, entries))
    async with locks.hold(["bob", "zoe", "alice"], None, None) as lock:
        await locks.ask(ReverseBatch("b-1~r", None, "b-1"), 0.01)
        asked = desk.asked[-1]
        assert isinstance(asked, ReverseBatch)
        assert dict(asked.locks) == lock.tokens


async def test_no_batch_is_undone_under_the_locks_of_others(desk: Desk) -> None:
    locks = locks_of(desk)
    await locks.ask(post(amount=5 * UNIT))
    await locks.ask(
        PostBatch("b-1", None, [BatchEntry("alice", DEBIT, UNIT, "USD"), BatchEntry("bob", CREDIT, UNIT, "USD")])
    )
    async with locks.hold(["bob"], None, None), locks_of(desk).hold(["alice"], None, None):
        with pytest.raises(AccountLocked):
            await locks.ask(ReverseBatch("b-1~r", None, "b-1"), 0.01)


async def test_a_lock_goes_with_one_engine_only(desk: Desk) -> None:
    """Another engine may be of another ledger, whose account of the same name is another account."""
    other = locks_of(desk)
    async with locks_of(desk).hold(["alice"], None, None):
        assert other.signed(post()) == post()


async def test_the_write_of_an_expired_holder_is_refused_and_the_end_of_its_block_is_quiet(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    locks = locks_of(desk)
    async with locks.hold(["alice"], 1.5, None) as lock:
        desk.ledger.now += 2_000_000
        with pytest.raises(LockLost) as lost:
            await locks.ask(post())
        with pytest.raises(LockLost):
            await lock.renew()
    assert not lost.value.retriable
    assert "was not released" in caplog.text


async def test_a_lock_that_is_renewed_lasts_under_its_token(desk: Desk) -> None:
    locks = locks_of(desk)
    async with locks.hold(["alice", "bob"], 1, None) as lock:
        tokens, until = dict(lock.tokens), lock.expires_at
        desk.ledger.now += 900_000
        await lock.renew(60)
        assert (lock.expires_at - until).total_seconds() > 59
        assert lock.tokens == tokens
        desk.ledger.now += 50_000_000
        await locks.ask(post())
        await locks.ask(post(account_id="bob"))


async def test_locks_are_taken_in_one_order_and_given_back_when_one_is_not_to_be_had(desk: Desk) -> None:
    async with locks_of(desk).hold(["bob"], None, None):
        desk.asked.clear()
        with pytest.raises(AccountLocked) as refused:
            async with locks_of(desk).hold(["carol", "bob", "alice", "bob"], None, 0.02):
                raise AssertionError("it is not to be had")
        assert refused.value.account_id == "bob"
        taken = [command.account_id for command in desk.asked if isinstance(command, LockAccount)]
        assert (taken[0], {*taken[1:]}) == ("alice", {"bob"})
        await locks_of(desk).ask(post(account_id="alice"), 0.01)
    async with locks_of(desk).hold(["bob"], None, 0.01):
        pass


async def test_the_end_of_a_block_never_hides_its_error(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.deaf.add(UnlockAccount)
    caplog.set_level(logging.WARNING)
    with pytest.raises(ZeroDivisionError):
        async with locks_of(desk).hold(["alice"], None, None):
            raise ZeroDivisionError
    assert "lock 1 of account alice was not released" in caplog.text
    desk.ledger.now += MINUTE
    await locks_of(desk).ask(post(), 0.01)


async def test_after_the_block_no_token_is_carried(desk: Desk) -> None:
    locks = locks_of(desk)
    async with locks.hold(["alice"], None, None):
        async with locks.hold(["bob"], None, None):
            assert locks.signed(post(account_id="bob")) != post(account_id="bob")
        assert locks.signed(post(account_id="bob")) == post(account_id="bob")
        assert locks.signed(post()) != post()
    assert locks.signed(post()) == post()
    assert desk.kinds() == {"LockAccount": 2, "UnlockAccount": 2}


async def test_a_task_that_locks_what_it_has_locked_is_told_so_at_once(desk: Desk) -> None:
    locks = locks_of(desk)
    async with locks.hold(["alice"], None, None):
        with pytest.raises(RuntimeError, match="alice is locked here already"):
            async with locks.hold(["alice", "bob"], None, None):
                pass
        await locks.ask(post(), 0.01)
    assert desk.kinds()["LockAccount"] == 1


@pytest.mark.parametrize("lease", [0, 0.0009, 3600.1, -1, float("nan"), float("inf"), "10", True])
async def test_a_lease_that_can_not_be_is_refused_before_anything_is_asked(desk: Desk, lease: Any) -> None:
    with pytest.raises(InvalidLease):
        async with locks_of(desk).hold(["alice"], lease, None):
            pass
    assert desk.asked == []


async def test_many_who_lock_pairs_in_any_order_all_get_their_turn(desk: Desk) -> None:
    """Each reads, lets the others run, and writes what it has read: a lost update would show in the total."""
    total = {"alice": 0, "bob": 0}

    async def turn(number: int) -> None:
        async with locks_of(desk).hold(["alice", "bob"][:: -1 if number % 2 else 1], None, None):
            read = dict(total)
            await asyncio.sleep(0)
            total.update({name: value + 1 for name, value in read.items()})

    await asyncio.gather(*(turn(number) for number in range(12)))
    assert total == {"alice": 12, "bob": 12}


def test_delays_grow_to_their_bound_and_differ() -> None:
    delays = LockManager(first_delay=0.02, longest_delay=0.5).delays()
    drawn = [next(delays) for _ in range(20)]
    assert all(0.01 <= first <= 0.02 for first in drawn[:1])
    assert all(0.25 <= late <= 0.5 for late in drawn[6:])
    assert len(set(drawn)) == len(drawn)
    with pytest.raises(ValueError, match="longest_delay"):
        LockManager(first_delay=1, longest_delay=0.5)
