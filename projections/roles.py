"""Who may do what in the database: the rights of those who migrate, project and read, as SQL. Pure.

Each is a role that can't log in; the users that services log in as are made members of it. None of them may change
or delete what is append-only: the rights are not granted, and a trigger refuses it even to the owner of the tables.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

APPEND_ONLY: Final = ("entries", "rejections", "changes", "batch_steps", "snapshot_balances", "checkpoints")
GROWING: Final = ("snapshot_accounts", "snapshot_floorless")
"""Rows are added and never replaced."""
REPLACED: Final = (
    "balances",
    "accounts",
    "holds",
    "batches",
    "positions",
    "snapshot_corrections",
    "snapshot_totals",
    "tiles",
)
"""Rows that add up what is append-only, and are replaced as that grows; never deleted."""

_LONGEST: Final = 63 - len("_migrate")


class Access(StrEnum):
    """For what somebody connects to the tables."""

    MIGRATE = "migrate"
    PROJECT = "project"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Roles:
    """The names of a ledger's roles, after its schema. Those of a long name are cut to what PostgreSQL takes."""

    schema: str

    def __iter__(self) -> Iterator[str]:
        return iter((self.migrate, self.project, self.read))

    @property
    def migrate(self) -> str:
        """Owns the schema and its tables, and changes them when a new version comes."""
        return f"{self.schema[:_LONGEST]}_migrate"

    @property
    def project(self) -> str:
        """Writes what projections add."""
        return f"{self.schema[:_LONGEST]}_project"

    @property
    def read(self) -> str:
        """Reads: engines, the HTTP API, analysts."""
        return f"{self.schema[:_LONGEST]}_read"


def grants(schema: str) -> Sequence[str]:
    """Return the statements that make the roles of a ledger and give them their rights, for a superuser to run.

    They can be run again. Who reads may read the reconciler's tables too, if they are there.
    """
    roles = Roles(schema)
    return (
        *(_role(name) for name in roles),
        f'CREATE SCHEMA IF NOT EXISTS "{schema}"',
        f'ALTER SCHEMA "{schema}" OWNER TO "{roles.migrate}"',
        _own_tables(schema, roles.migrate),
        *rights(schema),
        _read_chain(f"{schema}_chain", roles.read),
        _may_make_schemas(roles.migrate),
    )


def rights(schema: str) -> Sequence[str]:
    """Return the statements that give the roles their rights in the tables that there are, for their owner to run."""
    roles = Roles(schema)
    return (
        *_revokes(schema, roles),
        *(f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}"' for role in (roles.project, roles.read)),
        *(f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO "{role}"' for role in (roles.project, roles.read)),
        *(_grant(schema, table, "INSERT", roles.project) for table in (*APPEND_ONLY, *GROWING)),
        *(_grant(schema, table, "INSERT, UPDATE", roles.project) for table in REPLACED),
    )


def _role(name: str) -> str:
    return (
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') "
        f'THEN CREATE ROLE "{name}" NOLOGIN; END IF; END $$'
    )


def _may_make_schemas(name: str) -> str:
    """Return what lets `name` make schemas in the database, as a rebuild does beside that of the ledger."""
    return f"DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO %I', current_database(), '{name}'); END $$"


def _own_tables(schema: str, owner: str) -> str:
    """Return what makes `owner` the owner of all tables, views and functions of the schema, as migrations need it."""
    within = f"= to_regnamespace('\"{schema}\"')"
    tables = f"relname FROM pg_class WHERE relnamespace {within} AND relkind IN ('r', 'v')"
    functions = f"oid::regprocedure::text FROM pg_proc WHERE pronamespace {within}"
    return (
        "DO $$ DECLARE name text; BEGIN "
        f"FOR name IN SELECT {tables} LOOP "  # a schema's name has nothing but letters, digits and _
        f"EXECUTE format('ALTER TABLE %I.%I OWNER TO %I', '{schema}', name, '{owner}'); END LOOP; "
        f"FOR name IN SELECT {functions} LOOP "
        f"EXECUTE 'ALTER FUNCTION ' || name || ' OWNER TO ' || quote_ident('{owner}'); END LOOP; END $$"
    )


def _revokes(schema: str, roles: Roles) -> Sequence[str]:
    everybody = ", ".join(("PUBLIC", f'"{roles.project}"', f'"{roles.read}"'))
    return (
        f'REVOKE ALL ON SCHEMA "{schema}" FROM {everybody}',
        f'REVOKE ALL ON ALL TABLES IN SCHEMA "{schema}" FROM {everybody}',
    )


def _grant(schema: str, table: str, rights: str, role: str) -> str:
    """Return a grant of a table that may not be there yet."""
    return (
        f"DO $$ BEGIN IF to_regclass('\"{schema}\".{table}') IS NOT NULL "
        f'THEN GRANT {rights} ON "{schema}".{table} TO "{role}"; END IF; END $$'
    )


def _read_chain(schema: str, role: str) -> str:
    """Return a grant of what receipts show of anchors, in a schema that may not be there."""
    return (
        f"DO $$ BEGIN IF to_regnamespace('\"{schema}\"') IS NOT NULL THEN "
        f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}"; '
        f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO "{role}"; END IF; END $$'
    )
