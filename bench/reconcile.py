"""The reconciler: comparing alone, and a whole range of a real chain with PostgreSQL, in a process of its own.

The number of requests is told beside the least that the range could take: one for the logs of as many blocks, or as
many transfers, as are asked for at once, for each direction, and one for the last block of each such range.
"""

import asyncio
import math
import multiprocessing
import time
import uuid
from typing import Any, Final

from bench.chain import Poured, own_anvil, pour
from bench.ledger import Bench
from bench.memory import memory
from events.money import UNITS_PER_WHOLE
from events.types import EntryType
from partita.settings import Settings
from projections.database import Database
from projections.migrate import upgrade
from reconciler.chains import Token, known
from reconciler.matching import State, Terms, Transaction, match
from reconciler.ranges import reconcile_blocks
from reconciler.reading import ChainReader, Limits
from reconciler.reconcile import Reconciler
from reconciler.store import ChainStore
from reconciler.transfers import Expectation, Transfer
from reconciler.web3_chain import Web3Node

BLOCKS: Final = 10_000
PER_BLOCK: Final = 10
_WIDEST: Final = 2_000
_A_RANGE: Final = 3
"""Requests: logs by sender, logs by recipient, the last block."""
_BASE: Final = 1_000_000
_OURS: Final = f"0x{0xA1:040x}"
_ENTRIES_AT_ONCE: Final = 10_000
_SCALE: Final = UNITS_PER_WHOLE // 10**6
_MIB: Final = 1024 * 1024
_SPAWN: Final = multiprocessing.get_context("spawn")


def run(bench: Bench) -> dict[str, Any]:
    """Measure comparing alone, and a range of 10,000 blocks with 100,000 transfers on an EVM node of its own."""
    with own_anvil(Settings().cache_dir) as url:
        begun = time.perf_counter()
        poured = pour(url, _OURS, blocks=BLOCKS, per_block=PER_BLOCK, base=_BASE)
        made = time.perf_counter() - begun
        ranged = measured(bench.addresses["postgres_url"], url, poured)
    return {
        "transfers": BLOCKS * PER_BLOCK,
        "blocks": BLOCKS,
        "chain_made_in_seconds": round(made, 1),
        "compared_per_second": _comparing(),
        **ranged,
        "limit": "the processors, which PostgreSQL and the node share",
    }


def measured(postgres_url: str, url: str, poured: Poured, *, proofs: bool = False) -> dict[str, Any]:
    """Reconcile what was poured twice, in a process of its own, with entries for all; return rates and memory."""
    with _SPAWN.Pool(1) as pool:
        return pool.apply(_measure, (postgres_url, url, poured, proofs))


def _measure(
    postgres_url: str, url: str, poured: Poured, proofs: bool
) -> dict[str, Any]:  # by position, to another process
    database = Database(url=postgres_url, schema=f"bench_{uuid.uuid4().hex[:12]}_chain")
    return asyncio.run(_range(database, url, poured, proofs=proofs))


async def _range(database: Database, url: str, poured: Poured, *, proofs: bool) -> dict[str, Any]:
    await upgrade(database, folder="reconciler:migrations")
    store, node = ChainStore(database), Web3Node(url, timeout=60)
    chain, ours, usdc = known("anvil"), frozenset({_OURS}), poured.token
    limits = Limits(most_blocks=_WIDEST)
    reader = ChainReader(chain, [node], [usdc], ours, 0, limits, proofs=proofs)
    reconciler = Reconciler(chain=chain, reader=reader, store=store, terms=Terms(tokens={usdc.name: usdc}, ours=ours))
    await _enter(store, reader, poured)
    before, asked = memory().most, node.requests
    try:
        rates = [await _timed(reconciler, poured), await _timed(reconciler, poured)]
    finally:
        connection = await database.connect()
        await connection.execute(f'DROP SCHEMA "{database.schema}" CASCADE')
        await connection.close()
        await store.close()
        await node.close()
    blocks = poured.last - poured.first + 1
    return {
        "reconciled_per_second_first_time": rates[0],
        "reconciled_per_second_again": rates[1],
        "requests": (node.requests - asked) // 2,
        "requests_least": _A_RANGE * math.ceil(blocks / min(_WIDEST, limits.most_transfers // PER_BLOCK)),
        "memory_before_mib": before // _MIB,
        "memory_most_mib": memory().most // _MIB,
    }


async def _enter(store: ChainStore, reader: ChainReader, poured: Poured) -> None:
    """Write an entry for each transfer, as far as the values say which it is."""
    at, number = poured.first, 0
    while at <= poured.last:
        stretch = await reader.read(at, min(poured.last, at + 200))
        entries = [_expectation(number + place, transfer) for place, transfer in enumerate(stretch.transfers)]
        await store.expect("events", entries, {})
        at, number = stretch.last.number + 1, number + len(entries)


def _expectation(number: int, transfer: Transfer) -> Expectation:
    return Expectation(
        entry_id=f"0-{number}",
        recorded_at=number,
        account_id="bench",
        entry_type=EntryType.CREDIT,
        amount=transfer.value * _SCALE,
        asset="USDC",
        chain="anvil",
        tx_hash=transfer.tx_hash,
        token=transfer.token,
        sender=transfer.sender,
        recipient=transfer.recipient,
        log_index=transfer.log_index,
    )


def _comparing(count: int = 50_000) -> int:
    """Return how many transfers are compared with their entries in a second of this thread's processor time."""
    usdc = Token(asset="USDC", address=f"0x{0xC1:040x}", decimals=6)
    terms = Terms(tokens={usdc.name: usdc}, ours=frozenset({_OURS}))
    transfers = [
        Transfer(f"0x{n:064x}", 0, n, f"0x{n + 2**200:064x}", usdc.name, f"0x{0xB1:040x}", _OURS, _BASE + n)
        for n in range(count)
    ]
    pairs = [(_expectation(number, transfer), transfer) for number, transfer in enumerate(transfers)]
    begun = time.thread_time()
    for expectation, transfer in pairs:
        where = Transaction(transfer.tx_hash, State.DONE, transfer.block_number, transfer.block_hash)
        match(where, [expectation], [transfer], terms)
    return round(count / (time.thread_time() - begun))


async def _timed(reconciler: Reconciler, poured: Poured) -> int:
    begun = time.perf_counter()
    report = await reconcile_blocks(reconciler, poured.first, poured.last, finality=0)
    wanted = (poured.last - poured.first + 1) * PER_BLOCK
    assert (report.matched_count, report.discrepancy_count) == (wanted, 0), report
    return round(wanted / (time.perf_counter() - begun))
