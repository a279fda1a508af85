"""`partita rebuild`: the tables of a projection made anew beside the live ones, and put in their place."""

import asyncio
import time
from contextlib import closing
from typing import Annotated, Final, Literal

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from partita.cli.output import Json, err, errors_told, out, print_json
from partita.services import drop_rebuilt
from partita.services import rebuild as rebuild_tables
from partita.settings import Settings
from partita.wiring import Wiring
from projections.errors import RebuildDiffers
from projections.rebuild.results import Rebuilt, Step

_LINE_EVERY: Final = 5.0


def rebuild(
    projection: Annotated[Literal["balances", "snapshots", "proofs"], typer.Argument(help="Whose tables.")],
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Exchange the tables though the new ones differ.")
    ] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Only drop the tables that were live before the last rebuild.")
    ] = False,
    drop_new: Annotated[
        bool, typer.Option("--drop-new", help="Only drop what a rebuild that was not finished has built.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a projection's tables anew from the log and put them in the place of the live ones, which stay in use.

    The new tables are compared with the live ones, and the first differences are named. If there are any, nothing is
    exchanged without --accept-differences. The old tables are kept until --drop-old. A rebuild that was ended goes on
    where it was when it is run again.

    Exit status: 0 done, 1 not exchanged, 4 a part of the ledger is not there, or in use: run it again.
    """
    if drop_old and drop_new:
        raise typer.BadParameter("give one of --drop-old and --drop-new")
    with errors_told(as_json=json), closing(Wiring(Settings())) as wiring:
        if drop_old or drop_new:
            _show_dropped(asyncio.run(drop_rebuilt(projection, wiring, old=drop_old)), json=json)
            return
        with closing(_Steps()) as steps:
            try:
                done = asyncio.run(
                    rebuild_tables(projection, wiring, accept_differences=accept_differences, on_step=steps.reached)
                )
            except RebuildDiffers as error:
                _show_differences(error)
                raise
    if json:
        print_json(done.to_dict())
    else:
        _show(done)


def _show(done: Rebuilt) -> None:
    rate = done.events / max(done.seconds, 0.001)
    out.print(f"{done.projection} rebuilt: {done.events:,} events in {done.seconds:.1f} s, {rate:,.0f}/s")
    for difference in done.differences:
        out.print(f"differed: {difference}", markup=False)
    for partition, reason in sorted(done.halted.items()):
        out.print(f"[red]halted[/red] partition {partition}: ", end="")
        out.print(reason, markup=False)
    for part in done.not_carried_over:
        out.print(f"only the old tables have: {part}", markup=False)
    out.print(f"the old tables are in {done.old_schema}, until: partita rebuild {done.projection} --drop-old")


def _show_dropped(tables: list[str], *, json: bool) -> None:
    if json:
        print_json({"dropped": tables})
    else:
        out.print(f"dropped: {', '.join(tables) or 'nothing, since nothing was there'}")


def _show_differences(error: RebuildDiffers) -> None:
    for each in error.details["differences"]:
        key = ", ".join(f"{name} {value}" for name, value in each["key"].items())
        err.print(f"{each['table']} {key}: {each['what']}", markup=False)


class _Steps:
    """Says on stderr what is being done: a bar with rate and time left on a terminal, else a line now and then."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} events, {task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
        self._task: TaskID | None = None
        self._shown = ("", 0)
        self._began = self._told_at = time.monotonic()

    def reached(self, step: Step) -> None:
        if (step.doing, step.total) != self._shown:
            self._begin(step)
        rate = step.done / max(time.monotonic() - self._began, 0.001)
        if self._task is not None:
            self._bar.update(self._task, completed=step.done, total=step.total, rate=rate)
        elif step.done and time.monotonic() - self._told_at >= _LINE_EVERY:
            self._told_at = time.monotonic()
            left = (step.total - step.done) / rate
            err.print(f"{step.doing}: {step.done:,} of {step.total:,} events, {rate:,.0f}/s, {left:,.0f} s left")

    def _begin(self, step: Step) -> None:
        self.close()
        self._shown, self._began = (step.doing, step.total), time.monotonic()
        if step.total and err.is_terminal:
            self._task = self._bar.add_task(step.doing, total=step.total, rate=0.0)
            self._bar.start()
        elif not step.total:
            err.print(step.doing)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
