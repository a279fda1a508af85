"""`partita snapshot | trial-balance`: all balances at a time."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from partita.cli.asking import Cursor, Limit, Timeout, ask, time
from partita.cli.output import Json, err, out, print_json, uncut
from partita.results import to_plain
from projections.snapshots.queries import Clock

At = Annotated[str | None, typer.Option(help="ISO 8601 time with zone: 2026-05-01T00:00:00Z. Now when not given.")]
By = Annotated[
    Clock, typer.Option("--time", help="Count entries from when they were recorded, or from when they are effective.")
]


def snapshot(
    at: At = None,
    by: By = Clock.RECORDED,
    limit: Limit = 100,
    cursor: Cursor = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Print the balances of all accounts at a time. A batch is in them as a whole or not at all.

    Accounts that had nothing yet are left out, so a page may be shorter than --limit though more come.
    """
    when = moment(at)
    page = ask(
        lambda ledger: ledger.snapshot(when, time=by, cursor=cursor, limit=limit, timeout=timeout), as_json=json
    )
    if json:
        print_json({"at": when.isoformat(), "time": by, **to_plain(page)})
        return
    table = Table("account", "asset", "balance")
    table.columns[2].justify = "right"
    for row in page.balances:
        table.add_row(Text(row.account_id), Text(row.asset), f"{row.balance:f}")
    out.print(uncut(table))
    if page.next_cursor:
        err.print(f"more: --at {when.isoformat()} --cursor {page.next_cursor}", markup=False)


def trial_balance(at: At = None, by: By = Clock.RECORDED, timeout: Timeout = None, json: Json = False) -> None:
    """Print the sums over all accounts at a time, by asset.

    *floorless* are accounts without a floor, through which money comes in; *others* are all the others. *held* and
    *in flight* are parts of the balances that open holds, and batches that are not done, reserve.
    """
    when = moment(at)
    sums = ask(lambda ledger: ledger.trial_balance(when, time=by, timeout=timeout), as_json=json)
    if json:
        print_json({"at": when.isoformat(), "time": by, "assets": [to_plain(row) for row in sums]})
        return
    table = Table("asset", "credits", "debits", "balance", "floorless", "others", "held", "in flight")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in sums:
        amounts = (row.credits, row.debits, row.balance, row.floorless, row.others, row.held, row.in_flight)
        table.add_row(Text(row.asset), *(f"{amount:f}" for amount in amounts))
    out.print(uncut(table))


def moment(text: str | None) -> datetime:
    """Return the time that --at gives, or now."""
    return time(text, "--at") or datetime.now(UTC)
