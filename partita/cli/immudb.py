"""`partita immudb status | trust`: the trusted state of immudb's database."""

from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer

from partita.cli.output import Json, errors_told, print_fields, print_json
from partita.settings import Settings
from partita.wiring import Wiring
from projections.immudb.trust import TrustedState

app = typer.Typer(help="How far immudb's database is verified.", no_args_is_help=True)


@app.command()
def status(json: Json = False) -> None:
    """Verify that immudb's newest state continues the trusted one, and print the trusted state as it is then.

    Keep what it prints elsewhere too: with it an auditor can tell later whether history was rewritten.
    """
    settings = Settings()
    with errors_told(as_json=json), closing(Wiring(settings).verified_database()) as database:
        told = {"place": database.place, "file": str(settings.trusted_state_file()), **asdict(database.catch_up())}
    print_json(told) if json else print_fields(told)


@app.command()
def trust(
    trust_server: Annotated[
        bool, typer.Option("--trust-server", help="Take immudb's word for its newest state, without proof.")
    ] = False,
    json: Json = False,
) -> None:
    """Begin anew: trust the state that immudb has now, when the file of the trusted state is damaged or gone.

    Before you do, compare the state of immudb with one that an auditor keeps. What was written before can't be told
    from what was forged afterwards: from now on it is only shown that nothing changes any more.
    """
    if not trust_server:
        raise typer.BadParameter("this trusts what immudb says: pass --trust-server if that is what you want")
    with errors_told(as_json=json), closing(Wiring(Settings()).verified_database()) as database:
        before, now = database.trust_server()
    told: dict[str, Any] = {"before": _told(before), "now": _told(now)}
    print_json(told) if json else print_fields(told)


def _told(trusted: TrustedState | None) -> dict[str, Any] | None:
    return asdict(trusted) if trusted else None
