"""The balances service when it, PostgreSQL or Kafka is killed in mid-stream: every row once."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from projections.balances import Balances
from projections.checks import check_all
from projections.queries import ReadModel
from projections.store import Store
from tests.projections.conftest import projecting
from tests.projections.log import TestLedger
from tests.support.stack import Stack

EVENTS = 20_000


@contextmanager
def process(ledger: TestLedger, /, **settings: Any) -> Iterator[subprocess.Popen[str]]:
    """Run the service as a process; it is killed at the end if it still runs."""
    command = [sys.executable, "-m", "tests.projections.service", ledger.service_arguments(**settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as service:
        try:
            yield service
        finally:
            service.kill()


async def reached(reader: ReadModel) -> int:
    return sum(position.next_sequence for position in (await reader.positions()).values())


async def until(reader: ReadModel, condition: Callable[[int], bool]) -> int:
    deadline = time.monotonic() + 60
    while not condition(count := await reached(reader)):
        assert time.monotonic() < deadline, f"stuck at {count}"
        await asyncio.sleep(0.005)
    return count


async def end_of_killed(ledger: TestLedger) -> None:
    """Wait until PostgreSQL has done what a killed service had sent: a commit may still be on its way."""
    store, deadline = Store(ledger.database, Balances()), time.monotonic() + 60
    await store.open()
    try:
        while not await store.take_over():
            assert time.monotonic() < deadline, "PostgreSQL does not let go of the connection"
            await asyncio.sleep(0.005)
    finally:
        await store.close()


def fill(ledger: TestLedger) -> None:
    writer = ledger.writer
    ledger.append(
        writer.reject(f"a-{n % 300}") if n % 10 == 9 else writer.post(f"a-{n % 300}") for n in range(EVENTS)
    )


async def everything_is_there_once(ledger: TestLedger, reader: ReadModel) -> None:
    await ledger.rows_are_the_log()
    assert [result for result in await check_all(ledger.database) if not result.ok] == []
    assert await reached(reader) == EVENTS + 4


async def test_killed_ten_times_in_mid_stream(ledger: TestLedger, reader: ReadModel) -> None:
    await asyncio.to_thread(fill, ledger)
    count = 0
    for _ in range(10):
        with process(ledger, batch_size=20) as service:
            before = count
            await until(reader, lambda now: now > before)  # noqa: B023  # called within this round
            service.kill()
            service.wait()
        await end_of_killed(ledger)
        count = await reached(reader)
        assert before < count < EVENTS, "the kill was to be in mid-stream"
    with process(ledger) as service:
        await reader.wait_for(ledger.wanted(), 60)
        service.terminate()
        output, _ = service.communicate(timeout=10)
        assert service.returncode == 0
        assert int(output) == EVENTS + 4 - count
    await everything_is_there_once(ledger, reader)


async def test_one_that_is_killed_is_replaced_by_the_one_in_reserve(ledger: TestLedger, reader: ReadModel) -> None:
    await asyncio.to_thread(fill, ledger)
    with process(ledger, batch_size=20) as first:
        await until(reader, lambda now: now > 1000)
        with process(ledger):
            first.kill()
            await reader.wait_for(ledger.wanted(), 60)
    await everything_is_there_once(ledger, reader)


@pytest.mark.parametrize("kill", [False, True])
async def test_postgresql_restarted_in_mid_stream(
    ledger: TestLedger,
    reader: ReadModel,
    stack: Stack,
    kill: bool,
) -> None:
    await asyncio.to_thread(fill, ledger)
    async with projecting(ledger, batch_size=50) as service:
        await service.until(lambda progress: progress.events > 1000)
        await asyncio.to_thread(stack.stop, "postgres", kill=kill)
        await asyncio.to_thread(stack.start, "postgres")
        await until(reader, lambda now: now == EVENTS + 4)
        service.stop.set()
        await service.task
    await everything_is_there_once(ledger, reader)


async def test_kafka_restarted_in_mid_stream(ledger: TestLedger, reader: ReadModel, stack: Stack) -> None:
    await asyncio.to_thread(fill, ledger)
    async with projecting(ledger, batch_size=50) as service:
        await service.until(lambda progress: progress.events > 1000)
        await asyncio.to_thread(stack.stop, "kafka", kill=True)
        await asyncio.to_thread(stack.start, "kafka")
        await reader.wait_for(ledger.wanted(), 60)
        await asyncio.to_thread(stack.stop, "kafka", kill=True)
        service.stop.set()
        try:
            async with asyncio.timeout(10):
                await service.task
        finally:
            await asyncio.to_thread(stack.start, "kafka")
    await everything_is_there_once(ledger, reader)
