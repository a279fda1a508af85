"""`partita verify` on the real stack: it passes on an honest ledger, and names what was tampered with, for real."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from events.checkpoint import Checkpoint, sign
from events.follow import Ends, StoredEvent, read_all
from events.merkle import leaf_hash
from events.types import BatchEntryPosted, EntryPosted
from partita.cli import app
from partita.verify.run import Progress, verify
from tests.support.services import PARTITIONS, Ledger


async def broken(ledger: Ledger) -> dict[str, str]:
    """Return what does not hold, by the name of the check."""
    with closing(ledger.wiring()) as wiring:
        found = await verify(wiring, patience=0.5)
    results = ((place, result) for place, results in found.found.items() for result in results)
    return {f"{place} {result.name}": result.detail or "" for place, result in results if not result.ok}


def events(ledger: Ledger) -> list[StoredEvent]:
    with closing(ledger.wiring()) as wiring:
        partitions = range(wiring.partition_count())
        stretches = read_all(wiring.clients, wiring.topics.events, wiring.event_codec, partitions)
        return [stored for stretch in stretches for stored in stretch]


@asynccontextmanager
async def tampered(ledger: Ledger, change: str, *arguments: Any) -> AsyncIterator[None]:
    """Change the tables as a superuser who has triggers switched off, and put them right again."""
    connection = await asyncpg.connect(ledger.addresses["postgres_url"])
    schema = f'"{ledger.name}"'
    tables = (
        "entries",
        "changes",
        "rejections",
        "batch_steps",
        "balances",
        "accounts",
        "holds",
        "batches",
        "positions",
        "tiles",
    )
    try:
        await connection.execute("SET session_replication_role = replica")
        for table in tables:
            columns = await connection.fetchval(
                "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns "
                "WHERE table_schema = $1 AND table_name = $2 AND is_generated = 'NEVER'",
                ledger.name,
                table,
            )
            await connection.execute(
                f"CREATE TEMPORARY TABLE saved_{table} AS SELECT {columns} FROM {schema}.{table}"
            )
        status = await connection.execute(change.format(schema=schema), *arguments)
        assert status.rpartition(" ")[2] != "0", "nothing was changed"
        yield
    finally:
        async with connection.transaction():
            for table in tables:
                columns = await connection.fetchval(
                    "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns "
                    "WHERE table_name = $1 AND table_schema LIKE 'pg_temp%'",
                    f"saved_{table}",
                )
                await connection.execute(f"DELETE FROM {schema}.{table}")
                await connection.execute(f"INSERT INTO {schema}.{table} ({columns}) SELECT * FROM saved_{table}")
        await connection.close()


async def test_an_honest_ledger_holds(honest: Ledger) -> None:
    told: list[Progress] = []
    with closing(honest.wiring()) as wiring:
        found = await verify(wiring, on_progress=told.append)
    assert [result for results in found.found.values() for result in results if not result.ok] == []
    assert found.ok
    assert found.events == len(events(honest)) == told[-1].done
    checked = {place: {result.name: result.checked for result in results} for place, results in found.found.items()}
    assert checked["log"].keys() == {"I1", "I2", "I3", "I4", "I5", "I6"}
    assert checked["tables"]["I7 rows"] == found.events
    assert checked["tables"]["I8 tiles"] == PARTITIONS
    assert checked["log"]["I2"] >= 15
    assert checked["checkpoints"]["I5 checkpoints"] >= 15


def test_it_is_told_in_a_terminal_and_as_json(honest: Ledger) -> None:
    runner = CliRunner(env={**honest.environment(), "COLUMNS": "200"})
    shown = runner.invoke(app, ["verify"])
    assert shown.exit_code == 0, shown.output
    assert "every event has its row" in shown.stdout
    told = json.loads(runner.invoke(app, ["verify", "--json"]).stdout)
    assert told["ok"] is True
    assert {check["ok"] for check in told["checks"]} == {True}


def first(ledger: Ledger, account: str) -> StoredEvent:
    return next(
        stored
        for stored in events(ledger)
        if isinstance(stored.event, EntryPosted | BatchEntryPosted) and stored.event.account_id == account
    )


def append(ledger: Ledger, topic: str, partition: int, value: bytes) -> int:
    """Produce a record as anybody could who may write to the topic, and return its offset."""
    with closing(ledger.wiring()) as wiring:
        at = Ends(wiring.clients).stable(topic, [partition], timeout=10)[partition]
        producer = wiring.clients.producer()
        producer.produce(topic, value, b"forged", partition)
        assert producer.flush(10) == 0
    return at


CHANGES: Mapping[str, tuple[str, str]] = {
    "an amount": ("UPDATE {schema}.entries SET amount = amount + 1 WHERE entry_id = $1", "amount is 101"),
    "a reference": (
        "UPDATE {schema}.entries SET reference = 'x' WHERE entry_id = $1",
        "reference is x in the table, None",
    ),
    "a row": ("DELETE FROM {schema}.entries WHERE entry_id = $1", "its row is not there"),
    "a time": (
        "UPDATE {schema}.entries SET effective_at = effective_at - interval '1 day' WHERE entry_id = $1",
        "effective_at is",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_an_entry_that_was_changed_is_named(honest: Ledger, what: str) -> None:
    stored = first(honest, "ann")
    change, told = CHANGES[what]
    async with tampered(honest, change, f"{stored.partition}-{stored.event.sequence}"):
        found = await broken(honest)
    assert found["tables I7 rows"].startswith(
        f"partition {stored.partition}, sequence {stored.event.sequence}: {told}"
    )


async def test_what_was_recorded_before_is_not_held_against_the_tables(honest: Ledger) -> None:
    stored = first(honest, "ann")
    change, _ = CHANGES["a reference"]
    later = datetime.fromtimestamp(stored.event.recorded_at / 1e6 + 1e-3, tz=UTC)
    async with tampered(honest, change, f"{stored.partition}-{stored.event.sequence}"):
        with closing(honest.wiring()) as wiring:
            found = await verify(wiring, patience=0.5, since=later)
    assert found.ok
    (rows,) = (result for result in found.found["tables"] if result.name == "I7 rows")
    assert 0 < rows.checked < found.events


async def test_a_projection_that_has_stopped_is_named(honest: Ledger) -> None:
    stop = "UPDATE {schema}.positions SET halted = 'a gap' WHERE projection = 'balances' AND partition = 3"
    async with tampered(honest, stop):
        assert await broken(honest) == {"lag I9 halted": "balances, partition 3: a gap"}


async def test_a_tile_that_was_changed_is_named_before_anybody_asks_for_a_receipt(honest: Ledger) -> None:
    stored = first(honest, "ann")
    change = (
        "UPDATE {schema}.tiles SET hashes = set_byte(hashes, $2, 255 - get_byte(hashes, $2)) WHERE partition = $1"
    )
    async with tampered(honest, change, stored.partition, 32 * stored.event.sequence):
        found = await broken(honest)
    told = f"partition {stored.partition}, tile 0 of level 0: the hash of event {stored.event.sequence} is not that"
    assert found["tables I8 tiles"].startswith(told)


async def test_a_row_that_was_added_is_named(honest: Ledger) -> None:
    stored = first(honest, "ann")
    added = """
    INSERT INTO {schema}.entries SELECT (e).* FROM (
        SELECT jsonb_populate_record(e, jsonb_build_object('entry_id', '0-99', 'sequence', 99, 'version', 99,
            'batch_id', null, 'leg', null, 'legs', null, 'forced', null)) AS e
        FROM {schema}.entries AS e WHERE entry_id = $1
    ) AS forged
    """
    async with tampered(honest, added, f"{stored.partition}-{stored.event.sequence}"):
        found = await broken(honest)
    assert "sequence 99 comes after" in found["tables I5"]


@pytest.mark.parametrize(
    ("change", "check", "told"),
    [
        ("UPDATE {schema}.balances SET balance = 7 WHERE account_id = 'ben'", "I7 balances", "account ben"),
        ("UPDATE {schema}.balances SET held = 0 WHERE account_id = 'ben'", "I6 held", "account ben"),
        ("UPDATE {schema}.accounts SET status = 'OPEN' WHERE account_id = 'cyd'", "I7 accounts", "account cyd"),
        ("UPDATE {schema}.holds SET remaining = 1 WHERE account_id = 'ben'", "I7 holds", "account ben"),
        (
            "UPDATE {schema}.batches SET reversal_of = 'in-ben' WHERE batch_id = 'pay~undo'",
            "I7 batches",
            "batch pay~undo",
        ),
        (
            "UPDATE {schema}.changes SET reason = 'x' WHERE reason = 'audit'",
            "I7 rows",
            "reason is x in the table, audit",
        ),
        ("UPDATE {schema}.rejections SET code = 'X' WHERE command_id = 'too-much'", "I7 rows", "code is X"),
        ("DELETE FROM {schema}.batch_steps WHERE batch_id = 'pay'", "I7 rows", "its row is not there (batch_steps)"),
    ],
)
async def test_what_else_was_changed_is_named(honest: Ledger, change: str, check: str, told: str) -> None:
    async with tampered(honest, change):
        found = await broken(honest)
    assert told in found[f"tables {check}"], found


async def test_all_of_it_was_put_right_again(honest: Ledger) -> None:
    assert await broken(honest) == {}


async def test_a_command_that_nobody_has_taken_is_lag(honest: Ledger) -> None:
    """From here on what is in the topics stays there."""
    at = append(honest, honest.settings().topics.commands, 2, b"nobody is here to read it")
    assert (await broken(honest)) == {"lag I9 handler": f"partition 2: 1 from offset {at} on"}


async def test_an_event_that_takes_the_next_place_is_in_no_checkpoint(honest: Ledger) -> None:
    """It is written by somebody who knows the schema and counts well, and has no key."""
    found = events(honest)
    stored = first(honest, "ben")
    following = 1 + max(other.event.sequence for other in found if other.partition == stored.partition)
    with closing(honest.wiring()) as wiring:
        forged = wiring.event_codec.encode(stored.event._replace(sequence=following))
    append(honest, honest.settings().topics.events, stored.partition, forged)
    told = (await broken(honest))["checkpoints I5 checkpoints"]
    assert told == f"partition {stored.partition}: sequence {following} and 0 after it are in no checkpoint"


async def test_a_checkpoint_that_is_signed_again_with_a_shorter_tree_is_named(honest: Ledger) -> None:
    """By whoever has the key: the tree is one that the log once had."""
    settings = honest.settings()
    (signer,) = settings.signing_keys.signers()
    opened = next(stored for stored in events(honest) if stored.partition == 1)
    shorter = Checkpoint(f"{settings.origin}/1", 1, leaf_hash(opened.data))
    at = append(honest, settings.topics.checkpoints, 0, sign(shorter, [signer]).encode())
    found = await broken(honest)
    assert found["checkpoints I5 checkpoints"].startswith(
        f"checkpoint at offset {at}: partition 1 has 1 events, and had"
    )


async def test_an_event_that_was_forged_onto_the_topic_is_named(honest: Ledger) -> None:
    """Last of this module, like the two before: what is in the log stays there."""
    stored = first(honest, "ann")
    at = append(honest, honest.settings().topics.events, stored.partition, stored.data)
    found = await broken(honest)
    assert f"partition {stored.partition}, offset {at}: a duplicate" in found["log I5 log"]


def test_a_ledger_that_is_not_there_is_told(honest: Ledger) -> None:
    runner = CliRunner(env={**honest.environment(), "PARTITA_LEDGER": "nobody"})
    told = runner.invoke(app, ["verify", "--json"])
    assert told.exit_code == 4
    assert json.loads(told.stdout)["error"] in ("TopicMissing", "ReadModelUnavailable")
