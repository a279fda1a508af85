"""Nodes that fail, a process that is killed, a chain that reorganises: what is found in the end is what is so."""

import asyncio
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from projections.database import Database
from reconciler.chains import NATIVE, Token, known
from reconciler.matching import Terms
from reconciler.reading import ChainReader
from reconciler.reconcile import Reconciler
from reconciler.service import ReconcilerService
from reconciler.store import ChainStore
from reconciler.transfers import Transfer
from tests.reconciler.samples import ETH, OTHER, STRANGER, VAULT, entry
from tests.reconciler.test_node import OURS, UNHURRIED, at_once
from tests.reconciler.worlds import Fake, FaultyNode

PATIENT = replace(UNHURRIED, tries=60, most_blocks=6)
KILLS = 20


class _Entries:
    """Entries that are written straight into the table: the log is another test's."""

    async def catch_up(self) -> int:
        return 0


def busy(seed: int) -> tuple[Fake, Token, random.Random]:
    """Return a chain with a token, and what the rest of the story is drawn from."""
    fake = Fake()
    return fake, Token(asset="USDC", address=fake.deploy(6), decimals=6), random.Random(seed)


def grow(fake: Fake, usdc: Token, rng: random.Random, blocks: int) -> list[Transfer]:
    """Mine blocks with transfers to us and others, and return ours."""
    made = []
    for _ in range(blocks):
        fake.mine()
        for _ in range(rng.choice([0, 1, 2, 4])):
            tx = fake.add(usdc.name, STRANGER, rng.choice([VAULT, VAULT, OTHER]), [rng.randrange(1, 9) * 10**6])
            made += [t for t in fake.blocks[-1].sent[tx][2] if t.recipient == VAULT]
    return made


def service_of(database: Database, fake: Fake, usdc: Token, seed: int) -> ReconcilerService:
    chain = known("anvil")
    reader = ChainReader(chain, [FaultyNode(fake, seed)], [usdc], OURS, finality=0, limits=PATIENT, sleep=at_once)
    terms = Terms(tokens={usdc.name: usdc, NATIVE: ETH}, ours=OURS)
    entries: Any = _Entries()
    return ReconcilerService(
        reconciler=Reconciler(chain=chain, reader=reader, store=ChainStore(database), terms=terms),
        expectations=entries,
        resolutions=entries.catch_up,
        start_block=1,
        poll=0.001,
    )


async def until_reached(service: ReconcilerService, head: int) -> None:
    stop = asyncio.Event()
    async with asyncio.timeout(60):
        await service.run(stop, lambda done: stop.set() if done.reached == head else None)


async def killed(service: ReconcilerService, rng: random.Random) -> None:
    """Run the service, and end it after so many requests, at any of its steps: nothing of it goes on."""
    task = asyncio.create_task(service.run(asyncio.Event()))
    (node,) = service.reconciler.reader.nodes
    assert isinstance(node, FaultyNode)
    wanted = rng.randrange(1, 30)
    async with asyncio.timeout(30):
        while node.asked < wanted:  # noqa: ASYNC110  # it runs in this very loop
            await asyncio.sleep(0)
    for _ in range(rng.randrange(20)):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await service.reconciler.store.close()


@pytest.mark.parametrize("seed", range(6))
async def test_killed_again_and_again_while_blocks_are_replaced_it_finds_what_is_so(
    database: Database, seed: int
) -> None:
    fake, usdc, rng = busy(seed)
    store = ChainStore(database)
    named: dict[str, str] = {}
    reached: set[int] = set()
    cut_short = 0
    for round_number in range(KILLS):
        made = grow(fake, usdc, rng, 8)
        expected = [
            entry(round_number * 100 + number, t.value // 10**6, tx_hash=t.tx_hash, log_index=t.log_index)
            for number, t in enumerate(made)
            if rng.random() < 0.7
        ]
        await store.expect("events", expected, {})
        named |= {e.tx_hash: e.entry_id for e in expected}
        await killed(service_of(database, fake, usdc, seed * 100 + round_number), rng)
        cursor = await store.cursor(31337)
        reached.add(cursor.number if cursor else -1)
        cut_short += cursor is None or cursor.number < fake.head()
        if rng.random() < 0.3:
            fake.reorganise(rng.randrange(1, 9))
    assert len(reached) > 3, "it had got somewhere"
    assert cut_short > 3, "and was killed before the end"
    service = service_of(database, fake, usdc, seed)
    await until_reached(service, fake.head())

    truth = {t.key: t for b in fake.blocks for _, _, ts in b.sent.values() for t in ts if t.recipient == VAULT}
    there = {tx for tx, _ in truth}
    rows = await store._fetch(
        "SELECT * FROM {schema}.findings AS f WHERE NOT EXISTS (SELECT FROM {schema}.findings AS n "
        "WHERE n.finding_id = f.finding_id AND n.version = f.version + 1)"
    )
    kinds = Counter(row["kind"] for row in rows)
    matched = {(row["tx_hash"], row["log_index"]): row for row in rows if row["kind"] == "matched"}
    lacking = {(row["tx_hash"], row["log_index"]) for row in rows if row["kind"] == "missing_in_ledger"}
    assert set(matched) == {key for key in truth if key[0] in named}
    assert lacking == {key for key in truth if key[0] not in named}
    assert kinds["matched"] == len(matched), "none is counted twice"
    for key, row in matched.items():
        assert (row["entry_id"], int(row["value"])) == (named[key[0]], truth[key].value)
        assert row["block_hash"] == truth[key].block_hash
    gone = {row["tx_hash"] for row in rows if row["kind"] in ("reorganised", "missing_on_chain")}
    assert gone == {tx for tx in named if tx not in there}
    await service.reconciler.store.close()
    await store.close()
