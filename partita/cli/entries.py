"""`partita post | balance | statement`: entries from a terminal."""

from decimal import Decimal
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from events.types import EntryType
from partita.cli.asking import (
    Account,
    Asset,
    CommandId,
    Cursor,
    DryRun,
    ExpectedVersion,
    Limit,
    Metadata,
    Reference,
    Timeout,
    ask,
    data,
    time,
    write,
)
from partita.cli.history import By
from partita.cli.output import Json, err, out, print_json, uncut
from partita.engine import LedgerEngine
from partita.results import EntryPage
from projections.snapshots.queries import Clock


def post(
    account: Account,
    amount: Annotated[str, typer.Argument(help="A plain decimal: 12.50", show_default=False)],
    credit: Annotated[bool, typer.Option("--credit", help="Add to the balance.")] = False,
    debit: Annotated[bool, typer.Option("--debit", help="Take from the balance.")] = False,
    asset: Asset = None,
    reference: Reference = None,
    metadata: Metadata = None,
    command_id: CommandId = None,
    expected_version: ExpectedVersion = None,
    effective_at: Annotated[str | None, typer.Option(help="ISO 8601 time with zone, when not now.")] = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Post one entry to ACCOUNT and print it when it is durable."""
    if credit == debit:
        raise typer.BadParameter("give one of --credit and --debit")
    entry_type = EntryType.CREDIT if credit else EntryType.DEBIT
    effective, kept = time(effective_at, "--effective-at"), data(metadata)
    write(
        lambda ledger: ledger.create_entry(
            account,
            amount,
            entry_type,
            reference,
            kept,
            asset=asset,
            effective_at=effective,
            command_id=command_id,
            expected_version=expected_version,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


def balance(
    account: Account,
    asset: Asset = None,
    at: Annotated[str | None, typer.Option(help="As it was at this ISO 8601 time with zone.")] = None,
    by: By = Clock.RECORDED,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Print the balance of ACCOUNT, as far as the read model has got, or as it was at a time.

    What holds reserve is in it: `partita account show` tells how much.
    """

    when = time(at, "--at")
    if when is None and by is not Clock.RECORDED:
        raise typer.BadParameter("--time goes with --at")

    async def question(ledger: LedgerEngine) -> tuple[str, Decimal]:
        of = asset or ledger.settings.default_asset
        return of, await ledger.get_balance(account, of, at=when, time=by, timeout=timeout)

    of, amount = ask(question, as_json=json)
    if json:
        told = {} if when is None else {"at": when.isoformat(), "time": by}
        print_json({"account_id": account, "asset": of, "balance": f"{amount:f}", **told})
    else:
        out.print(f"{amount:f} {of}", markup=False)


def statement(
    account: Account,
    asset: Annotated[str | None, typer.Option(help="Only this asset; all when not given.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Begin with the newest entry.")] = False,
    json: Json = False,
) -> None:
    """Print the entries of ACCOUNT in their order."""
    page = ask(
        lambda ledger: ledger.list_entries(
            account, asset=asset, cursor=cursor, limit=limit, newest_first=newest_first
        ),
        as_json=json,
    )
    if json:
        print_json({"entries": [entry.to_dict() for entry in page.entries], "next_cursor": page.next_cursor})
    else:
        _print_page(page)


def _print_page(page: EntryPage) -> None:
    table = Table("recorded at", "entry", "type", "amount", "asset", "balance", "reference")
    for column in (3, 5):
        table.columns[column].justify = "right"
    for entry in page.entries:
        table.add_row(
            f"{entry.recorded_at:%Y-%m-%d %H:%M:%S}",
            entry.entry_id,
            entry.entry_type.lower(),
            f"{entry.amount:f}",
            Text(entry.asset),
            f"{entry.running_balance:f}",
            Text(entry.reference or ""),
        )
    out.print(uncut(table))
    if page.next_cursor:
        err.print(f"more: --cursor {page.next_cursor}", markup=False)
