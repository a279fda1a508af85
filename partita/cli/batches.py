"""`partita transfer` and `partita batch post | rollback | show`: entries that are posted together."""

import json as jsonlib
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from commands.errors import InvalidBatch, InvalidEffectiveTime
from partita.cli.asking import (
    STATUSES,
    Asset,
    DryRun,
    Metadata,
    Reason,
    Reference,
    Timeout,
    ask,
    data,
    time,
    timed,
)
from partita.cli.output import Json, errors_told, out, print_fields, print_json
from partita.engine import LedgerEngine
from partita.results import LedgerBatch, to_plain
from projections.records import BatchRow

app = typer.Typer(help="Post entries together, all or none, and undo them.", no_args_is_help=True)

BatchId = Annotated[
    str | None,
    typer.Option("--command-id", help="The id of the batch, which also makes the call repeatable."),
]
EffectiveAt = Annotated[str | None, typer.Option(help="ISO 8601 time with zone, when not now.")]


def transfer(
    source: Annotated[str, typer.Argument(help="The account that is debited.", show_default=False)],
    target: Annotated[str, typer.Argument(help="The account that is credited.", show_default=False)],
    amount: Annotated[str, typer.Argument(help="A plain decimal: 12.50", show_default=False)],
    asset: Asset = None,
    reference: Reference = None,
    metadata: Metadata = None,
    command_id: BatchId = None,
    effective_at: EffectiveAt = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Move AMOUNT from SOURCE to TARGET: a debit and a credit, both or none."""
    effective, kept = time(effective_at, "--effective-at"), data(metadata)
    _write(
        lambda ledger: ledger.transfer(
            source,
            target,
            amount,
            asset=asset,
            reference=reference,
            metadata=kept,
            effective_at=effective,
            command_id=command_id,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


@app.command(epilog=STATUSES)
def post(
    file: Annotated[
        typer.FileText, typer.Argument(help="A JSON file; - is stdin.", show_default=False, encoding="utf-8")
    ],
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Refuse it unless debits and credits are equal for each asset.")
    ] = False,
    reference: Reference = None,
    metadata: Metadata = None,
    command_id: BatchId = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Post the entries in FILE together, all or none, and print them when they are durable.

    FILE is a JSON array of up to 1,000 objects. Each must have account_id, amount (as text: "12.50") and entry_type.

    Each may have asset, reference, metadata, effective_at (ISO 8601 with zone) and expected_version.

    When an entry is wrong, the error's details have its number as leg; the first is 0.
    """
    kept = data(metadata)
    with errors_told(as_json=json):
        entries = _entries(file.read())
    _write(
        lambda ledger: ledger.create_batch(
            entries,
            balanced=balanced,
            reference=reference,
            metadata=kept,
            command_id=command_id,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


def _entries(text: str) -> list[Any]:
    try:
        found = jsonlib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidBatch(f"the file is not JSON: {error}"[:200]) from None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise InvalidBatch("the file is not a JSON array of objects")
    return [_timed(leg, entry) for leg, entry in enumerate(found)]


def _timed(leg: int, entry: dict[str, Any]) -> dict[str, Any]:
    try:
        return timed(entry)
    except InvalidEffectiveTime as fault:
        fault.details["leg"] = leg
        raise


@app.command(epilog=STATUSES)
def rollback(
    batch_id: Annotated[str, typer.Argument(help="The id of the batch.", show_default=False)],
    reason: Reason = None,
    force: Annotated[bool, typer.Option("--force", help="Take balances below their floors if need be.")] = False,
    command_id: Annotated[
        str | None,
        typer.Option(help="The rest of the reversal's id, behind BATCH_ID and ~; it makes the call repeatable."),
    ] = None,
    effective_at: EffectiveAt = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Undo a posted batch by its reversal, once, and print that. Asked again, the same reversal is printed.

    The batch stays as it was. Without --force it is refused when the funds are gone.
    """
    effective = time(effective_at, "--effective-at")
    _write(
        lambda ledger: ledger.rollback_batch(
            batch_id,
            reason,
            force,
            effective_at=effective,
            command_id=command_id,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


@app.command()
def show(
    batch_id: Annotated[str, typer.Argument(help="The id of the batch.", show_default=False)],
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Print what became of a batch, and its entries, as far as the read model has got."""
    batch = ask(lambda ledger: ledger.get_batch(batch_id, timeout=timeout), as_json=json)
    if json:
        print_json(to_plain(batch))
    else:
        _print(batch)


def _write(question: Callable[[LedgerEngine], Coroutine[Any, Any, LedgerBatch]], *, as_json: bool) -> None:
    """Ask for a batch, and print it."""
    batch = ask(question, as_json=as_json)
    if as_json:
        print_json(batch.to_dict())
    else:
        _print(batch)


def _print(batch: LedgerBatch | BatchRow) -> None:
    fields = to_plain(batch)
    del fields["entries"]
    print_fields(fields)
    table = Table("entry", "account", "type", "amount", "asset", "balance", "reference")
    for column in (3, 5):
        table.columns[column].justify = "right"
    for entry in batch.entries:
        table.add_row(
            entry.entry_id,
            Text(entry.account_id),
            entry.entry_type.lower(),
            f"{entry.amount:f}",
            Text(entry.asset),
            f"{entry.running_balance:f}",
            Text(entry.reference or ""),
        )
    out.print(table)
