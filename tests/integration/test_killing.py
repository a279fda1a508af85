"""Processes die in mid-stream: nothing that was acknowledged is lost, nothing is done twice, and it goes on."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from partita import IdempotencyConflict, OutcomeUnknown
from tests.support.driver import Driver, audit, mix
from tests.support.services import Ledger, Service, ledger_on
from tests.support.stack import NativeStack, native_stack

COMMANDS = 20_000
KILLS = 10


async def test_no_handler_means_unknown_and_asking_again_tells(ledger: Ledger) -> None:
    """Never "failed": the command is on the topic, and is done once when a handler comes."""
    first = ledger.service("handler").start()
    ledger.await_handler(first)
    first.kill()
    projection = ledger.service("balances").start()
    async with ledger.engine() as engine:
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(OutcomeUnknown) as unknown:
                await engine.create_entry("alice", 5, "credit", command_id="id", timeout=0.5)
            assert time.monotonic() - begun < 10  # the first call connects, too
            assert (unknown.value.account_id, unknown.value.command_id) == ("alice", "id")
            assert unknown.value.retriable
    ledger.service("handler").start()
    async with ledger.engine() as engine:
        entry = await engine.create_entry("alice", 5, "credit", command_id="id")
        assert entry.replayed, "the first of the three was accepted"
        assert (entry.version, str(entry.running_balance)) == (1, "5")
        assert await engine.get_balance("alice") == 5
    assert projection.alive()


async def test_an_id_is_remembered_by_the_next_handler(ledger: Ledger) -> None:
    handler = ledger.service("handler").start()
    ledger.await_handler(handler)
    async with ledger.engine() as engine:
        first = await engine.create_entry("alice", 5, "credit", command_id="id", metadata={"a": 1})
        handler.restart()
        again = await engine.create_entry("alice", 5, "credit", command_id="id", metadata={"a": 1})
        assert again.replayed
        assert again.to_dict() == first.to_dict() | {"replayed": True}
        with pytest.raises(IdempotencyConflict):
            await engine.create_entry("alice", 6, "credit", command_id="id", metadata={"a": 1})
        assert handler.stop() == 0
        handler.start()
        with pytest.raises(IdempotencyConflict):
            await engine.create_entry("alice", 6, "credit", command_id="id", metadata={"a": 1})
        assert (await engine.create_entry("alice", 1, "debit")).version == 2


async def test_handler_and_projection_are_killed_ten_times_while_20000_commands_flow(ledger: Ledger) -> None:
    handler, projection = ledger.service("handler").start(), ledger.service("balances").start()
    ledger.await_handler(handler)
    asks = mix(COMMANDS, "k")
    async with ledger.engine() as engine:
        driver = Driver(engine)
        flow = asyncio.create_task(driver.run(asks))
        for kill in range(1, KILLS + 1):
            await _reached(driver, flow, kill * COMMANDS // (KILLS + 2))
            await asyncio.to_thread(handler.restart)
            await asyncio.to_thread(projection.restart)
        async with asyncio.timeout(120):
            await flow
        assert (handler.starts, projection.starts) == (KILLS + 1, KILLS + 1)
        await audit(ledger, driver, asks)


async def test_two_handlers_share_the_work_and_one_takes_over(ledger: Ledger) -> None:
    handlers = [ledger.service("handler", "--instance", name).start() for name in ("one", "two")]
    ledger.service("balances").start()
    ledger.await_handler(handlers[0])
    asks = mix(4000, "two")
    async with ledger.engine() as engine:
        driver = Driver(engine, at_once=300)
        flow = asyncio.create_task(driver.run(asks))
        await _reached(driver, flow, 1000)
        handlers[0].kill()
        await _reached(driver, flow, 2500)
        handlers[0].start()
        async with asyncio.timeout(120):
            await flow
        await audit(ledger, driver, asks)


async def _reached(driver: Driver, flow: "asyncio.Task[None]", count: int) -> None:
    """Wait until so many are answered; a flow that failed says why."""
    reached = asyncio.create_task(driver.until(count))
    await asyncio.wait({reached, flow}, return_when=asyncio.FIRST_COMPLETED)
    if flow.done():
        flow.result()
    await reached


@pytest.fixture(scope="module")
def private_stack(tmp_path_factory: pytest.TempPathFactory, stack_cache: Path) -> Iterator[NativeStack]:
    """A stack that may be broken."""
    with native_stack(tmp_path_factory.mktemp("private"), cache=stack_cache) as stack:
        yield stack


@pytest.fixture
def breakable(private_stack: NativeStack, tmp_path: Path) -> Iterator[tuple[NativeStack, Ledger, list[Service]]]:
    """A ledger that runs on a stack that may be broken."""
    with ledger_on(private_stack.addresses, tmp_path) as ledger:
        services = [ledger.service(name).start() for name in ("handler", "balances")]
        ledger.await_handler(services[0])
        yield private_stack, ledger, services


@pytest.mark.stack
@pytest.mark.parametrize(
    ("part", "kill"),
    [
        pytest.param("kafka", False, marks=pytest.mark.chaos),
        pytest.param("kafka", True, marks=pytest.mark.chaos),
        ("postgres", False),
        ("postgres", True),
    ],
)
async def test_a_part_of_the_stack_is_restarted_in_mid_stream(
    breakable: tuple[NativeStack, Ledger, list[Service]], part: str, kill: bool
) -> None:
    """The services live through it."""
    stack, ledger, services = breakable
    asks = mix(4000, "r")
    async with ledger.engine() as engine:
        driver = Driver(engine, at_once=300, timeout=60)
        flow = asyncio.create_task(driver.run(asks))
        await _reached(driver, flow, 1000)
        await asyncio.to_thread(stack.stop, part, kill=kill)
        await asyncio.to_thread(stack.start, part)
        async with asyncio.timeout(120):
            await flow
        await audit(ledger, driver, asks)
    assert [service.alive() for service in services] == [True, True]
    assert {service.starts for service in services} == {1}
