"""The new tables: made by the migrations, without what only readers need; finished when they are full.

The schema has nothing but the projection's own tables, their positions and the version of the migrations. It may be
one that an earlier rebuild has left, whole or in part: everything here can be done again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
from sqlalchemy import Index
from sqlalchemy.dialects.postgresql import dialect
from sqlalchemy.schema import CreateIndex

from projections.database import Database
from projections.migrate import upgrade
from projections.rebuild.places import Places
from projections.snapshots.tables import ALL_TABLES

_VERSION: Final = "SELECT version_num FROM {schema}.migrations"
_IS_BEGUN: Final = "SELECT EXISTS (SELECT FROM {schema}.positions)"
_SUPERFLUOUS: Final = """
SELECT format('DROP %s %I.%I', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, $1::text, relname)
FROM pg_class
WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'v') AND relname <> ALL($2::text[])
ORDER BY relkind DESC
"""
_TRIGGERS: Final = """
SELECT pg_get_triggerdef(t.oid)
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE c.relnamespace = to_regnamespace($1) AND NOT t.tgisinternal
"""
_MADE: Final = """
SELECT relname FROM pg_class
WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND relname NOT IN ('positions', 'migrations')
ORDER BY relname
"""
_MEMORY: Final = "256MB"
"""For making one index."""
_HASH_MEMORY: Final = "8MB"
"""For a hash index: PostgreSQL sorts what it puts there only if the index is to be larger than this."""
TIMEOUT: Final = 3600.0
"""Most seconds for one statement: an index of a large table."""


async def prepare(
    connection: asyncpg.Connection, database: Database, places: Places, tables: tuple[str, ...]
) -> None:
    """Make the new tables, empty, unless an earlier rebuild has left them; the live ones are at this version."""
    new = Database(url=database.url, schema=places.new, connect_timeout=database.connect_timeout)
    if await is_of_another_version(connection, places):
        await drop(connection, places)
    await upgrade(new)
    if await connection.fetchval(_in(_IS_BEGUN, places.new)):
        return
    async with connection.transaction():
        for statement in await _column(connection, _SUPERFLUOUS, places.new, [*tables, "positions", "migrations"]):
            await connection.execute(statement)
        for trigger in await _column(connection, _TRIGGERS, places.new):
            await connection.execute(_of_the_live_schema(trigger, places))
        for index in _indexes(tables):
            await connection.execute(f'DROP INDEX IF EXISTS "{places.new}".{index.name}')


async def finish(database: Database, places: Places, tables: tuple[str, ...]) -> None:
    """Make the indexes that are not there, two at a time, and tell PostgreSQL's planner what is in the tables."""
    left = iter(_indexes(tables))

    async def make() -> None:
        async with _finishing(database, places) as connection:
            for index in left:
                statement = CreateIndex(index, if_not_exists=True).compile(dialect=dialect())  # type: ignore[no-untyped-call]  # its constructor has no types
                is_hash = index.dialect_options["postgresql"]["using"] == "hash"
                await connection.execute(f"SET maintenance_work_mem = '{_HASH_MEMORY if is_hash else _MEMORY}'")
                await connection.execute(str(statement))

    failed = [each for each in await asyncio.gather(make(), make(), return_exceptions=True) if each is not None]
    if failed:
        raise failed[0]
    async with _finishing(database, places) as connection:
        await connection.execute(f"ANALYZE {', '.join(tables)}")


@asynccontextmanager
async def _finishing(database: Database, places: Places) -> AsyncIterator[asyncpg.Connection]:
    connection = await database.connect(command_timeout=TIMEOUT, server_settings={"search_path": places.new})
    try:
        yield connection
    finally:
        connection.terminate()


async def drop(connection: asyncpg.Connection, places: Places) -> list[str]:
    """Drop what a rebuild has made so far, and return the names of its tables."""
    tables = await _column(connection, _MADE, places.new)
    await connection.execute(f'DROP SCHEMA IF EXISTS "{places.new}" CASCADE')
    return tables


async def is_of_another_version(connection: asyncpg.Connection, places: Places) -> bool:
    """Whether there are new tables, left by an earlier rebuild, that are not of the version of the live ones."""
    if await connection.fetchval("SELECT to_regclass($1) IS NULL", f'"{places.new}".migrations'):
        return bool(await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", places.new))
    live, new = [await connection.fetchval(_in(_VERSION, schema)) for schema in (places.live, places.new)]
    return bool(live != new)


def _of_the_live_schema(trigger: str, places: Places) -> str:
    """Return what makes a trigger call the function of the live schema, since the other goes after the exchange."""
    made = trigger.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER", 1)
    return made.replace(f"EXECUTE FUNCTION {places.new}.", f'EXECUTE FUNCTION "{places.live}".')


def _indexes(tables: tuple[str, ...]) -> list[Index]:
    """Return the indexes that are none of a constraint's, in the order of the tables and of their names."""
    return [
        index for name in tables for index in sorted(ALL_TABLES.tables[name].indexes, key=lambda each: str(each.name))
    ]


def _in(statement: str, schema: str) -> str:
    return statement.format(schema=f'"{schema}"')


async def _column(connection: asyncpg.Connection, query: str, *arguments: Any) -> list[str]:
    return [row[0] for row in await connection.fetch(query, *arguments)]
