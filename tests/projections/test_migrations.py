"""The migrations on a real PostgreSQL."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal

import asyncpg
import pytest
from sqlalchemy import CheckConstraint, Constraint

from events.types import AccountStatus
from projections.checks import check_all
from projections.database import Database
from projections.errors import ReadModelUnavailable
from projections.migrate import differences, downgrade, upgrade
from projections.queries import ReadModel
from projections.tables import metadata
from tests.support.stack import Stack


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    made = Database(url=stack.addresses["postgres_url"], schema=f"t{uuid.uuid4().hex[:12]}")
    yield made
    connection = await made.connect()
    await connection.execute(f"DROP SCHEMA IF EXISTS {made.schema} CASCADE")
    await connection.close()


async def tables_of(database: Database) -> set[str]:
    connection = await database.connect()
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", database.schema)
        return {row[0] for row in rows}
    finally:
        await connection.close()


async def test_the_migrations_add_up_to_the_tables(database: Database) -> None:
    await upgrade(database)
    assert await differences(database) == []
    assert await tables_of(database) == {*metadata.tables, "migrations"}


def is_check(constraint: Constraint) -> bool:
    return isinstance(constraint, CheckConstraint)


async def test_the_constraints_have_the_names_that_the_tables_give_them(database: Database) -> None:
    """Alembic does not compare check constraints."""
    await upgrade(database)
    connection = await database.connect()
    rows = await connection.fetch(
        "SELECT conname FROM pg_constraint WHERE connamespace = $1::regnamespace AND contype = 'c'", database.schema
    )
    await connection.close()
    wanted = {check.name for table in metadata.tables.values() for check in table.constraints if is_check(check)}
    assert {row[0] for row in rows} == wanted


async def test_migrating_again_or_twice_at_once_is_harmless(database: Database) -> None:
    await asyncio.gather(*(upgrade(database) for _ in range(4)))
    await upgrade(database)
    assert await differences(database) == []


async def test_a_downgrade_leaves_nothing_and_the_way_up_is_open(database: Database) -> None:
    await upgrade(database)
    await downgrade(database)
    assert await tables_of(database) == {"migrations"}
    await upgrade(database)
    assert await differences(database) == []


async def test_accounts_and_holds_come_to_a_ledger_that_has_entries(database: Database) -> None:
    await upgrade(database, "0001")
    connection = await database.connect()
    await connection.execute(f"""
        SET search_path TO {database.schema};
        INSERT INTO entries VALUES ('0-1', 0, 1, 'a', 1, 'CREDIT', 5, 'USD', 5, 'c-1', NULL, NULL, now(), now(), 1),
            ('0-2', 0, 2, 'a', 2, 'DEBIT', 3, 'USD', 2, 'c-2', NULL, NULL, now(), now(), 1);
        INSERT INTO balances VALUES ('a', 'USD', 2, 2, 0, 2, now());
        INSERT INTO positions VALUES ('balances', 0, 3, 3, 1, now(), NULL, 1);
        """)
    await upgrade(database)
    await connection.close()
    assert [result for result in await check_all(database) if not result.ok] == []
    async with ReadModel(database) as reader:
        account = await reader.account("a")
    assert (account.status, account.version, account.floor) == (AccountStatus.OPEN, 2, Decimal(0))
    assert [(str(b.balance), str(b.held), str(b.available)) for b in account.balances] == [("2", "0", "2")]
    await downgrade(database, "0001")
    await upgrade(database)
    assert await differences(database) == []


async def test_checkpoints_that_had_one_position_get_one_for_each_partition(database: Database) -> None:
    await upgrade(database, "0007")
    connection = await database.connect()
    await connection.execute(f"""
        SET search_path TO {database.schema};
        INSERT INTO positions SELECT 'proofs', n, 9, 9, 1, now(), NULL, 3 FROM generate_series(0, 2) AS n;
        INSERT INTO positions VALUES ('checkpoints', 0, 70, 3, 0, now(), 'a forgery', 1);
        INSERT INTO checkpoints SELECT 1, n, decode(repeat('00', 32), 'hex'), 'note', NULL, now()
            FROM generate_series(3, 5) AS n
        """)
    read = "SELECT partition, next_offset, next_sequence, halted, partition_count FROM positions "
    read += "WHERE projection = 'checkpoints' ORDER BY partition"
    await upgrade(database)
    each = [tuple(row) for row in await connection.fetch(read)]
    assert each == [(0, 70, 0, None, 3), (1, 70, 3, None, 3), (2, 70, 0, None, 3)]
    await connection.execute(
        "UPDATE positions SET next_offset = 90 WHERE (projection, partition) = ('checkpoints', 2)"
    )
    await downgrade(database, "0007")
    assert [tuple(row) for row in await connection.fetch(read)] == [(0, 90, 3, None, 1)]
    await upgrade(database)
    await connection.execute("UPDATE positions SET halted = 'x' WHERE (projection, partition) = ('checkpoints', 1)")
    await connection.execute(
        "UPDATE positions SET next_offset = 80 WHERE (projection, partition) = ('checkpoints', 1)"
    )
    await downgrade(database, "0007")
    assert [tuple(row) for row in await connection.fetch(read)] == [(0, 80, 3, "x", 1)]
    await connection.close()


async def test_every_table_and_column_is_explained_in_the_database(database: Database) -> None:
    await upgrade(database)
    connection = await database.connect()
    silent = await connection.fetch(
        """
        SELECT c.relname, a.attname FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND (a.attnum > 0 OR a.attname = 'tableoid')
        WHERE c.relnamespace = $1::regnamespace AND c.relkind = 'r' AND c.relname <> 'migrations'
            AND (CASE WHEN a.attnum < 0 THEN obj_description(c.oid) ELSE col_description(c.oid, a.attnum) END) IS NULL
        """,
        database.schema,
    )
    await connection.close()
    assert silent == []


@pytest.mark.parametrize(
    "statement",
    ["UPDATE entries SET amount = 1", "DELETE FROM rejections", "TRUNCATE entries", "DELETE FROM changes"],
)
async def test_what_is_append_only_refuses_changes(database: Database, statement: str) -> None:
    await upgrade(database)
    connection = await database.connect()
    await connection.execute(f"SET search_path TO {database.schema}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await connection.execute(statement)
    await connection.close()


async def test_an_absent_postgresql_is_a_clear_error_without_the_password() -> None:
    database = Database(url="postgresql://me:secret@127.0.0.1:1/nowhere")
    with pytest.raises(ReadModelUnavailable, match=r"127\.0\.0\.1:1/nowhere") as caught:
        await upgrade(database)
    assert "secret" not in f"{caught.value} {caught.value.to_dict()} {database!r}"


@pytest.mark.parametrize("schema", ["", "A", "a;b", 'a"b', "a" * 64, "1a"])
def test_a_schema_has_a_plain_name(schema: str) -> None:
    with pytest.raises(ValueError, match="schema name"):
        Database(url="postgresql://x", schema=schema)


def test_readers_do_without_alembic() -> None:
    check = "import sys, projections.queries, projections.checks; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
