"""`partita account open | freeze | unfreeze | close | reopen | show`."""

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from partita.cli.asking import (
    STATUSES,
    Account,
    CommandId,
    DryRun,
    ExpectedVersion,
    Metadata,
    Reason,
    Reference,
    Timeout,
    ask,
    data,
    write,
)
from partita.cli.output import Json, out, print_fields, print_json
from partita.results import available, to_plain
from projections.records import AccountRow

app = typer.Typer(help="Open, freeze, close and look at accounts.", no_args_is_help=True)


@app.command("open", epilog=STATUSES)
def open_(
    account: Account,
    floor: Annotated[
        str, typer.Option(help="No balance falls below it: 0, or less for a credit limit of so much (--floor=-500).")
    ] = "0",
    no_floor: Annotated[bool, typer.Option("--no-floor", help="Let balances fall without end.")] = False,
    asset: Annotated[
        list[str] | None, typer.Option(help="The only asset that it may hold; may be given again. Any when not.")
    ] = None,
    account_type: Annotated[str | None, typer.Option(help="A word of your own: customer, world.")] = None,
    reference: Reference = None,
    metadata: Metadata = None,
    command_id: CommandId = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Open ACCOUNT with rules of its own, before anything has happened to it."""
    kept = data(metadata)
    write(
        lambda ledger: ledger.open_account(
            account,
            floor=None if no_floor else floor,
            assets=asset or (),
            account_type=account_type,
            reference=reference,
            metadata=kept,
            command_id=command_id,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


@app.command(epilog=STATUSES)
def freeze(
    account: Account,
    reason: Reason = None,
    command_id: CommandId = None,
    expected_version: ExpectedVersion = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Let ACCOUNT take no entries and no holds; holds may still be released."""
    write(
        lambda ledger: ledger.freeze_account(
            account,
            reason=reason,
            command_id=command_id,
            expected_version=expected_version,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


@app.command(epilog=STATUSES)
def unfreeze(
    account: Account,
    reason: Reason = None,
    command_id: CommandId = None,
    expected_version: ExpectedVersion = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Open ACCOUNT, which is frozen, again."""
    write(
        lambda ledger: ledger.unfreeze_account(
            account,
            reason=reason,
            command_id=command_id,
            expected_version=expected_version,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


@app.command(epilog=STATUSES)
def close(
    account: Account,
    permanent: Annotated[bool, typer.Option("--permanent", help="It can never be reopened.")] = False,
    reason: Reason = None,
    command_id: CommandId = None,
    expected_version: ExpectedVersion = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Close ACCOUNT, which must have neither a balance nor a hold."""
    write(
        lambda ledger: ledger.close_account(
            account,
            permanent=permanent,
            reason=reason,
            command_id=command_id,
            expected_version=expected_version,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


@app.command(epilog=STATUSES)
def reopen(
    account: Account,
    reason: Reason = None,
    command_id: CommandId = None,
    expected_version: ExpectedVersion = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Open ACCOUNT, which is closed, again, with the rules that it had."""
    write(
        lambda ledger: ledger.reopen_account(
            account,
            reason=reason,
            command_id=command_id,
            expected_version=expected_version,
            dry_run=dry_run,
            timeout=timeout,
        ),
        as_json=json,
    )


@app.command()
def show(account: Account, timeout: Timeout = None, json: Json = False) -> None:
    """Print the status, rules and balances of ACCOUNT, as far as the read model has got.

    *available* is what may be debited or held: the balance, less what is held, less the floor.
    """
    found = ask(lambda ledger: ledger.get_account(account, timeout=timeout), as_json=json)
    told = _told(found)
    if json:
        print_json(told)
        return
    balances = told.pop("balances")
    told["floor"] = "none" if found.floor is None else told["floor"]
    told["assets"] = ", ".join(found.assets) or "any"
    print_fields(told)
    table = Table("asset", "balance", "held", "available")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in balances:
        table.add_row(Text(row["asset"]), row["balance"], row["held"], row["available"] or "no floor")
    out.print(table)


def _told(account: AccountRow) -> dict[str, Any]:
    told = to_plain(account)
    for balance in told["balances"]:
        free = available(account, balance["asset"])
        balance["available"] = None if free is None else f"{free:f}"
    return told
