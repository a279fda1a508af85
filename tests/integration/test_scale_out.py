"""Handlers that share a ledger: one may stand still, be killed, join or leave, in both group protocols of Kafka."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from random import Random

import pytest

from events.clients import KafkaClients
from events.errors import GroupSettingsRefused
from events.follow import Ends
from events.membership import GroupProtocol, prepare_group
from tests.chaos.bank import Bank
from tests.chaos.checks import check_log, read_log
from tests.chaos.fleet import Fleet, send
from tests.support.services import Ledger, Service, eventually
from tests.support.stack import Stack

ACCOUNTS = 60
_LOOKS = 20


@pytest.fixture(params=list(GroupProtocol))
def ledger(request: pytest.FixtureRequest, ledger: Ledger) -> Ledger:
    """A ledger of its own whose handlers use one of the protocols."""
    ledger.options = {"group_protocol": request.param}
    return ledger


@pytest.fixture
async def fleet(ledger: Ledger, stack: Stack) -> AsyncIterator[Fleet]:
    """Two handlers of a bank that has its money. In the end all that was told is in the log, once."""
    async with ledger.engine() as engine:
        bank = Bank(engine, ACCOUNTS, Random(1))
        fleet = Fleet(ledger, stack, bank, Random(1))
        await asyncio.to_thread(fleet.start, 2)
        await bank.open()
        yield fleet
        assert bank.answered > 0
        assert [result for result in check_log(read_log(ledger), bank) if not result.ok] == []


async def _open(bank: Bank) -> "asyncio.Task[None]":
    """Let the bank transfer, and return when it does."""
    transferring = asyncio.create_task(bank.run())
    await bank.advanced(100)
    return transferring


async def _close(bank: Bank, transferring: "asyncio.Task[None]") -> None:
    bank.closing = True
    await transferring


async def test_one_that_stood_still_past_its_session_writes_nothing_and_joins_again(fleet: Fleet) -> None:
    """It is stopped in mid-transaction, and wants to go on with that after another has taken its partitions."""
    bank, stopped = fleet.bank, fleet.handlers["h0"]
    transferring = await _open(bank)
    await _stop_in_a_transaction(fleet, stopped)
    await bank.settled()  # so the other has taken over
    said = len(stopped.log_text())
    send(stopped, signal.SIGCONT)
    await asyncio.to_thread(eventually, lambda: "starting over from the log" in stopped.log_text()[said:])
    await asyncio.to_thread(eventually, lambda: "is taken up" in stopped.log_text()[said:])
    await bank.advanced(100)
    await _close(bank, transferring)
    assert all(handler.alive() for handler in fleet.handlers.values())


async def _stop_in_a_transaction(fleet: Fleet, handler: Service) -> None:
    for _ in range(100):
        send(handler, signal.SIGSTOP)
        if await asyncio.to_thread(_is_left_open, fleet.ledger):
            return
        send(handler, signal.SIGCONT)
        await fleet.bank.advanced(1)
    pytest.fail("it was never stopped in a transaction")


def _is_left_open(ledger: Ledger) -> bool:
    """Tell whether a transaction stays open: all others end within milliseconds."""
    wiring, places = ledger.wiring(), set[tuple[int, int]]()
    ends, partitions = Ends(wiring.clients), range(wiring.partition_count())
    for look in range(_LOOKS):
        stable = ends.stable(wiring.topics.events, partitions, timeout=5)
        high = ends.high(wiring.topics.events, partitions, timeout=5)
        open_at = {(p, stable[p]) for p in partitions if stable[p] < high[p]}
        places = open_at if look == 0 else places & open_at
    return bool(places)


async def test_another_takes_over_within_ten_seconds_of_a_kill(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    transferring = await _open(fleet.bank)
    fleet.handlers.pop("h0").kill()
    seconds = await fleet.bank.settled()
    with capsys.disabled():
        print(f"taken over after {seconds:.1f} s ")
    await _close(fleet.bank, transferring)
    assert seconds < 10


@pytest.mark.parametrize("ledger", [GroupProtocol.CONSUMER], indirect=True)
async def test_three_join_and_leave_under_load(fleet: Fleet) -> None:
    """In the classic protocol, `tests/chaos` does it in every test run."""
    transferring = await _open(fleet.bank)
    for name in ("h0", "h1"):
        fleet.join()
        await fleet.bank.advanced(100)
        assert await asyncio.to_thread(fleet.handlers.pop(name).stop) == 0
        await fleet.bank.settled()
    await _close(fleet.bank, transferring)
    assert all(handler.alive() for handler in fleet.handlers.values())


async def test_batches_outlive_the_kill_of_coordinator_and_participant_in_the_middle(fleet: Fleet) -> None:
    """The participant is killed first, so batches that need it stay in the middle; then the coordinator is."""
    bank, (coordinator, participant) = fleet.bank, fleet.handlers.values()
    eventually(lambda: all("is taken up" in handler.log_text() for handler in fleet.handlers.values()))
    participant.kill()
    transferring = asyncio.create_task(bank.run())
    await asyncio.to_thread(eventually, lambda: _in_flight(fleet.ledger) > 0, every=0.2)
    coordinator.kill()
    begun = time.monotonic()
    participant.start()
    coordinator.start()
    await bank.settled()
    assert time.monotonic() - begun < 60
    await _close(bank, transferring)


def _in_flight(ledger: Ledger) -> int:
    """Return how many batches are started and not decided."""
    batches = read_log(ledger).batches
    return len(batches.started - batches.answers.keys())


def test_a_broker_that_demands_longer_sessions_is_told_of(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = KafkaClients(bootstrap=stack.addresses["kafka_bootstrap"])
    monkeypatch.setattr("events.membership.SESSION_TIMEOUT_MS", 100)
    with pytest.raises(GroupSettingsRefused, match=r"group\.consumer\.min\.session\.timeout\.ms"):
        prepare_group(clients, GroupProtocol.CONSUMER, "any", timeout=10)
