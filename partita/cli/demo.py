"""`partita demo`: the main job on the local stack, shown as it goes."""

import logging
import signal
import time
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.live import Live
from rich.table import Table

from events.checks import CheckResult
from partita import stack
from partita.cli.output import Exit, Json, err, errors_told, out, print_json, uncut
from partita.cli.stack import failures_told, stack_progress
from partita.demo.story import Plan, Report, Screen, perform
from partita.demo.traffic import Record
from partita.settings import Settings, one_database

_PARTS: Final = ("kafka", "registry", "postgres")
_EVERY: Final = 0.2


def demo(
    commands: Annotated[int, typer.Option(min=2, help="Commands to drive through.")] = 50_000,
    accounts: Annotated[int, typer.Option(min=1, help="Accounts to spread them over.")] = 1_000,
    window: Annotated[int, typer.Option(min=1, help="Commands unanswered at a time, at most.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Makes the workload.")] = 1,
    kill: Annotated[bool, typer.Option(help="Kill handler and projection half-way.")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up afterwards, to look around.")] = False,
    json: Json = False,
) -> None:
    """Start the local stack, run handler and projection as processes, drive commands through, and prove the result.

    Half-way both services are killed with SIGKILL and started again. Afterwards the invariants are computed anew
    from the log and, separately, from PostgreSQL.

    Exit status: 0 all checks hold, 1 one does not.
    """
    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGTERM, _end_in_order)
    with errors_told(as_json=json):
        base = Settings()
    plan = Plan(commands=commands, accounts=accounts, window=window, seed=seed, kill=kill)
    was_up = stack.read_addresses(base.stack_dir) is not None
    try:
        with failures_told(as_json=json), stack_progress() as show:
            stack.up(base.stack_dir, parts=_PARTS, cache=base.cache_dir, on_progress=show)
        with errors_told(as_json=json):
            report = _perform(base, plan)
    finally:
        if not (keep or was_up):
            err.print("stopping the stack (--keep leaves it up)")
            stack.down(base.stack_dir)
    if json:
        print_json(report.to_dict())
    else:
        _show(report)
        if keep or was_up:
            out.print(
                "\nThe stack is up. Look around:\n  .venv/bin/partita statement demo-00001 --newest-first\n"
                "  .venv/bin/partita stack status\n  .venv/bin/partita stack down"
            )
    if not report.ok:
        raise typer.Exit(Exit.FAILED)


def _end_in_order(number: int, _frame: object) -> NoReturn:
    """End as after an interrupt: the services, and the stack if it was not up before, are stopped on the way out."""
    raise SystemExit(128 + number)


def _perform(base: Settings, plan: Plan) -> Report:
    found = stack.status(base.stack_dir).addresses
    settings = Settings(
        kafka_bootstrap=found["kafka_bootstrap"],
        schema_registry_url=found["schema_registry_url"],
        **one_database(found["postgres_url"]),
    )
    screen = _RichScreen()
    with screen.live:
        return perform(settings, plan, screen, logs=_logs(base))


def _logs(settings: Settings) -> Path:
    return settings.stack_dir / "logs" / "demo"


class _RichScreen(Screen):
    """One line that changes on a terminal; a line a step elsewhere."""

    def __init__(self) -> None:
        self.live = Live(console=err, refresh_per_second=8, transient=True)
        self._total = 0
        self._shown_at = 0.0

    def step(self, text: str) -> None:
        err.print(f"[cyan]▸[/cyan] {text}")

    def traffic(self, record: Record, lag: int | None) -> None:
        now = time.monotonic()
        if now - self._shown_at < _EVERY:
            return
        self._shown_at = now
        rate = record.answered / max(now - record.started, 0.001)
        rejected = record.rejected.total()
        self.live.update(
            f"  {record.answered:,} of {record.asked:,} asked are answered  {rate:,.0f}/s  "
            f"accepted {record.accepted.total():,}  rejected {rejected:,}  repeats {record.repeats:,}  "
            f"projection {lag or 0:,} behind"
        )

    def reading(self, events: int) -> None:
        self.live.update(f"  {events:,} events read")


def _show(report: Report) -> None:
    record = report.record
    table = Table(title="What was asked and told", title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_row("commands", f"{record.asked:,}")
    for what, count in record.accepted.most_common():
        table.add_row(f"accepted: {what}", f"{count:,}")
    for code, count in record.rejected.most_common():
        table.add_row(f"rejected: {code}", f"{count:,}")
    table.add_row("repeats recognised", f"{record.repeats:,}")
    table.add_row("commands/s, kill included", f"{report.commands_per_second:,.0f}")
    table.add_row(
        "outcome latency p50, p99", f"{report.percentile_ms(50):,.0f} ms, {report.percentile_ms(99):,.0f} ms"
    )
    table.add_row("projection lag, most and at the end", f"{report.most_lag:,}, {report.final_lag:,} events")
    table.add_row("projection drained after the last outcome", f"{report.drained_after:.2f} s")
    for name, seconds in report.recovery.items():
        table.add_row(f"{name} killed: caught up after", f"{seconds:.1f} s")
    out.print(uncut(table))
    out.print(_checks("Checks, from the log", report.audit.from_log))
    out.print(_checks("Checks, from PostgreSQL", report.audit.from_postgres))
    out.print("[green]All checks hold.[/green]" if report.ok else "[red]A check does not hold.[/red]")


def _checks(title: str, checks: list[CheckResult]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for check in checks:
        mark = "[green]holds[/green]" if check.ok else "[red]BROKEN[/red]"
        table.add_row(check.name, check.title, mark, f"{check.checked:,} checked", check.detail or "")
    return uncut(table)
