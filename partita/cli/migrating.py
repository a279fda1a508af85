"""`partita migrate`: the tables of the read model, made and changed by who may."""

import asyncio

from partita.cli.output import Json, errors_told, out, print_json
from partita.settings import Settings
from partita.wiring import Wiring
from projections.roles import Access


def migrate(json: Json = False) -> None:
    """Make the tables of the read model, or bring them to this version (PARTITA_POSTGRES_MIGRATE_URL).

    Services do so themselves where only PARTITA_POSTGRES_URL is set. Where the roles of `partita roles` are there,
    the tables are made as the one that owns them, and each gets its rights in them. It can be run again.
    """
    from projections.migrate import migrate as migrate_tables  # noqa: PLC0415  # Alembic is not in the plain install

    with errors_told(as_json=json):
        database = Wiring(Settings()).database(Access.MIGRATE)
        done = asyncio.run(migrate_tables(database))
    if json:
        print_json({"schema": database.schema, **done._asdict()})
    elif done.before == done.after:
        out.print(f"the tables of {database.schema} are of version {done.after} already")
    else:
        out.print(f"the tables of {database.schema} are of version {done.after} now")
