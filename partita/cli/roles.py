"""`partita roles`: who may do what in the database, as SQL."""

from partita.cli.output import Json, errors_told, print_json
from partita.settings import Settings
from projections.roles import Roles, grants


def roles(json: Json = False) -> None:
    """Print SQL that makes three roles and their rights: for migrating, for projecting and for reading.

    Run it as a superuser, and again after a migration that made a table: partita roles | psql DATABASE. Then make the
    users that services log in as members of a role: GRANT ledger_project TO projector. Nothing is changed by this
    command itself. What is append-only can't be changed or deleted by any of them.
    """
    with errors_told(as_json=json):
        schema = Settings().postgres_schema
    statements = grants(schema)
    if json:
        names = Roles(schema)
        found = {"migrate": names.migrate, "project": names.project, "read": names.read}
        print_json({"roles": found, "statements": list(statements)})
    else:
        for statement in statements:
            print(f"{statement};")  # noqa: T201  # SQL for a pipe, as it is
