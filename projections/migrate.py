"""Making and changing the tables, with Alembic. The only module that imports it: a reader doesn't need it.

Each ledger's schema has its own version table, `migrations`. All is done in one transaction under a lock, so that
processes that start at once wait for one another, and a failure leaves everything as it was.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from projections.database import LOST, Database
from projections.snapshots.tables import ALL_TABLES

MIGRATIONS: Final = "projections:migrations"
LOCK_TIMEOUT: Final = 60
"""Seconds to wait for another process that migrates the same ledger."""


async def upgrade(database: Database, revision: str = "head", *, folder: str = MIGRATIONS) -> None:
    """Bring the tables to `revision`, from nothing or from any version; harmless when they are there already.

    `folder` has the migrations: those of the read model, or of a sibling that keeps tables in a schema of its own.

    Raises:
        ReadModelUnavailable: PostgreSQL does not answer, or another process holds the lock for too long.
    """
    await _run(database, folder, lambda config: command.upgrade(config, revision))


async def downgrade(database: Database, revision: str = "base", *, folder: str = MIGRATIONS) -> None:
    """Take the tables back to `revision`; what later versions had added is lost. Raises as `upgrade`."""
    await _run(database, folder, lambda config: command.downgrade(config, revision))


async def differences(database: Database, tables: MetaData = ALL_TABLES) -> list[object]:
    """Return what `tables` has and the database has not, or otherwise; raises as `upgrade`."""

    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"include_object": _is_ours})
        return list(compare_metadata(context, tables))

    async with _locked(database) as connection:
        return await connection.run_sync(compare)


def migration_lock(schema: str) -> str:
    """Return the name of the lock that whoever migrates the tables of `schema` holds."""
    return f"partita.migrate.{schema}"


async def _run(database: Database, folder: str, action: Callable[[Config], None]) -> None:
    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", folder)
        config.set_main_option("path_separator", "os")
        config.attributes.update(connection=connection, schema=database.schema)
        action(config)

    async with _locked(database) as connection:
        await connection.run_sync(run)


@asynccontextmanager
async def _locked(database: Database) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=database.connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'"))
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
                {"name": migration_lock(database.schema)},
            )
            found = await connection.execute(text("SELECT to_regnamespace(:name)"), {"name": database.schema})
            if found.scalar() is None:  # asked first, since IF NOT EXISTS wants the right to create all the same
                await connection.execute(text(f'CREATE SCHEMA "{database.schema}"'))
            await connection.execute(text(f'SET LOCAL search_path TO "{database.schema}"'))
            await connection.run_sync(_make_default, database.schema)
            yield connection
    except DBAPIError as error:
        cause = error.orig.__cause__ if error.orig is not None else None
        raise database.unavailable(cause or error) from error
    except (*LOST, asyncpg.PostgresError) as error:
        raise database.unavailable(error) from error
    finally:
        await engine.dispose()


def _make_default(connection: Connection, schema: str) -> None:
    """Tell SQLAlchemy that tables without a schema are in `schema`, as the search path has it."""
    connection.dialect.default_schema_name = schema


def _is_ours(_: object, name: str | None, kind: str, *__: object) -> bool:
    return not (kind == "table" and name == "migrations")
