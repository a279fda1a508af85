"""`partita stack`: the local stack on the command line. Owns how its progress and state are shown, nothing else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from partita import stack
from partita.cli.output import errors_told, print_json, uncut
from partita.settings import Settings
from partita.stack import Progress, StackError, StackStatus

app = typer.Typer(
    help="""The local stack: Kafka, Schema Registry, PostgreSQL, immudb and an EVM node on this machine.

    No container engine is needed: the parts are fetched once into a cache, run as ordinary processes on free ports
    of 127.0.0.1, and keep their data in one directory. Everything of Partita finds them by itself.

    Exit status: 0 all is well, 1 a part is not up, 2 wrong usage.
    """,
    no_args_is_help=True,
)

_ALL = ",".join(stack.ALL_PARTS)
_STYLES = {"up": "green", "down": "dim", "unhealthy": "bold red"}

Directory = Annotated[
    Path | None, typer.Option("--directory", help="Where the stack keeps its data.", show_default="the user's own")
]
Parts = Annotated[str, typer.Option("--parts", help="Parts to take, with commas between.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the state as JSON (with PostgreSQL's password) on stdout.")]


@app.command()
def up(parts: Parts = _ALL, directory: Directory = None, as_json: Json = False) -> None:
    """Fetch what is missing, start what is not running, and wait until every part answers.

    The first time takes a few minutes (immudb is compiled), later ones seconds. Running it again is harmless.
    """
    with errors_told(as_json=as_json), failures_told(as_json=as_json), stack_progress() as show:
        settings = Settings()
        found = stack.up(
            directory or settings.stack_dir, parts=_names(parts), cache=settings.cache_dir, on_progress=show
        )
    _show(found, as_json=as_json)
    _exit_unless(found.healthy)


@app.command()
def down(
    directory: Directory = None,
    purge: Annotated[bool, typer.Option("--purge", help="Also delete the data and the logs.")] = False,
    as_json: Json = False,
) -> None:
    """End what `up` started, and nothing else. The data stay, unless `--purge` is given."""
    with errors_told(as_json=as_json), failures_told(as_json=as_json):
        found = stack.down(directory or Settings().stack_dir, purge=purge)
    _show(found, as_json=as_json)


@app.command()
def status(directory: Directory = None, as_json: Json = False) -> None:
    """Tell the address, health and memory of every part. Exit status 1 if one is not up."""
    with errors_told(as_json=as_json), failures_told(as_json=as_json):
        found = stack.status(directory or Settings().stack_dir)
    _show(found, as_json=as_json)
    _exit_unless(found.healthy)


@app.command()
def fetch(parts: Parts = _ALL) -> None:
    """Fetch what the parts need into the cache, without starting any: `up` then needs no network."""
    with errors_told(as_json=False), failures_told(as_json=False), stack_progress() as show:
        stack.fetch(Settings().cache_dir, parts=_names(parts), on_progress=show)


def _names(parts: str) -> list[str]:
    names = [name.strip() for name in parts.split(",") if name.strip()]
    unknown = sorted(set(names) - set(stack.ALL_PARTS))
    if unknown or not names:
        raise typer.BadParameter(f"choose from {', '.join(stack.ALL_PARTS)}", param_hint="--parts")
    return names


@contextmanager
def failures_told(*, as_json: bool) -> Iterator[None]:
    """Tell a failure of the stack, or of its place on disk, and exit with status 1."""
    try:
        yield
    except (StackError, OSError) as error:
        if as_json:
            print_json({"error": type(error).__name__, "message": str(error)})
        Console(stderr=True, highlight=False).print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _exit_unless(healthy: bool) -> None:
    if not healthy:
        raise typer.Exit(1)


def _show(found: StackStatus, *, as_json: bool) -> None:
    """Print the state: a table without secrets for people, everything for programs."""
    if as_json:
        print_json(found.to_dict())
        return
    table = Table("part", "state", "address", "pid", "memory", "", box=None, pad_edge=False)
    for part in found.parts:
        memory = f"{part.memory_mb:.0f} MiB" if part.pid else ""
        state = f"[{_STYLES[part.state]}]{part.state}[/]"
        table.add_row(part.name, state, part.address or "", str(part.pid or ""), memory, part.detail)
    console = Console(highlight=False)
    console.print(uncut(table))
    console.print(f"data and logs in {found.directory}", style="dim", soft_wrap=True)


@contextmanager
def stack_progress() -> Iterator[Callable[[Progress], None]]:
    """Show steps on stderr: one live line a part on a terminal, otherwise one line a step."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda step: _print_step(console, step)
        return
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.fields[part]:<9}{task.description}"))
    with Bars(*columns, TimeElapsedColumn(), console=console) as bars:
        yield _Lines(bars).show


def _print_step(console: Console, step: Progress) -> None:
    if step.done in {0, step.total}:  # the counts in between are for live displays
        console.print(f"{step.part}: {_words(step)}", soft_wrap=True)


def _words(step: Progress) -> str:
    return f"{step.step} {step.done}/{step.total}" if step.total > 1 else step.step


class _Lines:
    """One live line for each part. Steps come from several threads."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._lock = Lock()
        self._tasks: dict[str, TaskID] = {}

    def show(self, step: Progress) -> None:
        """Show a step on its part's line; a part's last step stops its clock."""
        with self._lock:
            if step.part not in self._tasks:
                self._tasks[step.part] = self._bars.add_task("", total=1, part=step.part)
        finished = int(step.total == 1 and step.done == 1)
        self._bars.update(self._tasks[step.part], description=_words(step), completed=finished)
