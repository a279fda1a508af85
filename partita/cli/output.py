"""What a command prints: results on stdout, as a table or as JSON; all else on stderr. And its exit status."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from commands.errors import OutcomeUnknown, Rejected
from events.errors import LedgerError
from partita.settings import NotConfigured
from projections.errors import EntryNotFound, InvalidCursor

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


class Exit(IntEnum):
    """Exit statuses; they stay as they are."""

    FAILED = 1
    USAGE = 2
    REJECTED = 3
    UNAVAILABLE = 4
    OUTCOME_UNKNOWN = 5
    NOT_VERIFIED = 6


def print_json(value: object) -> None:
    """Print `value` as one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values below each other."""
    table = Table.grid(padding=(0, 2))
    for name, value in fields.items():
        table.add_row(name.replace("_", " "), Text("" if value is None else str(value)))
    out.print(uncut(table))


def uncut(table: Table) -> Table:
    """Let no cell of `table` be cut short: what is too long for the screen goes on in the next line."""
    for column in table.columns:
        column.overflow = "fold"
    return table


@contextmanager
def errors_told(*, as_json: bool) -> Iterator[None]:
    """Print a `LedgerError`, or a setting that can't be, and exit with its status instead of a traceback."""
    try:
        yield
    except LedgerError as error:
        if as_json:
            print_json(error.to_dict())
        else:
            err.print(f"[red]{error.code}[/red]: ", end="")
            entry = f"entry {error.details['leg']}: " if "leg" in error.details else ""
            err.print(f"{entry}{error.message}", markup=False)
        raise typer.Exit(exit_status(error)) from None
    except ValidationError as error:
        faults = {"PARTITA_" + "_".join(map(str, fault["loc"])).upper(): fault["msg"] for fault in error.errors()}
        _refuse_settings(faults, as_json=as_json)
    except SettingsError as error:  # JSON that is none; the error names the setting, and not what it holds
        _refuse_settings({"PARTITA": str(error)}, as_json=as_json)


def _refuse_settings(faults: Mapping[str, str], *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"error": "InvalidSetting", "message": "a setting is not what it must be", "details": faults})
    for name, fault in faults.items():
        err.print(f"{name}: {fault}", markup=False, style="red")
    raise typer.Exit(Exit.USAGE) from None


def exit_status(error: LedgerError) -> Exit:
    """Return the exit status that tells of this error."""
    match error:
        case OutcomeUnknown():
            return Exit.OUTCOME_UNKNOWN
        case Rejected():
            return Exit.REJECTED
        case EntryNotFound() | InvalidCursor():
            return Exit.FAILED
        case NotConfigured():
            return Exit.UNAVAILABLE
        case _:
            return Exit.UNAVAILABLE if error.retriable else Exit.FAILED
