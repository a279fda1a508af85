"""`partita post | balance | statement`: the ledger from a terminal."""

import asyncio
from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from events.types import EntryType
from partita.cli.output import Json, err, errors_told, out, print_fields, print_json, uncut
from partita.engine import EntryPage, LedgerEngine

Account = Annotated[str, typer.Argument(help="The account's id.", show_default=False)]
Asset = Annotated[str | None, typer.Option(help="The asset; the setting PARTITA_DEFAULT_ASSET when not given.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds to wait.", min=0.001)]


def post(
    account: Account,
    amount: Annotated[str, typer.Argument(help="A plain decimal: 12.50", show_default=False)],
    credit: Annotated[bool, typer.Option("--credit", help="Add to the balance.")] = False,
    debit: Annotated[bool, typer.Option("--debit", help="Take from the balance.")] = False,
    asset: Asset = None,
    reference: Annotated[str | None, typer.Option(help="Your own reference.")] = None,
    command_id: Annotated[
        str | None, typer.Option(help="Makes the call repeatable: the same id is answered with the same entry.")
    ] = None,
    expected_version: Annotated[
        int | None, typer.Option(help="Refuse unless the account is at this version.")
    ] = None,
    effective_at: Annotated[str | None, typer.Option(help="ISO 8601 time with zone, when not now.")] = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Post one entry to ACCOUNT and print it when it is durable.

    Exit status: 0 posted (or posted before under the same id), 3 rejected, 4 a service is not there,
    5 the outcome is not known (ask again with the same --command-id).
    """
    if credit == debit:
        raise typer.BadParameter("give one of --credit and --debit")
    entry_type = EntryType.CREDIT if credit else EntryType.DEBIT
    effective = _time(effective_at)

    async def run() -> None:
        async with LedgerEngine() as ledger:
            entry = await ledger.create_entry(
                account,
                amount,
                entry_type,
                reference,
                asset=asset,
                command_id=command_id,
                expected_version=expected_version,
                effective_at=effective,
                timeout=timeout,
            )
            (print_json if json else print_fields)(entry.to_dict())

    with errors_told(as_json=json):
        asyncio.run(run())


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"--effective-at: {error}") from None


def balance(account: Account, asset: Asset = None, timeout: Timeout = None, json: Json = False) -> None:
    """Print the balance of ACCOUNT, as far as the read model has got."""

    async def run() -> None:
        async with LedgerEngine() as ledger:
            held = asset or ledger.settings.default_asset
            amount = await ledger.get_balance(account, held, timeout=timeout)
            if json:
                print_json({"account_id": account, "asset": held, "balance": f"{amount:f}"})
            else:
                out.print(f"{amount:f} {held}", markup=False)

    with errors_told(as_json=json):
        asyncio.run(run())


def statement(
    account: Account,
    asset: Annotated[str | None, typer.Option(help="Only this asset; all when not given.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Entries at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="The next cursor of the page before.")] = None,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Begin with the newest entry.")] = False,
    json: Json = False,
) -> None:
    """Print the entries of ACCOUNT in their order."""

    async def run() -> None:
        async with LedgerEngine() as ledger:
            page = await ledger.list_entries(
                account, asset=asset, cursor=cursor, limit=limit, newest_first=newest_first
            )
            if json:
                entries = [entry.to_dict() for entry in page.entries]
                print_json({"entries": entries, "next_cursor": page.next_cursor})
            else:
                _print_page(page)

    with errors_told(as_json=json):
        asyncio.run(run())


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
