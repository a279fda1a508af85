"""The roles on a real PostgreSQL: services can do their work, and none can change what is append-only."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from events.follow import StoredEvent
from projections.balances import Balances
from projections.database import Database
from projections.migrate import upgrade
from projections.roles import APPEND_ONLY, GROWING, REPLACED, Roles, grants
from projections.snapshots.projection import Snapshots
from projections.snapshots.tables import ALL_TABLES
from projections.store import Store
from tests.projections.log import NOON, Writer
from tests.support.stack import Stack


def test_of_every_table_it_is_said_how_it_is_written() -> None:
    assert sorted((*APPEND_ONLY, *GROWING, *REPLACED)) == sorted(ALL_TABLES.tables)


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    made = Database(url=stack.addresses["postgres_url"], schema=f"t{uuid.uuid4().hex[:12]}")
    await upgrade(made)
    connection = await made.connect()
    for _ in range(2):  # they can be run again
        for statement in grants(made.schema):
            await connection.execute(statement)
    yield made
    await connection.execute(f"DROP SCHEMA {made.schema} CASCADE")
    names = Roles(made.schema)
    for name in (names.migrate, names.project, names.read):
        await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    await connection.close()


@asynccontextmanager
async def acting_as(database: Database, role: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await database.connect(server_settings={"role": role, "search_path": database.schema})
    try:
        yield connection
    finally:
        await connection.close()


async def project(database: Database, role: str) -> None:
    """Project all that happens to a hold and late entries, by a service that acts as `role`."""
    writer = Writer(partitions=1)
    events = [
        *writer.opened(),
        writer.open_account("w", None),
        writer.post("a", 9, effective_at=NOON - 10**12),
        writer.place("a", "h", 5),
        writer.settle("a", "h", 5),
        writer.reject("a"),
    ]
    stored = [StoredEvent(p, event.sequence, b"", event) for p, event in events]
    acting = replace(database, url=f"{database.url}?role={role}")
    await upgrade(acting)  # as every service does when it starts
    for projection in (Balances(), Snapshots()):
        store: Store[Any] = Store(acting, projection)
        await store.open()
        await store.positions(1)
        await store.write(stored[:4], {0: 0})
        await store.write(stored[4:], {0: 4})
        await store.close()


@pytest.mark.parametrize("table", APPEND_ONLY)
async def test_what_is_append_only_is_refused_to_all_roles(database: Database, table: str) -> None:
    names = Roles(database.schema)
    await project(database, names.project)
    for role in (names.project, names.read, names.migrate):
        async with acting_as(database, role) as connection:
            column = next(iter(ALL_TABLES.tables[table].columns)).name
            for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)


async def test_readers_read_and_nothing_else_and_projectors_make_no_tables(database: Database) -> None:
    names = Roles(database.schema)
    await project(database, names.project)
    async with acting_as(database, names.read) as connection:
        assert await connection.fetchval("SELECT balance FROM balances WHERE account_id = 'a'") is not None
        for table in ALL_TABLES.tables:
            await connection.fetchval(f"SELECT count(*) FROM {table}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"INSERT INTO {table} DEFAULT VALUES")
    async with acting_as(database, names.project) as connection:
        for statement in ("CREATE TABLE mine (x int)", "DROP TABLE entries", "DELETE FROM positions"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("ALTER TABLE entries DISABLE TRIGGER append_only")


async def test_analysts_have_views_that_explain_themselves(database: Database) -> None:
    names = Roles(database.schema)
    await project(database, names.project)
    async with acting_as(database, names.read) as connection:
        [credit, debit] = await connection.fetch("SELECT * FROM account_statement ORDER BY account_id, version")
        assert (credit["credit"], credit["debit"], debit["debit"]) == (debit["debit"] * 9 / 5, None, debit["debit"])
        [day] = await connection.fetch("SELECT * FROM daily_volume")
        assert (day["asset"], day["entries"], day["credits"]) == ("USD", 2, credit["credit"])
        assert await connection.fetch("SELECT * FROM open_holds") == []
        untold = await connection.fetch(
            "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid "
            "WHERE relnamespace = to_regnamespace($1) AND relkind = 'v' AND attnum > 0 "
            "AND (col_description(attrelid, attnum) IS NULL OR obj_description(attrelid) IS NULL)",
            database.schema,
        )
        assert untold == []
