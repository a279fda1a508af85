"""What the commands that ask the ledger have in common: their options, and asking."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer

from commands.errors import InvalidEffectiveTime
from partita.cli.output import errors_told, print_fields, print_json
from partita.engine import LedgerEngine
from partita.results import AccountChange, HoldChange, LedgerEntry

T = TypeVar("T")

Account = Annotated[str, typer.Argument(help="The account's id.", show_default=False)]
HoldId = Annotated[str, typer.Argument(help="The hold's id: the command id that placed it.", show_default=False)]
Asset = Annotated[str | None, typer.Option(help="The asset; the setting PARTITA_DEFAULT_ASSET when not given.")]
Reference = Annotated[str | None, typer.Option(help="Your own reference.")]
Metadata = Annotated[str | None, typer.Option(help='Your own data, a JSON object: {"channel": "web"}')]
Reason = Annotated[str | None, typer.Option(help="Why, in your own words; kept in the log.")]
CommandId = Annotated[
    str | None, typer.Option(help="Makes the call repeatable: the same id is answered with the same result.")
]
ExpectedVersion = Annotated[int | None, typer.Option(help="Refuse unless the account is at this version.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would come of it, and change nothing.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds to wait.", min=0.001)]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")]
Cursor = Annotated[str | None, typer.Option(help="The next cursor of the page before.")]

STATUSES = (
    "Exit status: 0 done (or done before under the same command id), 3 rejected, 4 a service is not there, 5 the "
    "outcome is not known (ask again with the same --command-id)."
)
"""What the help of a command that writes says last."""


def ask(question: Callable[[LedgerEngine], Coroutine[Any, Any, T]], *, as_json: bool) -> T:
    """Ask a new engine and return what it answers; an error is told and ends the program."""

    async def run() -> T:
        async with LedgerEngine() as ledger:
            return await question(ledger)

    with errors_told(as_json=as_json):
        return asyncio.run(run())


def write(
    question: Callable[[LedgerEngine], Coroutine[Any, Any, AccountChange | HoldChange | LedgerEntry]],
    *,
    as_json: bool,
) -> None:
    """Ask for a change, and print it."""
    (print_json if as_json else print_fields)(ask(question, as_json=as_json).to_dict())


def time(text: str | None, option: str) -> datetime | None:
    """Return the time that an option gives in ISO 8601."""
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from None


def timed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an entry that is given in JSON, with its `effective_at` as a time.

    Raises:
        InvalidEffectiveTime: it is not in ISO 8601.
    """
    if not isinstance(text := fields.get("effective_at"), str):
        return fields
    try:
        return {**fields, "effective_at": datetime.fromisoformat(text)}
    except ValueError as error:
        raise InvalidEffectiveTime(f"effective_at: {error}"[:200]) from None


def data(text: str | None) -> dict[str, Any] | None:
    """Return the JSON that --metadata gives."""
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--metadata: {error}") from None
