"""Making and changing the tables, with Alembic. The only module that imports it: a reader doesn't need it.

Each ledger's schema has its own version table, `migrations`. All is done in one transaction under a lock, so that
processes that start at once wait for one another, and a failure leaves everything as it was.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import asyncpg
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from projections.database import LOST, Database
from projections.errors import TablesOutdated
from projections.roles import Roles, rights
from projections.snapshots.tables import ALL_TABLES

MIGRATIONS: Final = "projections:migrations"
LOCK_TIMEOUT: Final = 60
"""Seconds to wait for another process that migrates the same ledger."""


_VERSION: Final = 'SELECT max(version_num) FROM "{schema}".migrations'
_IS_MEMBER: Final = "SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = :role"
_COUNT_ROLES: Final = "SELECT count(*) FROM pg_roles WHERE rolname = ANY(:names)"


class Migrated(NamedTuple):
    """What a migration did: the versions before (None: no tables) and after, and the roles that got their rights."""

    before: str | None
    after: str
    roles: Sequence[str]


async def migrate(database: Database) -> Migrated:
    """Bring the read model's tables to the newest version, and give the ledger's roles their rights in them.

    Who connects acts as the role that owns the tables (`projections.roles`), if there is one and they are a member.

    Raises:
        ReadModelUnavailable: PostgreSQL does not answer or refuses, or another process holds the lock for too long.
        TablesOutdated: the tables are of a later version than the newest that is known here.
    """
    roles = Roles(database.schema)
    newest = _newest()

    def run(connection: Connection) -> Migrated:
        before = MigrationContext.configure(connection, opts={"version_table": "migrations"}).get_current_revision()
        if before is not None and before not in newest.known:
            raise _outdated(database, before, newest)
        command.upgrade(_config(database.schema, MIGRATIONS, connection), "head")
        if connection.execute(text(_COUNT_ROLES), {"names": [*roles]}).scalar() != len([*roles]):
            return Migrated(before, newest.version, ())
        for statement in rights(database.schema):
            connection.exec_driver_sql(statement)
        return Migrated(before, newest.version, (*roles,))

    async with _locked(database, role=roles.migrate) as connection:
        return await connection.run_sync(run)


async def check_version(database: Database) -> None:
    """Return when the read model's tables are of the newest version; nothing is changed.

    Raises:
        TablesOutdated: they are not, or are not there.
        ReadModelUnavailable: PostgreSQL does not answer, or does not let us read.
    """
    newest = _newest()
    connection = await database.connect()
    try:
        found = await connection.fetchval(_VERSION.format(schema=database.schema))
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        found = None
    except (*LOST, asyncpg.PostgresError) as error:
        raise database.unavailable(error) from error
    finally:
        connection.terminate()
    if found != newest.version:
        raise _outdated(database, found, newest)


class _Newest(NamedTuple):
    version: str
    known: frozenset[str]
    """All versions that there ever were."""


def _newest() -> _Newest:
    scripts = ScriptDirectory.from_config(_config(None, MIGRATIONS, None))
    version = scripts.get_current_head()
    assert version is not None
    return _Newest(version, frozenset(script.revision for script in scripts.walk_revisions()))


def _outdated(database: Database, found: str | None, newest: _Newest) -> TablesOutdated:
    is_newer = found is not None and found not in newest.known
    return TablesOutdated(
        place=database.place, schema=database.schema, found=found, wanted=newest.version, is_newer=is_newer
    )


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
    async with _locked(database) as connection:
        await connection.run_sync(lambda sync: action(_config(database.schema, folder, sync)))


def _config(schema: str | None, folder: str, connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, schema=schema)
    return config


@asynccontextmanager
async def _locked(database: Database, *, role: str | None = None) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=database.connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'"))
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
                {"name": migration_lock(database.schema)},
            )
            if role and (await connection.execute(text(_IS_MEMBER), {"role": role})).scalar():
                await connection.execute(text(f'SET LOCAL ROLE "{role}"'))
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
