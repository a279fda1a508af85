"""`partita reconcile` and `partita discrepancy`: the ledger against a chain, and what people say of what is found."""

import asyncio
import csv
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from partita.cli.output import Exit, Json, err, errors_told, out, print_fields, print_json, uncut
from partita.engine import LedgerEngine
from partita.reconciliation import ReconciliationEngine
from reconciler.report import Discrepancy, Report

T = TypeVar("T")

app = typer.Typer(
    help="Discrepancies between ledger and chain: list them, and say what is with them.", no_args_is_help=True
)

Id = Annotated[str, typer.Argument(help="The discrepancy's id, as `partita reconcile` tells it.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, in your own words; kept for ever.")]
Actor = Annotated[str | None, typer.Option(help="Who says so.")]

STATUSES: Final = (
    "Exit status: 0 all agrees, 3 there are discrepancies that nobody has seen to, 4 a service or the chain's node "
    "is not there, 1 failed: the nodes disagree, or it is another chain, or the log needs a person."
)
_COLUMNS: Final = (
    "discrepancy_id", "type", "description", "transaction_hash", "entry_id", "account_id", "ledger_amount",
    "ledger_asset", "log_index", "block_number", "from", "to", "chain_amount", "chain_asset", "state",
)  # fmt: skip


def reconcile(
    start: Annotated[int, typer.Option("--from", min=0, help="The first block.", show_default=False)],
    end: Annotated[
        int | None, typer.Option("--to", min=0, help="The last block; the newest that is settled when not given.")
    ] = None,
    json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the discrepancies as CSV on stdout.")] = False,
) -> None:
    """Compare blocks of the chain with the entries that name its transactions, and tell every discrepancy.

    PARTITA_CHAIN says which chain, PARTITA_EVM_RPC_URL by which node, PARTITA_CHAIN_ADDRESSES which addresses are
    ours. Only blocks that count as settled are read (PARTITA_CHAIN_FINALITY).
    """
    if json and as_csv:
        raise typer.BadParameter("give one of --json and --csv")

    async def run(engine: ReconciliationEngine) -> Report:
        with _progress() as progress:
            task = progress.add_task("blocks", total=None)

            def reached(block: int, last: int) -> None:
                progress.update(task, completed=block - start + 1, total=last - start + 1)

            return await engine.reconcile(start, end, on_progress=reached)

    report = _asked(run, as_json=json)
    if json:
        print_json(report.to_dict())
    elif as_csv:
        _print_csv(report)
    else:
        _print(report)
    if report.discrepancy_count:
        raise typer.Exit(Exit.REJECTED)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True)


def _asked(question: Callable[[ReconciliationEngine], Coroutine[Any, Any, T]], *, as_json: bool) -> T:
    async def run() -> T:
        async with LedgerEngine() as ledger, ReconciliationEngine(ledger) as engine:
            return await question(engine)

    with errors_told(as_json=as_json):
        return asyncio.run(run())


def _print(report: Report) -> None:
    print_fields(
        {
            "chain": f"{report.chain} ({report.chain_id})",
            "blocks": _blocks(report),
            "matched": f"{report.matched_count:,}",
            "between our own addresses": f"{report.internal_count:,}",
            "discrepancies": f"{report.discrepancy_count:,}",
            "explained, ignored or resolved": f"{report.settled_count:,}",
        }
    )
    if report.totals:
        table = Table("asset", "in, by the chain", "in, by the ledger", "out, by the chain", "out, by the ledger")
        for total in report.totals:
            amounts = (total.chain_in, total.ledger_in, total.chain_out, total.ledger_out)
            table.add_row(Text(total.asset), *(f"{amount:f}" for amount in amounts))
        out.print(uncut(table))
    for found in report.discrepancies:
        out.print(f"\n[red]{found.type}[/red]  {_sides(found)}")
        out.print(f"  {found.description}", markup=False)
        out.print(f"  transaction {found.transaction_hash}", markup=False, soft_wrap=True)
        out.print(f"  id {found.discrepancy_id}", markup=False)
    if len(report.discrepancies) < report.discrepancy_count:
        err.print(f"only {len(report.discrepancies):,} of {report.discrepancy_count:,} discrepancies are listed")


def _blocks(report: Report) -> str:
    first, last = report.start_block, report.end_block
    compared = f"{first:,} to {last:,}" if first <= last else f"none from {first:,} on"
    return f"{compared}, settled: {report.settled_block:,} ({report.finality})"


def _sides(found: Discrepancy) -> str:
    ledger, chain = found.ledger, found.chain
    sides = []
    if ledger:
        sides.append(f"entry {ledger.entry_id}: {ledger.entry_type.lower()} {ledger.amount:f} {ledger.asset}")
    if chain:
        amount = f"{chain.value} of {chain.token}" if chain.amount is None else f"{chain.amount:f} {chain.asset}"
        sides.append(f"chain: {amount}")
    return escape(", ".join(sides))


def _print_csv(report: Report) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(_COLUMNS)
    writer.writerows(map(_csv_row, report.discrepancies))


def _csv_row(found: Discrepancy) -> list[Any]:
    ledger, chain = found.ledger, found.chain
    return [
        found.discrepancy_id,
        found.type,
        found.description,
        found.transaction_hash,
        *((ledger.entry_id, ledger.account_id, f"{ledger.amount:f}", ledger.asset) if ledger else ("",) * 4),
        *(
            (chain.log_index, chain.block_number, chain.sender, chain.recipient, chain.amount, chain.asset)
            if chain
            else ("",) * 6
        ),
        found.state,
    ]


@app.command(name="list")
def list_all(
    everything: Annotated[bool, typer.Option("--all", help="Also those that somebody has seen to.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 1000,
    json: Json = False,
) -> None:
    """List the discrepancies that were found and still hold, the oldest first."""
    found = _asked(lambda engine: engine.list_discrepancies(settled=everything, limit=limit), as_json=json)
    if json:
        print_json([{name: value if value is None else str(value) for name, value in row.items()} for row in found])
        return
    for row in found:
        said = f" by {row['actor']}" if row["actor"] else ""
        out.print(f"[red]{row['type']}[/red]  {row['state']}{escape(said)}", highlight=False)
        named = f"entry {row['entry_id']}, " if row["entry_id"] else ""
        told = (
            row["description"],
            row["reason"],
            f"{named}transaction {row['tx_hash']}",
            f"id {row['discrepancy_id']}",
        )
        for line in filter(None, told):
            out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def explain(discrepancy: Id, reason: Reason, actor: Actor = None, json: Json = False) -> None:
    """Say that a discrepancy is as it should be, and why."""
    _say("explained", discrepancy, lambda engine: engine.explain(discrepancy, reason, actor=actor), as_json=json)


@app.command()
def ignore(discrepancy: Id, reason: Reason, actor: Actor = None, json: Json = False) -> None:
    """Let a discrepancy be, and say why."""
    _say("ignored", discrepancy, lambda engine: engine.ignore(discrepancy, reason, actor=actor), as_json=json)


@app.command()
def reopen(discrepancy: Id, reason: Reason, actor: Actor = None, json: Json = False) -> None:
    """Take back what was said of a discrepancy, and say why."""
    _say("reopened", discrepancy, lambda engine: engine.reopen(discrepancy, reason, actor=actor), as_json=json)


@app.command()
def resolve(
    discrepancy: Id,
    reason: Reason,
    batch: Annotated[str, typer.Option(help="The batch that puts it right; it must be posted.")],
    actor: Actor = None,
    json: Json = False,
) -> None:
    """Say that a batch has put a discrepancy right, and why."""
    _say(
        "resolved", discrepancy, lambda engine: engine.resolve(discrepancy, batch, reason, actor=actor), as_json=json
    )


def _say(
    state: str,
    discrepancy: str,
    question: Callable[[ReconciliationEngine], Coroutine[Any, Any, None]],
    *,
    as_json: bool,
) -> None:
    _asked(question, as_json=as_json)
    said = {"discrepancy_id": discrepancy, "state": state}
    (print_json if as_json else print_fields)(said)
