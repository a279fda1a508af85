"""The reconciler: comparing alone, and a whole range with PostgreSQL, in a process of its own for the memory.

The chain is in memory behind the reconciler's port, so that reading costs what the reconciler makes it cost: the
number of requests is told beside the least that the range could take.
"""

import asyncio
import multiprocessing
import resource
import time
import uuid
from collections.abc import Collection, Mapping
from typing import Any, Final

from events.money import UNITS_PER_WHOLE
from events.types import EntryType
from projections.database import Database
from projections.migrate import upgrade
from reconciler.chains import Tag, Token, known
from reconciler.matching import State, Terms, Transaction, match
from reconciler.provider import Block, Header, NativeScan, Receipt, Receipts, Sent
from reconciler.ranges import reconcile_blocks
from reconciler.reading import ChainReader, Limits
from reconciler.reconcile import Reconciler
from reconciler.store import ChainStore
from reconciler.transfers import Expectation, Transfer

BLOCKS: Final = 10_000
PER_BLOCK: Final = 10
_WIDEST: Final = 2_000
_USDC: Final = Token(asset="USDC", address=f"0x{0xC1:040x}", decimals=6)
_OURS: Final = f"0x{0xA1:040x}"
_THEIRS: Final = f"0x{0xB1:040x}"
_MIB: Final = 1024
_SPAWN: Final = multiprocessing.get_context("spawn")


def _transfer(number: int) -> Transfer:
    block = number // PER_BLOCK
    where = f"0x{number:064x}", number % PER_BLOCK, block, f"0x{block + 2**200:064x}"
    return Transfer(*where, _USDC.name, _THEIRS, _OURS, 1_000_000 + number)


def _expectation(number: int) -> Expectation:
    return Expectation(
        entry_id=f"0-{number}",
        recorded_at=number,
        account_id="bench",
        entry_type=EntryType.CREDIT,
        amount=UNITS_PER_WHOLE + number * UNITS_PER_WHOLE // 10**6,
        asset="USDC",
        chain="anvil",
        tx_hash=f"0x{number:064x}",
        token=_USDC.name,
        sender=_THEIRS,
        recipient=_OURS,
    )


class _Memory:
    """A node whose chain is computed: ten transfers in each block, each of a transaction of its own."""

    name = "memory"
    requests = 0

    async def chain_id(self) -> int:
        return known("anvil").chain_id

    async def block(self, at: int | Tag | None) -> Block | None:
        self.requests += 1
        number = at if isinstance(at, int) else BLOCKS - 1
        return Block(number, f"0x{number + 2**200:064x}", f"0x{number - 1 + 2**200:064x}")

    async def token_transfers(
        self, first: int, last: int, _tokens: Collection[str], _ours: Collection[str]
    ) -> list[Transfer]:
        self.requests += 1
        return [_transfer(number) for number in range(first * PER_BLOCK, (last + 1) * PER_BLOCK)]

    async def header(self, number: int, tokens: Collection[str], ours: Collection[str]) -> Header | None:
        raise NotImplementedError

    async def receipts(self, number: int) -> Receipts | None:
        raise NotImplementedError

    async def native_scan(self, number: int, ours: Collection[str]) -> NativeScan | None:
        raise NotImplementedError

    async def receipt(self, tx_hash: str) -> Receipt | None:
        transfer = _transfer(int(tx_hash, 16))
        return Receipt(transfer.block_number, transfer.block_hash, True, (transfer,))

    async def transaction(self, _tx_hash: str) -> Sent | None:
        return None

    async def decimals(self, _token: str) -> int:
        return _USDC.decimals

    async def close(self) -> None:
        """Nothing is held."""


def run(addresses: Mapping[str, str]) -> dict[str, Any]:
    """Measure comparing alone, and a range of 10,000 blocks with 100,000 transfers."""
    with _SPAWN.Pool(1) as pool:
        ranged = pool.apply(_measure_range, (addresses["postgres_url"],))
    return {
        "transfers": BLOCKS * PER_BLOCK,
        "blocks": BLOCKS,
        "compared_per_second": _comparing(),
        **ranged,
        "limit": "one processor, which PostgreSQL shares; the chain is in memory",
    }


def _comparing(count: int = 50_000) -> int:
    """Return how many transfers are compared with their entries in a second of this thread's processor time."""
    terms = Terms(tokens={_USDC.name: _USDC}, ours=frozenset({_OURS}))
    pairs = [(_expectation(number), _transfer(number)) for number in range(count)]
    begun = time.thread_time()
    for expectation, transfer in pairs:
        where = Transaction(transfer.tx_hash, State.DONE, transfer.block_number, transfer.block_hash)
        match(where, [expectation], [transfer], terms)
    return round(count / (time.thread_time() - begun))


def _measure_range(url: str) -> dict[str, Any]:
    return asyncio.run(_range(Database(url=url, schema=f"bench_{uuid.uuid4().hex[:12]}_chain")))


async def _range(database: Database) -> dict[str, Any]:
    await upgrade(database, folder="reconciler:migrations")
    store = ChainStore(database)
    for begin in range(0, BLOCKS * PER_BLOCK, 10_000):
        await store.expect("events", [_expectation(number) for number in range(begin, begin + 10_000)], {})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours = frozenset({_OURS})
    limits = Limits(requests_per_second=1e6, most_blocks=_WIDEST)
    chain = known("anvil")
    node = _Memory()
    reader = ChainReader(chain, [node], [_USDC], ours, 0, limits)
    reconciler = Reconciler(
        chain=chain, reader=reader, store=store, terms=Terms(tokens={_USDC.name: _USDC}, ours=ours)
    )
    rates = [await _timed(reconciler), await _timed(reconciler)]
    connection = await database.connect()
    await connection.execute(f'DROP SCHEMA "{database.schema}" CASCADE')
    await connection.close()
    await store.close()
    return {
        "reconciled_per_second_first_time": rates[0],
        "reconciled_per_second_again": rates[1],
        "requests": node.requests // 2,
        "requests_least": BLOCKS // _WIDEST,
        "memory_before_mib": before // _MIB,
        "memory_most_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MIB,
    }


async def _timed(reconciler: Reconciler) -> int:
    begun = time.perf_counter()
    report = await reconcile_blocks(reconciler, 0, BLOCKS - 1, finality=0)
    assert (report.matched_count, report.discrepancy_count) == (BLOCKS * PER_BLOCK, 0), report
    return round(BLOCKS * PER_BLOCK / (time.perf_counter() - begun))
