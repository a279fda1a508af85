"""Waiting for positions: one reader for all, bounded, and told at once of a halt."""

import asyncio

import pytest

from projections.errors import ReadModelBehind, ReadModelUnavailable
from projections.records import PositionRow
from projections.waiting import Positions, Waiting


class Tables:
    """Positions that a test moves by hand."""

    def __init__(self, **halted: str) -> None:
        self.rows: dict[int, PositionRow] = {}
        self.reads = 0
        self.error: ReadModelUnavailable | None = None

    def move(self, partition: int, next_sequence: int, halted: str | None = None) -> None:
        self.rows[partition] = PositionRow(partition, 0, next_sequence, None, halted)

    async def read(self) -> Positions:
        self.reads += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return dict(self.rows)


async def test_a_wait_ends_when_every_partition_has_passed_its_sequence() -> None:
    tables = Tables()
    waiting = Waiting(tables.read)
    tables.move(0, 5)
    waiter = asyncio.create_task(waiting.wait_for({0: 4, 1: 0}, 10))
    while tables.reads < 3:
        await asyncio.sleep(0)
        if tables.reads:
            await asyncio.sleep(0.001)
    assert not waiter.done()
    tables.move(1, 1)
    await waiter
    await waiting.close()


async def test_what_is_known_needs_no_reading() -> None:
    tables = Tables()
    tables.move(0, 5)
    waiting = Waiting(tables.read)
    await waiting.wait_for({0: 4}, 10)
    reads = tables.reads
    await waiting.wait_for({0: 3}, 10)
    assert tables.reads == reads
    waiting.forget()
    await waiting.wait_for({0: 3}, 10)
    assert tables.reads > reads
    await waiting.close()


async def test_a_wait_that_is_over_says_how_far_it_got() -> None:
    tables = Tables()
    tables.move(3, 8)
    waiting = Waiting(tables.read)
    with pytest.raises(ReadModelBehind) as caught:
        await waiting.wait_for({3: 9}, 0.05)
    assert caught.value.details["partition"] == 3
    assert (caught.value.details["wanted"], caught.value.details["reached"]) == (9, 7)
    with pytest.raises(ReadModelBehind, match="sequence None"):
        await waiting.wait_for({4: 0}, 0.05)
    await waiting.close()


async def test_a_halted_partition_is_told_at_once() -> None:
    tables = Tables()
    tables.move(0, 8, halted="a gap")
    waiting = Waiting(tables.read)
    async with asyncio.timeout(5):
        await waiting.wait_for({0: 7}, 60)
        with pytest.raises(ReadModelBehind, match="a gap"):
            await waiting.wait_for({0: 8, 1: 9}, 60)
    await waiting.close()


async def test_thousands_wait_with_one_reader() -> None:
    tables = Tables()
    waiting = Waiting(tables.read)
    waiters = [asyncio.create_task(waiting.wait_for({0: n % 100}, 30)) for n in range(5000)]
    for n in range(0, 101, 10):
        tables.move(0, n)
        await asyncio.sleep(0.005)
    await asyncio.gather(*waiters)
    assert tables.reads < 200
    await waiting.close()


async def test_an_unreachable_database_ends_every_wait_and_a_later_one_tries_again() -> None:
    tables = Tables()
    tables.error = ReadModelUnavailable("gone")
    waiting = Waiting(tables.read)
    results = await asyncio.gather(*(waiting.wait_for({0: 1}, 10) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [ReadModelUnavailable] * 5
    tables.error = None
    tables.move(0, 2)
    await waiting.wait_for({0: 1}, 10)
    await waiting.close()


async def test_closing_ends_the_waits() -> None:
    waiting = Waiting(Tables().read)
    waiter = asyncio.create_task(waiting.wait_for({0: 1}, 60))
    await asyncio.sleep(0)
    await waiting.close()
    with pytest.raises(ReadModelUnavailable):
        await waiter
