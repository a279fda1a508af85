"""`partita verify`: everything that must always hold, on a live ledger."""

import asyncio
import time
from contextlib import closing
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from events.checkpoint import Verifier
from partita.cli.asking import time as time_of
from partita.cli.output import Exit, Json, err, errors_told, out, print_json, uncut
from partita.settings import Settings
from partita.verify.run import ANSWER, Verification
from partita.verify.run import Progress as Read
from partita.verify.run import verify as verify_ledger
from partita.wiring import Wiring

_LINE_EVERY: Final = 5.0


def verify(
    key: Annotated[
        list[str] | None,
        typer.Option(help="A verifier key that may have signed; if not given, all known here."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Hold only what was recorded from then on (ISO 8601) against tables and mirror."),
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds that who lags behind gets to catch up.")] = ANSWER,
    json: Json = False,
) -> None:
    """Verify a ledger, which may be in use: the log, what requesters were told, the checkpoints, and the tables.

    The whole log is read, with --since too, and nothing is believed that it says of itself. Of each thing that must
    always hold, the first record that breaks it is named, with its place. Nothing is changed.

    Exit status: 0 everything holds, 1 something does not, 4 a part of the ledger could not be looked at.
    """
    begin, report = time_of(since, "--since"), _Reading()
    with errors_told(as_json=json), closing(Wiring(Settings())) as wiring, closing(report):
        verifiers = [Verifier.parse(each) for each in key or ()]
        found = asyncio.run(
            verify_ledger(wiring, verifiers=verifiers, since=begin, patience=wait, on_progress=report.reached)
        )
    if json:
        print_json(found.to_dict())
    else:
        _show(found)
    if not found.ok:
        raise typer.Exit(Exit.FAILED)


def _show(found: Verification) -> None:
    for place, results in found.found.items():
        table = Table(title=f"In the {place}", title_justify="left", show_header=False)
        for result in results:
            mark = "[green]holds[/green]" if result.ok else "[red]BROKEN[/red]"
            table.add_row(result.name, result.title, mark, f"{result.checked:,} checked")
        out.print(uncut(table))
    for place, results in found.found.items():
        for result in results:
            if result.detail:
                out.print(f"[red]{result.name}[/red] in the {place}: ", end="")
                out.print(result.detail, markup=False)
    rate = found.events / max(found.seconds, 0.001)
    out.print(f"{found.events:,} events of ledger {found.ledger} in {found.seconds:.1f} s, {rate:,.0f}/s")


class _Reading:
    """Says on stderr how far the log is read: a bar on a terminal, else a line now and then."""

    def __init__(self) -> None:
        columns = (
            TextColumn("reading the log"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
        self._task: TaskID | None = None
        self._told_at = time.monotonic()

    def reached(self, read: Read) -> None:
        if err.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task("", total=read.total)
                self._bar.start()
            self._bar.update(self._task, completed=read.done, total=read.total)
        elif time.monotonic() - self._told_at >= _LINE_EVERY:
            self._told_at = time.monotonic()
            err.print(f"{read.done:,} of about {read.total:,} records read")

    def close(self) -> None:
        self._bar.stop()
