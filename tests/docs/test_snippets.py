"""Everything in the documents that can be run is run, on the real stack, and does what the documents say."""

import asyncio
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from partita import LedgerEntry
from tests.docs.pages import blocks, read, section
from tests.support.services import Ledger, eventually, ledger_on
from tests.support.stack import Stack

PARTITIONS = 6
_LIMIT = 90


@dataclass
class Told:
    """A ledger of its own, and what was printed on it: by the programs, each run twice, and by commands."""

    ledger: Ledger
    readme: list[str]
    commands: list[str]
    typed: dict[str, str]


@pytest.fixture(scope="module")
def told(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    directory = tmp_path_factory.mktemp("docs")
    with ledger_on(stack.addresses, directory, partitions=PARTITIONS) as ledger:
        handler = ledger.service("handler").start()
        ledger.service("balances").start()
        ledger.await_handler(handler)
        example, _ = blocks("README.md", "python")
        (program,) = blocks("docs/commands.md", "python")
        readme = [run(ledger, "-c", example) for _ in range(2)]
        commands = [run(ledger, "-c", program) for _ in range(2)]
        typed = {words[0]: run(ledger, "-m", "partita", *words) for words in typed_in_the_readme()}
        eventually(lambda: len(asyncio.run(statement(ledger))) >= 3)
        asyncio.run(hold_and_pay(ledger))
        yield Told(ledger, readme, commands, typed)


def typed_in_the_readme() -> list[list[str]]:
    """Return the commands that the README types, without those on the stack, which here is another."""
    lines = section(read("README.md"), "From a terminal").splitlines()
    typed = [shlex.split(line)[1:] for line in lines if line.startswith(".venv/bin/partita ")]
    return [words for words in typed if words[0] != "stack"]


def run(ledger: Ledger, *arguments: str) -> str:
    """Run Python with the settings of `ledger`, in a directory of no meaning, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=ledger.environment(),
        cwd=ledger.directory,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


async def hold_and_pay(ledger: Ledger) -> None:
    """Place a hold whose time has come and post a batch, and return when the tables have them."""
    payout = [
        {"account_id": name, "amount": "4", "entry_type": "credit", "asset": "EUR"} for name in ("erin", "frank")
    ]
    async with ledger.engine() as engine:
        await engine.place_hold("alice", "2.5", expires_at=datetime(2026, 5, 31, tzinfo=UTC), command_id="till-7")
        await engine.create_batch(payout, command_id="payout-9")
        assert (await engine.list_holds("alice")).holds
        assert (await engine.get_batch("payout-9")).entries


async def statement(ledger: Ledger) -> list[LedgerEntry]:
    async with ledger.engine() as engine:
        return list((await engine.list_entries("alice")).entries)


def test_the_example_of_the_readme_prints_what_it_says(told: Told) -> None:
    printed = next(block for block in blocks("README.md", "text") if block.startswith("entry "))
    assert told.readme == [printed, printed]


def test_the_example_of_batches_and_locks_prints_what_it_says(stack: Stack, tmp_path: Path) -> None:
    """On a ledger of its own, since the others count what is on theirs."""
    _, example = blocks("README.md", "python")
    printed = next(block for block in blocks("README.md", "text") if block.startswith("['erin: "))
    with ledger_on(stack.addresses, tmp_path) as ledger:
        handler = ledger.service("handler").start()
        ledger.service("balances").start()
        ledger.await_handler(handler)
        assert [run(ledger, "-c", example) for _ in range(2)] == [printed, printed]


async def test_the_example_of_the_readme_posts_one_entry(told: Told) -> None:
    first = (await statement(told.ledger))[0]
    assert (first.command_id, first.amount, first.running_balance) == ("invoice-7", Decimal(100), Decimal(100))
    assert (first.reference, first.metadata) == ("invoice 7", {"channel": "web"})


def test_the_program_without_partita_is_told_its_outcome(told: Told) -> None:
    assert told.commands == [
        "entry 3-3, replayed: False\nbalance 1350.00 at version 2\n",
        "entry 3-3, replayed: True\nbalance 1350.00 at version 2\n",
    ]


def test_the_program_without_partita_does_not_import_it() -> None:
    (program,) = blocks("docs/commands.md", "python")
    imported = set(re.findall(r"^(?:from|import) (\w+)", program, re.MULTILINE))
    assert imported - sys.stdlib_module_names == {"confluent_kafka"}


async def test_the_program_without_partita_posts_one_entry(told: Told) -> None:
    second = (await statement(told.ledger))[1]
    assert (second.command_id, second.amount) == ("payroll-2026-05-alice", Decimal(1250))
    assert (second.reference, second.metadata) == ("salary May 2026", {"cost_center": "R&D"})
    assert second.effective_at.isoformat() == "2026-05-31T12:00:00+00:00"


async def answers(ledger: Ledger, statements: list[str]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Run statements one after the other as a reader who may change nothing; return them with their rows."""
    connection = await asyncpg.connect(ledger.addresses["postgres_url"])
    try:
        async with connection.transaction(readonly=True):
            return [(sql, [dict(row) for row in await connection.fetch(sql)]) for sql in statements]
    finally:
        await connection.close()


async def test_the_sql_of_the_tables_page_answers(told: Told) -> None:
    path, *queries = blocks("docs/tables.md", "sql")
    assert path == "SET search_path TO ledger;\n"
    (_, *found) = await answers(told.ledger, [path.replace("ledger", told.ledger.name), *queries])
    for sql, rows in found:
        assert rows, sql
    by_first_word = {next(iter(rows[0])): rows for _, rows in found}
    assert [rows for _, rows in found if "wrong" in rows[0]] == [[{"wrong": 0}]] * 2
    assert {row["balance"] for _, rows in found if "balance" in rows[0] for row in rows} == {Decimal("1362.5")}
    assert by_first_word["code"] == [
        {"code": "InsufficientFunds", "commands": 1, "largest_shortfall": Decimal(150)},
    ]
    assert by_first_word["channel"] == [{"channel": "web", "entries": 1}]
    assert by_first_word["status"] == [
        {"status": "OPEN", "asset": "USD", "spendable": Decimal(1360), "version": 4},
    ]
    assert [(row["account_id"], row["status"]) for row in by_first_word["leg"]] == [
        ("erin", "POSTED"),
        ("frank", "POSTED"),
    ]
    assert [(row["batches"], row["in_flight_since"]) for row in by_first_word["batches_are"]] == [(1, None)]
    for first in ("hold_id", "expires_at"):
        assert [(row["hold_id"], row["remaining"]) for row in by_first_word[first]] == [("till-7", Decimal("2.5"))]
    assert len(by_first_word["partition"]) == PARTITIONS


async def test_the_sql_of_the_operations_page_answers(told: Told) -> None:
    queries = [sql.replace("ledger.", f"{told.ledger.name}.") for sql in blocks("docs/operations.md", "sql")]
    ((_, rows),) = await answers(told.ledger, queries)
    assert [row["halted"] for row in rows] == [None] * PARTITIONS


def test_the_commands_of_the_readme_do_what_they_say(told: Told) -> None:
    assert list(told.typed) == ["post", "balance", "statement"]
    assert re.search(r"running balance\s+1362\.5\s", told.typed["post"])
    assert told.typed["balance"].endswith(" USD\n")
    assert "invoice 7" in told.typed["statement"]


def test_rejections_can_be_read_by_their_exit_status(told: Told) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "partita", "post", "nobody", "10", "--debit", "--json"],
        env=told.ledger.environment(),
        capture_output=True,
        text=True,
        timeout=_LIMIT,
    )
    assert done.returncode == 3
    assert '"error": "InsufficientFunds"' in done.stdout
