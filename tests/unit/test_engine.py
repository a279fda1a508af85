"""The engine's own part: what it waits for, and its end."""

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any, cast

import pytest

from commands.codec import Outcome
from partita import BrokerUnavailable, EntryNotFound, InsufficientFunds, LedgerEngine
from partita.requester import Requester
from tests.support.samples import rejected

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


def engine() -> LedgerEngine:
    return LedgerEngine(
        kafka_bootstrap=NOWHERE, schema_registry_url=f"http://{NOWHERE}", postgres_url=f"postgresql://u:p@{NOWHERE}/d"
    )


async def test_an_entry_waits_for_its_own_partition_only() -> None:
    """Another one may have halted: that is no reason to withhold this entry."""
    reader = Reader()
    async with engine() as ledger:
        ledger._read_model = cast(Any, reader)
        ledger._told = {1: 7, 11: 3}
        for entry_id in ("1-5", "2-1", "nonsense"):
            with pytest.raises(EntryNotFound):
                await ledger.get_entry(entry_id)
    assert reader.waited == [{1: 7}]


def test_what_is_read_after_a_rejection_is_not_older_than_it() -> None:
    """Who was told that the funds don't suffice must not read a balance that would have sufficed."""
    ledger = engine()
    for sequence in (8, 5):
        with pytest.raises(InsufficientFunds):
            ledger._entry(Outcome(replayed=False, partition=3, event=rejected(sequence=sequence)))
    assert ledger._told == {3: 8}


async def test_an_engine_that_was_closed_connects_to_nothing_again() -> None:
    ledger = engine()
    await ledger.close()
    with pytest.raises(RuntimeError, match="closed"):
        await ledger.get_balance("alice")
    with pytest.raises(RuntimeError, match="closed"):
        await ledger.create_entry("alice", 1, "credit")
    assert ledger._read_model is None


async def test_calls_that_come_while_it_connects_share_the_attempt_and_its_failure() -> None:
    """Else each would wait for its own, one after the other: hours for a thousand calls without a broker."""
    attempts = 0

    def refuse() -> Requester:
        nonlocal attempts
        attempts += 1
        time.sleep(0.05)  # as long as connecting takes, in a thread of its own
        raise BrokerUnavailable("nobody there")

    async with engine() as ledger:
        cast(Any, ledger._wiring).requester = refuse
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
        cast(Any, ledger._wiring).requester = refuse
        first, second = (asyncio.create_task(ledger.create_entry("alice", 1, "credit")) for _ in range(2))
        await asyncio.to_thread(begun.wait, 5)
        first.cancel()
        go_on.set()
        with pytest.raises(BrokerUnavailable):
            await second
        assert first.cancelled()
