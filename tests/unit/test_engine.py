"""The engine's own part: what it waits for, and its end."""

import asyncio
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

import pytest

from commands.codec import Outcome
from commands.types import Command, LockAccount, PostBatch, PostEntry, ReverseBatch, UnlockAccount
from events.types import BatchPosted
from partita import BrokerUnavailable, EntryNotFound, InsufficientFunds, InvalidAmount, LedgerEngine, LockManager
from partita.requester import Requester
from tests.support.samples import lock_granted, lock_released, posted, rejected

CALLS = 50
NOWHERE = "127.0.0.1:1"


class Reader:
    """A read model that notes what it is asked to wait for."""

    def __init__(self) -> None:
        self.waited: list[Mapping[int, int]] = []

    async def wait_for(self, wanted: Mapping[int, int], timeout: float) -> None:
        self.waited.append(wanted)

    async def entry(self, entry_id: str) -> Any:
        raise EntryNotFound(entry_id)

    async def close(self) -> None:
        pass


def engine(lock_manager: LockManager | None = None) -> LedgerEngine:
    return LedgerEngine(
        kafka_bootstrap=NOWHERE,
        schema_registry_url=f"http://{NOWHERE}",
        postgres_url=f"postgresql://u:p@{NOWHERE}/d",
        lock_manager=lock_manager,
    )


async def test_an_entry_waits_for_its_own_partition_only() -> None:
    """Another one may have halted: that is no reason to withhold this entry."""
    reader = Reader()
    async with engine() as ledger:
        ledger._connection._reader = cast(Any, reader)
        ledger._connection._told = {1: 7, 11: 3}
        for entry_id in ("1-5", "2-1", "nonsense"):
            with pytest.raises(EntryNotFound):
                await ledger.get_entry(entry_id)
    assert reader.waited == [{1: 7}]


async def test_what_is_read_after_a_rejection_is_not_older_than_it() -> None:
    """Who was told that the funds don't suffice must not read a balance that would have sufficed."""
    async with engine() as ledger:
        for sequence in (8, 5):
            told = ledger._connection._heard(Outcome(False, 3, rejected(sequence=sequence)))
            assert isinstance(told, InsufficientFunds)
        assert ledger._connection._told == {3: 8}


async def test_an_engine_that_was_closed_connects_to_nothing_again() -> None:
    ledger = engine()
    await ledger.close()
    with pytest.raises(RuntimeError, match="closed"):
        await ledger.get_balance("alice")
    with pytest.raises(RuntimeError, match="closed"):
        await ledger.create_entry("alice", 1, "credit")
    assert ledger._connection._reader is None


async def test_calls_that_come_while_it_connects_share_the_attempt_and_its_failure() -> None:
    """Else each would wait for its own, one after the other: hours for a thousand calls without a broker."""
    attempts = 0

    def refuse() -> Requester:
        nonlocal attempts
        attempts += 1
        time.sleep(0.05)  # as long as connecting takes, in a thread of its own
        raise BrokerUnavailable("nobody there")

    async with engine() as ledger:
        cast(Any, ledger._connection._wiring).requester = refuse
        for attempt in (1, 2):
            calls = [ledger.create_entry("alice", 1, "credit") for _ in range(CALLS)]
            failures = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(failure) for failure in failures] == [BrokerUnavailable] * CALLS
            assert attempts == attempt


async def test_a_call_that_is_cancelled_leaves_the_others_connecting() -> None:
    begun = threading.Event()
    go_on = threading.Event()

    def refuse() -> Requester:
        begun.set()
        go_on.wait(5)
        raise BrokerUnavailable("nobody there")

    async with engine() as ledger:
        cast(Any, ledger._connection._wiring).requester = refuse
        first, second = (asyncio.create_task(ledger.create_entry("alice", 1, "credit")) for _ in range(2))
        await asyncio.to_thread(begun.wait, 5)
        first.cancel()
        go_on.set()
        with pytest.raises(BrokerUnavailable):
            await second
        assert first.cancelled()


class Granting:
    """A requester that accepts every command, and notes it."""

    broken = False
    partition_count = 1

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def ask(self, command: Command, *, timeout: float | None) -> Outcome:
        self.asked.append(command)
        match command:
            case LockAccount():
                return Outcome(False, 0, lock_granted(sequence=41, token=9))
            case UnlockAccount():
                return Outcome(False, 0, lock_released(sequence=43, token=9))
            case ReverseBatch():
                return Outcome(
                    False, 0, BatchPosted(42, 1, 0, command.command_id, 0, b"", [], None, None, command.batch_id)
                )
            case _:
                return Outcome(False, 0, posted(sequence=42))

    async def ask_all(self, commands: list[Command], *, timeout: float | None) -> list[Outcome]:
        return [await self.ask(command, timeout=timeout) for command in commands]

    async def close(self) -> None:
        pass


async def test_within_a_lock_what_was_written_before_it_is_read_and_writes_carry_its_token() -> None:
    reader, requester = Reader(), Granting()
    async with engine(LockManager(lease=timedelta(seconds=3))) as ledger:
        ledger._connection._reader, ledger._connection._requester = cast(Any, reader), cast(Any, requester)
        async with ledger.lock_account("alice") as lock:
            with pytest.raises(EntryNotFound):
                await ledger.get_entry("0-1")
            assert reader.waited == [{0: 41}]
            await ledger.create_entry("alice", 1, "debit")
            await ledger.create_entries([{"account_id": name, "amount": 1, "entry_type": "debit"} for name in "ab"])
        assert lock.tokens == {"alice": 9}
    locking, *entries, _ = requester.asked
    assert locking.lease == 3_000_000
    assert [(entry.account_id, entry.lock_token) for entry in entries] == [("alice", 9), ("a", None), ("b", None)]
    assert {type(entry) for entry in entries} == {PostEntry}


@pytest.mark.parametrize("wrong", [0.5, "1e400", None, "0"])
async def test_what_is_wrong_with_an_entry_of_a_batch_is_told_with_its_number(wrong: Any) -> None:
    requester = Granting()
    async with engine() as ledger:
        ledger._connection._requester = cast(Any, requester)
        entries = [{"account_id": "alice", "amount": amount, "entry_type": "credit"} for amount in (1, 2, wrong, 3)]
        with pytest.raises(InvalidAmount) as refused:
            await ledger.create_batch(entries)
    assert refused.value.details["leg"] == 2
    assert not any(isinstance(command, PostBatch) for command in requester.asked)


async def test_the_id_of_a_reversal_begins_with_that_of_its_batch_however_it_is_given() -> None:
    requester, longest = Granting(), "b" * 111
    async with engine() as ledger:
        ledger._connection._requester = cast(Any, requester)
        for command_id in ("undo", "b-1~undo", None):
            await ledger.rollback_batch("b-1", command_id=command_id)
        await ledger.rollback_batch(longest)
    given, again, made, of_longest = (command.command_id for command in requester.asked)
    assert given == again == "b-1~undo"
    assert made.startswith("b-1~")
    assert of_longest.startswith(f"{longest}~")
