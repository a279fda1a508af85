"""Two hundred cases on a real node behind proxies that fail in every way and lie about one block.

No transfer is lost, none is counted twice, and nothing is matched that does not match; what a lie hinders is done
when it has ended. A seed is one case, and is the same again: `pytest tests/reconciler/test_lies.py -k seed-17`.
"""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from projections.database import Database
from projections.migrate import upgrade
from reconciler.chains import NATIVE, known
from reconciler.errors import ChainUnavailable, ProvidersDisagree
from reconciler.matching import Kind, Terms
from reconciler.provider import Node
from reconciler.ranges import reconcile_blocks
from reconciler.reading import ChainReader, Limits
from reconciler.reconcile import Reconciler
from reconciler.report import Report
from reconciler.store import ChainStore
from reconciler.web3_chain import Web3Node
from tests.reconciler.history import OURS, Book, History, a_book, made_on
from tests.reconciler.proxy import LIES, Lie, Proxy
from tests.reconciler.samples import ETH
from tests.reconciler.test_node import at_once
from tests.reconciler.worlds import Anvil
from tests.support.stack import Stack

SEEDS = range(200)
SEEN: Counter[str] = Counter()
"""What the proxies of all seeds did."""
SOMETIMES = 0.3
LIMITS = Limits(tries=14)
_CHAIN = known("anvil")
_HANGING_SEEDS = 20


@pytest.fixture(scope="module")
def history(full_stack: Stack) -> History:
    return made_on(Anvil(full_stack.addresses["evm_rpc_url"]))


@pytest.fixture(scope="module")
def tables(stack: Stack) -> Iterator[Database]:
    made = Database(url=stack.addresses["postgres_url"], schema=f"t{uuid.uuid4().hex[:12]}_chain")
    asyncio.run(upgrade(made, folder="reconciler:migrations"))
    yield made
    asyncio.run(_execute(made, f'DROP SCHEMA "{made.schema}" CASCADE'))


async def _execute(database: Database, statement: str) -> None:
    connection = await database.connect()
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def store(tables: Database) -> AsyncIterator[ChainStore]:
    emptied = ("expectations", "findings", "open_entries", "taken_up")
    filled = ", ".join(f'"{tables.schema}".{name}' for name in emptied)
    await _execute(tables, f"SET session_replication_role = replica; TRUNCATE {filled}")  # without its triggers
    made = ChainStore(tables)
    yield made
    await made.close()


@dataclass(frozen=True)
class Case:
    """What one seed is: which nodes there are, what the last of them lies about, and the entries."""

    seed: int
    nodes: int
    proofs: bool
    lie: Lie | None
    book: Book


def case_of(seed: int, history: History) -> Case:
    rng = random.Random(seed)
    nodes, proofs = [(1, False), (1, True), (2, False), (1, True), (2, False), (2, True)][seed % 6]
    lie = None if (nodes, proofs) == (1, False) else a_lie(history, rng, LIES[seed // 6 % len(LIES)])
    return Case(seed, nodes, proofs, lie, a_book(history, rng))


def a_lie(history: History, rng: random.Random, kind: str, often: float | None = None) -> Lie:
    about = rng.choice([log for log in history.logs if log.way != "internal"])
    number = about.block - (kind == "behind")
    drawn = rng.choice([1.0, SOMETIMES])
    return Lie(kind, number, about.block_hash, (about.tx_hash, about.index), rng.random() < 0.5, often or drawn)


@asynccontextmanager
async def reconciling(
    case: Case, history: History, store: ChainStore, *, is_troubled: bool = True
) -> AsyncIterator[Reconciler]:
    """Yield what compares the ledger with the chain, through the proxies of the case."""
    hangs = case.seed % _HANGING_SEEDS == 0
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        for number in range(case.nodes):
            is_last = number == case.nodes - 1
            proxy = Proxy(
                history.url,
                case.seed * 10 + number,
                trouble=0.25 if is_troubled else 0.0,
                lie=case.lie if is_last else None,
                first=history.first,
                places=history.places,
                may_hang=hangs,
            )
            node = Web3Node(await stack.enter_async_context(proxy.serving()), timeout=0.3 if hangs else 10)
            stack.push_async_callback(node.close)
            stack.callback(lambda proxy=proxy: SEEN.update(proxy.done))  # type: ignore[misc]  # a default binds it
            nodes.append(node)
        reader = ChainReader(
            _CHAIN, nodes, [history.token], OURS, finality=0, limits=LIMITS, proofs=case.proofs, sleep=at_once
        )
        terms = Terms(tokens={history.token.name: history.token, NATIVE: ETH}, ours=OURS)
        yield Reconciler(chain=_CHAIN, reader=reader, store=store, terms=terms)


async def found_in(store: ChainStore) -> dict[str | tuple[str, int], dict[str, Any]]:
    rows = await store._fetch(
        "SELECT * FROM {schema}.findings AS f WHERE kind <> 'withdrawn' AND NOT EXISTS ("
        "SELECT FROM {schema}.findings AS n WHERE n.finding_id = f.finding_id AND n.version = f.version + 1)"
    )
    return {row["entry_id"] or (row["tx_hash"], row["log_index"]): dict(row) for row in rows}


def what_is_wrong(
    rows: dict[str | tuple[str, int], dict[str, Any]], case: Case, history: History, report: Report | None
) -> list[str]:
    """Return all that was found and is not so; with a report also what was not found."""
    truth = {(log.tx_hash, log.index): log for log in history.logs}
    wanted = case.book.at(report.settled_block if report else history.last)
    wrong = []
    for key, row in rows.items():
        log = truth.get((row["tx_hash"], row["log_index"]))
        facts = (row["value"], row["sender"], row["recipient"], row["block_hash"])
        is_so = log is not None and facts == (log.value, log.sender, log.recipient, log.block_hash)
        if row["kind"] == Kind.MATCHED and not is_so:
            wrong.append(f"matched with what the chain does not have: {row}")
        if row["kind"] != wanted.get(key) and not _is_excused(row, case):
            wrong.append(f"{key} is {wanted.get(key)}, not {row['kind']}")
    matched = [(row["tx_hash"], row["log_index"]) for row in rows.values() if row["kind"] == Kind.MATCHED]
    wrong += [f"{key} is matched {count} times" for key, count in Counter(matched).items() if count > 1]
    if report is not None:
        wrong += [f"{key} is not found to be {kind}" for key, kind in wanted.items() if key not in rows]
        told = {
            d.ledger.entry_id if d.ledger else (d.transaction_hash, d.chain and d.chain.log_index)
            for d in report.discrepancies
        }
        others = {key for key, row in rows.items() if row["kind"] != Kind.MATCHED}
        if told != others or report.matched_count != len(matched):
            wrong.append(f"the report is not what was found: {report.matched_count}, {told}")
    return wrong


def _is_excused(row: dict[str, Any], case: Case) -> bool:
    """Whether a node that is behind explains it: of what it does not know nothing is known, and it is asked again."""
    may_be = (Kind.MISSING_ON_CHAIN, Kind.NOT_YET_FINAL)
    return case.lie is not None and case.lie.kind == "behind" and row["kind"] in may_be


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_whatever_nodes_do_no_transfer_is_lost_or_counted_twice_or_matched_with_what_is_not_so(
    history: History, store: ChainStore, seed: int
) -> None:
    case = case_of(seed, history)
    await store.expect("events", case.book.entries, {})
    lie = case.lie
    print(f"seed {seed}: {case.nodes} nodes, proofs {case.proofs}, {lie}")
    report, error = None, None
    async with reconciling(case, history, store) as reconciler:
        try:
            report = await reconcile_blocks(reconciler, history.first, history.last, finality=0)
        except (ChainUnavailable, ProvidersDisagree) as trouble:
            error = trouble
    assert what_is_wrong(await found_in(store), case, history, report) == [], seed
    if lie is None:
        assert error is None, f"seed {seed}: {error}"
    elif lie.kind != "behind" and lie.often == 1:
        assert error is not None, f"seed {seed}: a lie that is told always was not found out"
    if report is None or report.end_block < history.last or lie is not None:
        honest = replace(case, lie=None)
        async with reconciling(honest, history, store, is_troubled=False) as reconciler:
            report = await reconcile_blocks(reconciler, history.first, history.last, finality=0)
        assert what_is_wrong(await found_in(store), honest, history, report) == [], seed
        assert report.end_block == history.last


def test_every_trouble_and_every_lie_was_met(history: History) -> None:
    """Runs after the seeds, when all of them did."""
    if {"drop", "error", "busy", "cut", "delay", "limit", "hang", "lie"} - SEEN.keys():
        pytest.skip("not all of the seeds were run")
    cases = [case_of(seed, history) for seed in SEEDS]
    kinds = Counter((case.lie.kind, case.nodes, case.proofs) for case in cases if case.lie)
    assert {kind for kind, _, _ in kinds} == {*LIES}
    assert all(kinds[kind, nodes, proofs] >= 4 for kind in LIES for nodes, proofs in ((1, True), (2, False)))


@pytest.mark.parametrize("kind", [kind for kind in LIES if kind not in ("behind", "removed")])
async def test_a_reader_that_does_not_hold_answers_against_blocks_believes_the_lie(
    history: History, store: ChainStore, kind: str
) -> None:
    """What the cases above look for would be seen: without proofs, one node's lie is found by them."""
    rng = random.Random(1)
    lie = a_lie(history, rng, kind, often=1.0)
    book = right_book(history)
    case = Case(1, 1, True, replace(lie, everywhere=True), book)
    await store.expect("events", book.entries, {})
    async with reconciling(case, history, store, is_troubled=False) as reconciler:
        with pytest.raises(ChainUnavailable):
            await reconcile_blocks(reconciler, history.first, history.last, finality=0)
    assert what_is_wrong(await found_in(store), case, history, None) == []
    trusting = replace(case, proofs=False)
    async with reconciling(trusting, history, store, is_troubled=False) as reconciler:
        report = await reconcile_blocks(reconciler, history.first, history.last, finality=0)
    assert what_is_wrong(await found_in(store), trusting, history, report) != []


def right_book(history: History) -> Book:
    """Return entries that are all right, one for each transfer that needs one."""

    class Always(random.Random):
        def choice(self, seq: Any) -> Any:
            return seq[0]

    return a_book(history, Always(0))
