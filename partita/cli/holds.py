"""`partita hold place | settle | release | expire | list`."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from partita.cli.asking import (
    STATUSES,
    Account,
    Asset,
    CommandId,
    Cursor,
    DryRun,
    ExpectedVersion,
    HoldId,
    Limit,
    Metadata,
    Reason,
    Reference,
    Timeout,
    ask,
    data,
    time,
    write,
)
from partita.cli.output import Json, err, out, print_json
from partita.results import to_plain
from projections.records import HoldPage, HoldStatus

app = typer.Typer(help="Reserve funds, and take or release them.", no_args_is_help=True)


class Status(StrEnum):
    """Which holds to list."""

    PLACED = "placed"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"
    ANY = "any"


@app.command(epilog=STATUSES)
def place(
    account: Account,
    amount: Annotated[str, typer.Argument(help="A plain decimal: 12.50", show_default=False)],
    asset: Asset = None,
    expires_at: Annotated[
        str | None, typer.Option(help="ISO 8601 time with zone, from when `partita hold expire` may release it.")
    ] = None,
    reference: Reference = None,
    metadata: Metadata = None,
    command_id: Annotated[
        str | None, typer.Option(help="The hold's id, which also makes the call repeatable.")
    ] = None,
    expected_version: ExpectedVersion = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Reserve AMOUNT of ACCOUNT: it stays in the balance and can't be spent."""
    expires, kept = time(expires_at, "--expires-at"), data(metadata)
    write(
        lambda ledger: ledger.place_hold(
            account,
            amount,
            asset=asset,
            expires_at=expires,
            reference=reference,
            metadata=kept,
            command_id=command_id,
            expected_version=expected_version,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


@app.command(epilog=STATUSES)
def settle(
    account: Account,
    hold_id: HoldId,
    amount: Annotated[str | None, typer.Argument(help="A part of it; all that is left when not given.")] = None,
    reference: Reference = None,
    metadata: Metadata = None,
    command_id: CommandId = None,
    expected_version: ExpectedVersion = None,
    effective_at: Annotated[str | None, typer.Option(help="ISO 8601 time with zone, when not now.")] = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Debit what a hold of ACCOUNT reserves, and print the entry; the rest of a part stays held."""
    effective, kept = time(effective_at, "--effective-at"), data(metadata)
    write(
        lambda ledger: ledger.settle_hold(
            account,
            hold_id,
            amount,
            reference=reference,
            metadata=kept,
            effective_at=effective,
            command_id=command_id,
            expected_version=expected_version,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


@app.command(epilog=STATUSES)
def release(
    account: Account,
    hold_id: HoldId,
    reason: Reason = None,
    command_id: CommandId = None,
    expected_version: ExpectedVersion = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """End a hold of ACCOUNT: what it reserves can be spent again."""
    write(
        lambda ledger: ledger.release_hold(
            account,
            hold_id,
            reason=reason,
            command_id=command_id,
            expected_version=expected_version,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


@app.command(epilog=STATUSES)
def expire(
    account: Account,
    hold_id: HoldId,
    command_id: CommandId = None,
    expected_version: ExpectedVersion = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """End a hold of ACCOUNT whose time has come. It is rejected before."""
    write(
        lambda ledger: ledger.expire_hold(
            account,
            hold_id,
            command_id=command_id,
            expected_version=expected_version,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


@app.command("list")
def list_(
    account: Account,
    status: Annotated[Status, typer.Option(help="Which ones.")] = Status.PLACED,
    limit: Limit = 50,
    cursor: Cursor = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Print the holds of ACCOUNT, oldest first: those that reserve something, unless --status says else."""
    wanted = None if status is Status.ANY else HoldStatus(status.upper())
    page = ask(
        lambda ledger: ledger.list_holds(account, status=wanted, cursor=cursor, limit=limit, timeout=timeout),
        as_json=json,
    )
    if json:
        print_json({"holds": [to_plain(hold) for hold in page.holds], "next_cursor": page.next_cursor})
    else:
        _print_page(page)


def _print_page(page: HoldPage) -> None:
    table = Table("placed at", "hold", "status", "amount", "remaining", "asset", "expires at", "reference")
    for column in (3, 4):
        table.columns[column].justify = "right"
    for hold in page.holds:
        table.add_row(
            f"{hold.placed_at:%Y-%m-%d %H:%M:%S}",
            Text(hold.hold_id),
            hold.status.lower(),
            f"{hold.amount:f}",
            f"{hold.remaining:f}",
            Text(hold.asset),
            f"{hold.expires_at:%Y-%m-%d %H:%M:%S}" if hold.expires_at else "",
            Text(hold.reference or ""),
        )
    out.print(table)
    if page.next_cursor:
        err.print(f"more: --cursor {page.next_cursor}", markup=False)
