"""New tables in the place of the live ones: what the one transaction does, on a connection that is in it.

Who reads queues behind a lock on a table that is waited for, so that is waited for shortly. All that needs no such
lock comes before it.
"""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from projections.errors import RebuildRefused
from projections.migrate import migration_lock
from projections.rebuild.building import is_of_another_version
from projections.rebuild.places import Places

LOCK_WAIT: Final = "150ms"
_VACUUM_WAIT: Final = "5s"
"""An autovacuum that is in the way gives way after a second."""

_TABLES: Final = """
SELECT relname FROM pg_class
WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND relname = ANY($2::text[]) ORDER BY relname
"""
_OIDS: Final = """
SELECT coalesce(array_agg(oid), '{}')
FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relname = ANY($2::text[])
"""
_VIEWS: Final = """
SELECT DISTINCT format('CREATE OR REPLACE VIEW %I.%I%s AS ', n.nspname, v.relname,
    coalesce(' WITH (' || array_to_string(v.reloptions, ', ') || ')', '')) || pg_get_viewdef(v.oid) AS statement,
    format('%I.%I', n.nspname, v.relname) AS view
FROM pg_depend AS d
JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
JOIN pg_class AS v ON v.oid = r.ev_class
JOIN pg_namespace AS n ON n.oid = v.relnamespace
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY($1::oid[])
    AND v.relkind = 'v' AND v.relpersistence <> 't'
ORDER BY view
"""
_IN_THE_WAY: Final = """
WITH own AS (SELECT oid, reltype FROM pg_class WHERE oid = ANY($1::oid[]))
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid)
FROM pg_depend AS d
LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
LEFT JOIN pg_class AS v ON v.oid = r.ev_class
LEFT JOIN pg_constraint AS k ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid
WHERE (d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT oid FROM own)
    OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT reltype FROM own))
    AND (v.relkind = 'm'
        OR k.contype = 'f' AND k.conrelid NOT IN (SELECT oid FROM own)
        OR d.classid IN ('pg_proc'::regclass, 'pg_policy'::regclass, 'pg_publication_rel'::regclass)
        OR d.classid = 'pg_class'::regclass AND d.objsubid > 0 AND d.objid NOT IN (SELECT oid FROM own))
UNION ALL
SELECT format('row-level security of table %s', relname) FROM pg_class WHERE oid = ANY($1::oid[]) AND relrowsecurity
ORDER BY 1
"""
_OWNERS: Final = """
SELECT format('ALTER TABLE %I.%I OWNER TO %s', $1::text, relname, relowner::regrole)
FROM pg_class WHERE oid = ANY($2::oid[])
"""
_REVOKES: Final = """
SELECT DISTINCT format('REVOKE ALL ON %I.%I FROM %s', $1::text, relname,
    CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END)
FROM pg_class, aclexplode(relacl)
WHERE relnamespace = to_regnamespace($1) AND relname = ANY($2::text[]) AND grantee <> relowner
"""
_GRANTS: Final = """
SELECT format('GRANT %s%s ON %I.%I TO %s%s', privilege_type, quoted, $1::text, relname,
    CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
    CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM (
    SELECT c.relname, '' AS quoted, a.* FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE c.oid = ANY($2::oid[])
    UNION ALL
    SELECT c.relname, format(' (%I)', t.attname), a.*
    FROM pg_class AS c JOIN pg_attribute AS t ON t.attrelid = c.oid, aclexplode(t.attacl) AS a
    WHERE c.oid = ANY($2::oid[])
) AS rights
"""
_FREEZE: Final = """
SELECT partition, next_sequence FROM {schema}.positions WHERE projection = $1 ORDER BY partition FOR UPDATE
"""
_KEEP_POSITIONS: Final = """
CREATE TABLE {old}.positions AS SELECT * FROM {live}.positions WHERE projection = '{projection}'
"""
_SET_POSITIONS: Final = """
INSERT INTO {live}.positions AS p SELECT * FROM {new}.positions WHERE projection = '{projection}'
ON CONFLICT (projection, partition) DO UPDATE
SET next_offset = excluded.next_offset, next_sequence = excluded.next_sequence, writer_epoch = excluded.writer_epoch,
    recorded_at = excluded.recorded_at, halted = excluded.halted, partition_count = excluded.partition_count
"""
_LEFT: Final = """
WITH parts AS (
    SELECT c.relnamespace, c.relname, 'index ' || x.relname AS part
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid JOIN pg_class AS x ON x.oid = i.indexrelid
    UNION ALL SELECT c.relnamespace, c.relname, 'trigger ' || t.tgname
        FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL SELECT c.relnamespace, c.relname, 'constraint ' || k.conname
        FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid WHERE k.contype IN ('c', 'f', 'x')
    UNION ALL SELECT c.relnamespace, c.relname, 'column ' || a.attname
        FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
)
SELECT part || ' of ' || relname FROM parts WHERE relnamespace = to_regnamespace($1) AND relname = ANY($3::text[])
EXCEPT
SELECT part || ' of ' || relname FROM parts WHERE relnamespace = to_regnamespace($2) AND relname = ANY($3::text[])
ORDER BY 1
"""


async def refuse_what_is_in_the_way(connection: asyncpg.Connection, places: Places, tables: Sequence[str]) -> None:
    """Raise `RebuildRefused` if old tables are kept, or something is bound to the live ones that can't come along."""
    if await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", places.old):
        raise RebuildRefused(
            f"the old tables of the last rebuild are still there, in the schema {places.old}: drop them first, with "
            "--drop-old",
            schema=places.old,
        )
    oids = await connection.fetchval(_OIDS, places.live, list(tables))
    found = [row[0] for row in await connection.fetch(_IN_THE_WAY, oids)]
    if found:
        raise RebuildRefused(
            f"these are bound to the live tables, and can't be bound to others: {'; '.join(found)[:1000]}",
            bound=found,
        )


async def not_carried_over(connection: asyncpg.Connection, places: Places, tables: Sequence[str]) -> list[str]:
    """Return what the live tables have and the new ones have not: indexes, triggers, constraints, columns."""
    rows = await connection.fetch(_LEFT, places.live, places.new, list(tables))
    return [row[0] for row in rows]


async def hold_still(connection: asyncpg.Connection, places: Places, tables: Sequence[str]) -> dict[int, int]:
    """Keep vacuum, migrations and the projection's service away, but neither readers nor others who write.

    Return up to which sequence the live tables are and will be, by partition.

    Raises:
        LockNotAvailableError: somebody uses the tables in another way.
        RebuildRefused: the live tables were migrated since the new ones were made.
    """
    await connection.execute(f"SET LOCAL lock_timeout = '{_VACUUM_WAIT}'")
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", migration_lock(places.live))
    if await is_of_another_version(connection, places):
        raise RebuildRefused("the live tables were migrated meanwhile: run the rebuild again", schema=places.new)
    for schema in (places.live, places.new):
        await _lock(connection, schema, tables, "SHARE UPDATE EXCLUSIVE")
    rows = await connection.fetch(_FREEZE.format(schema=f'"{places.live}"'), places.projection)
    return {row["partition"]: row["next_sequence"] for row in rows}


async def put_in_place(connection: asyncpg.Connection, places: Places, tables: Sequence[str]) -> None:
    """Exchange the tables and the positions. The positions of the new tables are not behind the live ones.

    Raises:
        LockNotAvailableError: somebody uses the live tables.
        RebuildRefused: something is bound to them that can't be carried over.
    """
    await connection.execute("SET LOCAL search_path TO pg_catalog")  # so that every name in a view is told in full
    await refuse_what_is_in_the_way(connection, places, tables)
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
    there = await _lock(connection, places.live, tables, "ACCESS EXCLUSIVE")
    oids = await connection.fetchval(_OIDS, places.live, list(tables))
    views = await connection.fetch(_VIEWS, oids)
    rights = [
        statement for query in (_OWNERS, _GRANTS) for statement in await _column(connection, query, places.live, oids)
    ]
    names = {"live": f'"{places.live}"', "new": f'"{places.new}"', "old": f'"{places.old}"'}
    await _keep_positions(connection, places)
    await connection.execute(_SET_POSITIONS.format(projection=places.projection, **names))
    for table in there:
        await connection.execute(f"ALTER TABLE {names['live']}.{table} SET SCHEMA {names['old']}")
    for table in tables:
        await connection.execute(f"ALTER TABLE {names['new']}.{table} SET SCHEMA {names['live']}")
    for statement in [*await _column(connection, _REVOKES, places.live, list(tables)), *rights]:
        await connection.execute(statement)
    for view in views:
        await _make_anew(connection, view)
    await connection.execute(f"DROP SCHEMA {names['new']} CASCADE")


async def drop_old(connection: asyncpg.Connection, places: Places) -> list[str]:
    """Drop the tables that were live before, and return their names; none when there are none.

    Raises:
        RebuildRefused: something is still bound to them, which is not dropped along.
    """
    found = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' ORDER BY relname"
    tables = await _column(connection, found, places.old)
    try:
        async with connection.transaction():
            if tables:
                await connection.execute("DROP TABLE " + ", ".join(f'"{places.old}".{table}' for table in tables))
            await connection.execute(f'DROP SCHEMA IF EXISTS "{places.old}"')
    except asyncpg.DependentObjectsStillExistError as error:
        raise RebuildRefused(
            f"something is still bound to the old tables: {error.detail}", schema=places.old, bound=error.detail
        ) from error
    return tables


async def _keep_positions(connection: asyncpg.Connection, places: Places) -> None:
    """Make the schema of the old tables, with where they are; it belongs to whom the live one belongs to."""
    await connection.execute(f'CREATE SCHEMA "{places.old}"')
    names = {"live": f'"{places.live}"', "old": f'"{places.old}"'}
    await connection.execute(_KEEP_POSITIONS.format(projection=places.projection, **names))
    await connection.execute(
        f"COMMENT ON SCHEMA \"{places.old}\" IS 'Tables of {places.projection} before the last rebuild'"
    )
    owner = await connection.fetchval(
        "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = $1", places.live
    )
    await connection.execute(f'ALTER SCHEMA "{places.old}" OWNER TO {owner}')
    await connection.execute(f'ALTER TABLE "{places.old}".positions OWNER TO {owner}')


async def _make_anew(connection: asyncpg.Connection, view: asyncpg.Record) -> None:
    try:
        await connection.execute(view["statement"])
    except asyncpg.PostgresError as error:
        raise RebuildRefused(
            f"the view {view['view']} can't be put on the new tables: {error}", bound=[view["view"]]
        ) from error


async def _lock(connection: asyncpg.Connection, schema: str, tables: Sequence[str], mode: str) -> list[str]:
    """Lock those of the tables that are there, and return their names."""
    there = await _column(connection, _TABLES, schema, list(tables))
    if there:
        named = ", ".join(f'"{schema}".{table}' for table in there)
        await connection.execute(f"LOCK TABLE {named} IN {mode} MODE")
    return there


async def _column(connection: asyncpg.Connection, query: str, *arguments: Any) -> list[str]:
    return [row[0] for row in await connection.fetch(query, *arguments)]
