"""The reconciler as a process, on a real chain whose node is slow and fails, killed again and again in mid-range."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bench.chain import Poured, pour
from partita.reconciliation import MIGRATIONS
from projections.migrate import upgrade
from reconciler.store import ChainStore
from reconciler.transfers import plain
from tests.reconciler.proxy import Proxy
from tests.reconciler.treasury import Treasury
from tests.reconciler.worlds import Anvil
from tests.support.services import Service, ledger_on
from tests.support.stack import Stack

KILLS = 20
BLOCKS = 420
PER_BLOCK = 3
A_RANGE = 5
MOST_REQUESTS_MORE = 8
"""After a process has got further, that many requests at most are answered before it is killed."""
TROUBLE = 0.03
WITHIN_S = 60.0

Key = tuple[str, int]


@pytest.fixture
async def treasury(full_stack: Stack, tmp_path: Path) -> AsyncIterator[Treasury]:
    """A ledger that nobody else's cursor is in."""
    with ledger_on(full_stack.addresses, tmp_path) as ledger:
        ledger.await_handler(ledger.service("handler").start())
        await upgrade(ledger.wiring().chain_database, folder=MIGRATIONS)
        async with ledger.engine() as engine:
            yield Treasury(Anvil(full_stack.addresses["evm_rpc_url"]), ledger, engine)


async def test_killed_twenty_times_in_mid_range_it_finds_all_and_nothing_twice(treasury: Treasury) -> None:
    rng = random.Random(20)
    url, vault = treasury.anvil.url, treasury.vault
    poured = await asyncio.to_thread(pour, url, vault, blocks=BLOCKS, per_block=PER_BLOCK, base=1_000_000)
    there = transfers(treasury.anvil, poured)
    assert len(there) == BLOCKS * PER_BLOCK
    named = {key for key in there if rng.random() < 0.6}
    await enter(treasury, poured, {key: there[key] for key in named})

    store = ChainStore(treasury.ledger.wiring().chain_database)
    proxy = Proxy(url, seed=20, trouble=TROUBLE, first=poured.first)
    proxy.widest = A_RANGE
    async with proxy.serving() as through:
        given = {"evm_rpc_url": SecretStr(through), "chain_tokens": (f"USDC:{poured.token.address}:6",)}
        options = treasury.settings(chain_start_block=poured.first, **given)
        service = treasury.ledger.service("reconciler", **options)
        at = poured.first - 1
        for _ in range(KILLS):
            service.start()
            at = await further(store, at, service)
            more = proxy.done.total() + rng.randrange(MOST_REQUESTS_MORE)
            await until(lambda more=more: proxy.done.total() >= more, service)  # type: ignore[misc]  # a default binds it
            await asyncio.to_thread(service.kill)
            at = await reached(store, at)
            assert at < poured.last, "it was at its end before it was killed so often"
        service.start()
        while at < poured.last:
            at = await further(store, at, service)
        assert await asyncio.to_thread(service.stop) == 0, service.log_text()[-3000:]

    rows = await store._fetch("SELECT * FROM {schema}.findings WHERE token = $1", poured.token.address)
    await store.close()
    found = {(row["tx_hash"], row["log_index"]): row for row in rows}
    assert {row["version"] for row in rows} == {1}, "what had been found was found anew, and was another"
    assert {key: int(row["value"]) for key, row in found.items()} == there
    kinds = Counter(row["kind"] for row in rows)
    assert kinds == {"matched": len(named), "missing_in_ledger": len(there) - len(named)}
    assert {key for key, row in found.items() if row["kind"] == "matched"} == named


def transfers(anvil: Anvil, poured: Poured) -> dict[Key, int]:
    """Return the values of all transfers, as the node itself tells them."""
    span = {"fromBlock": hex(poured.first), "toBlock": hex(poured.last), "address": poured.token.address}
    logs = anvil.ask("eth_getLogs", span)
    return {(log["transactionHash"], int(log["logIndex"], 16)): int(log["data"], 16) for log in logs}


async def enter(treasury: Treasury, poured: Poured, values: dict[Key, int]) -> None:
    named = {"chain": "anvil", "token": poured.token.address}
    head = {"account_id": treasury.account, "entry_type": "credit", "asset": "USDC"}
    entries = [
        {**head, "amount": plain(value, 6), "metadata": {**named, "transaction_hash": tx, "log_index": index}}
        for (tx, index), value in sorted(values.items())
    ]
    posted = await treasury.engine.create_entries(entries)
    assert not [error for error in posted if isinstance(error, Exception)]


async def reached(store: ChainStore, at: int) -> int:
    cursor = await store.cursor(31337)
    return max(at, cursor.number) if cursor else at


async def further(store: ChainStore, at: int, service: Service) -> int:
    """Wait until more blocks have been compared than up to `at`, and return up to which."""
    now = at

    async def moved() -> bool:
        nonlocal now
        now = await reached(store, at)
        return now > at

    await _wait(moved, service)
    return now


async def until(condition: Callable[[], bool], service: Service) -> None:
    async def holds() -> bool:
        return condition()

    await _wait(holds, service)


async def _wait(condition: Callable[[], Any], service: Service) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await condition():
            assert service.alive(), service.log_text()[-3000:]
            await asyncio.sleep(0.002)
