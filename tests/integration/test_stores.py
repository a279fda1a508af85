"""What a handler has on its disk, after a kill under load: with it, without it, and when partitions come and go."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from commands.rocks_store import RocksStores
from commands.state import PartitionState
from events.follow import read_all
from partita import LedgerEntry
from tests.support.driver import Ask, Driver, audit, mix
from tests.support.services import PARTITIONS, Ledger, eventually


def _kept(ledger: Ledger, instance: str) -> list[int]:
    """Return how many events of each partition are in the stores of a handler that does not run."""
    stores = RocksStores(ledger.settings().stores_dir(instance))
    states = [PartitionState(p, stores.open(p)) for p in range(PARTITIONS)]
    for state in states:
        state.close()
    return [state.position.next_sequence for state in states]


async def _while_flowing(driver: Driver, asks: Sequence[Ask], after: int, change: Callable[[], None]) -> None:
    """Ask all, and when `after` are answered make a change; an ask that fails says why."""
    begun = driver.answered
    flow = asyncio.create_task(driver.run(asks))
    await asyncio.wait({flow, asyncio.create_task(driver.until(begun + after))}, return_when=asyncio.FIRST_COMPLETED)
    assert not flow.done(), flow.exception()
    await asyncio.to_thread(change)
    async with asyncio.timeout(60):
        await flow


@pytest.mark.parametrize("disk", ["kept", "lost"])
async def test_a_handler_that_was_killed_under_load_goes_on(ledger: Ledger, disk: str) -> None:
    """What is told, logged and in the tables agrees; ids from before the kill are remembered."""
    handler = ledger.service("handler", "--instance", "one").start()
    ledger.service("balances").start()
    ledger.await_handler(handler)
    answered = 0

    def strike() -> None:
        nonlocal answered
        answered = driver.answered
        handler.kill()
        assert sum(_kept(ledger, "one")) > answered / 2, "the store has what was answered, but for the last group"
        if disk == "lost":
            shutil.rmtree(ledger.settings().stores_dir("one"))
        handler.start()

    asks = mix(4000, "killed")
    async with ledger.engine() as engine:
        driver = Driver(engine, at_once=300)
        await _while_flowing(driver, asks, 2000, strike)
        before = [ask for ask in dict.fromkeys(asks[:1000]) if isinstance(driver.told[ask][0], LedgerEntry)]
        await driver.run(before)
        assert all(told.replayed for ask in before for told in driver.told[ask][-1:] if isinstance(told, LedgerEntry))
        await audit(ledger, driver, [*asks, *before])
    assert handler.alive()
    for word in ("thrown away", "made anew", "starting over"):
        assert word not in handler.log_text()


async def test_partitions_that_wander_between_two_handlers_find_their_old_stores(ledger: Ledger) -> None:
    """Each has a directory of its own, in which the partitions that it gets back are behind."""
    one, two = (
        ledger.service("handler", "--instance", name, state_dir=ledger.directory / name) for name in ("one", "two")
    )
    ledger.service("balances").start()
    ledger.await_handler(one.start())

    def swap() -> None:
        one.kill()
        two.start()

    stages: list[tuple[Callable[[], object], set[str]]] = [
        (two.start, {"one", "two"}),
        (two.kill, {"one"}),  # whose stores of what it gets back are behind
        (swap, {"two"}),  # whose stores are all behind
    ]
    async with ledger.engine() as engine:
        driver = Driver(engine, at_once=100)
        asks: list[Ask] = []
        for number, (change, owners) in enumerate(stages):
            during, after = mix(600, f"during-{number}"), mix(100, f"after-{number}")
            asks += [*during, *after]
            await _while_flowing(driver, during, 100, partial(_see, ledger, change, owners))
            await driver.run(after)
        await audit(ledger, driver, asks)
    assert max(_epochs(ledger)) >= 4, "one, two, one, two"
    for handler in (one, two):
        assert "thrown away" not in handler.log_text()


def _see(ledger: Ledger, change: Callable[[], object], owners: set[str]) -> None:
    """Make the change, and wait until these handlers share the partitions among them."""
    change()
    admin = ledger.wiring().clients.admin()
    eventually(lambda: _owners(admin, f"{ledger.name}.handler") == owners, within=40, every=0.2)


def _owners(admin: AdminClient, group: str) -> set[str]:
    """Return the names of the handlers that own partitions, if all partitions are owned."""
    try:
        members = admin.describe_consumer_groups([group])[group].result().members
    except KafkaException:  # the coordinator is busy
        return set()
    owned = {str(m.group_instance_id): len(m.assignment.topic_partitions) for m in members}
    if sum(owned.values()) < PARTITIONS:
        return set()
    return {name.removeprefix(f"{group}-") for name, count in owned.items() if count}


def _epochs(ledger: Ledger) -> list[int]:
    """Return the epoch of each partition's last writer."""
    wiring = ledger.wiring()
    last = [0] * PARTITIONS
    for batch in read_all(wiring.clients, wiring.topics.events, wiring.event_codec, range(PARTITIONS)):
        for stored in batch:
            last[stored.partition] = stored.event.writer_epoch
    wiring.close()
    return last
