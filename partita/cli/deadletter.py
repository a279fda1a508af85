"""`partita deadletter list | show | requeue`: the commands that could not be read."""

from base64 import b64encode
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from commands.deadletter import DeadLetter, Position
from commands.requeue import MOST_REQUEUED, DeadLetters, Selection, Sieve, complete
from partita.cli.output import Json, err, errors_told, out, print_fields, print_json
from partita.settings import Settings
from partita.wiring import Wiring

app = typer.Typer(
    help="Look at commands that could not be read, and give them to the handler again.", no_args_is_help=True
)

FIRST: Final = 100
"""Commands that `requeue --reason` sends without `--all`: no more than a handler bears at its default setting."""
_MOST_IDS: Final = 100
_SHOWN: Final = 1000
_TELL_EVERY: Final = 10_000


def _positions(texts: list[str]) -> list[Position]:
    if len(texts) > _MOST_IDS:
        raise typer.BadParameter(f"{len(texts)} ids: give {_MOST_IDS} at a time, or choose with --reason or --all")
    return [_position(text) for text in texts]


def _position(text: str) -> Position:
    try:
        return Position.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _since(text: str | None) -> int | None:
    """Return a time as milliseconds since 1970 UTC."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"--since: {error}") from None
    if at.tzinfo is None:
        raise typer.BadParameter("--since: give a time with its zone: 2026-05-01T12:00:00Z")
    return int(at.timestamp() * 1000)


Since = Annotated[str | None, typer.Option(help="Only those of this ISO 8601 time (with zone) or later.")]
Reason = Annotated[
    str | None, typer.Option(help="Only those with this reason: Undecodable, InvalidAccountId, InvalidCommandId.")
]


@app.command(name="list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Dead letters at most.")] = 50,
    since: Since = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Print the newest dead letters, the newest last.

    The topic is read from --since on, or from its beginning.
    """
    selection = Selection(reason=reason, since=_since(since))
    with errors_told(as_json=json):
        letters, matching = Wiring(Settings()).dead_letters().newest(selection, limit)
    if json:
        print_json({"dead_letters": [_told(letter) for letter in letters], "matching": matching})
        return
    _print_table(letters)
    if matching > len(letters):
        err.print(f"the newest {len(letters):,} of {matching:,}: --limit shows more, --since and --reason choose")


def _told(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": str(letter.position),
        "at": _time(letter),
        "reason": letter.reason,
        "message": letter.message,
        "source_topic": letter.source_topic,
        "source_partition": letter.source_partition,
        "source_offset": letter.source_offset,
        "key": None if letter.key is None else letter.key.decode("utf-8", "backslashreplace"),
        "bytes": letter.size,
        "requeued": letter.requeued,
        "left_out_sha256": letter.left_out,
    }


def _time(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(letter.at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _print_table(letters: Iterable[DeadLetter]) -> None:
    """Print a line for each; what is needed to go on with it is never cut, however narrow the terminal."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("id", "at", "reason", "source"):
        table.add_column(name, no_wrap=True)
    table.add_column("requeued", justify="right", no_wrap=True)
    table.add_column("message", overflow="fold", ratio=1)
    for letter in letters:
        source = f"{letter.source_partition}-{letter.source_offset}"
        cells = (str(letter.position), _time(letter), letter.reason, source, str(letter.requeued or ""))
        table.add_row(*map(Text, cells), Text(letter.message[:_SHOWN]))
    out.print(table)


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="17, or 0-17: as the list has it.", show_default=False)],  # noqa: A002
    json: Json = False,
) -> None:
    """Print one dead letter with its value.

    The value is shown as text if it is text, else as hex, and cut if it is
    long. With --json it is whole, in base64.
    """
    position = _position(id)
    with errors_told(as_json=json):
        (letter,) = Wiring(Settings()).dead_letters().pick([position])
    told = _told(letter)
    if json:
        print_json(told | {"value_base64": None if letter.value is None else b64encode(letter.value).decode()})
    else:
        print_fields(told)
        out.print(_readable(letter.value), markup=False)


def _readable(value: bytes | None) -> str:
    if value is None:
        return "no value"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    shown = text if text.isprintable() and text else value.hex(" ")
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]} ... (--json has all)"


@app.command()
def requeue(
    ids: Annotated[list[str] | None, typer.Argument(help="17, or 0-17: as the list has them.")] = None,
    reason: Reason = None,
    since: Since = None,
    all_: Annotated[
        bool, typer.Option("--all", help=f"All of them, {MOST_REQUEUED:,} at most; else the oldest {FIRST}.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many, and send nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask first.")] = False,
    json: Json = False,
) -> None:
    """Give the commands of dead letters to the handler again.

    They are produced to the commands topic as they came. Choose
    them by id, by --reason, or --all. Do it when the cause is mended: a
    handler that still can't read them makes new dead letters.

    To requeue twice is safe: a command is answered twice and applied once,
    by its id. But a requester that has sent the same again under another
    id has sent another command: ask it first.

    The dead letters stay where they are.

    Exit status: 0 Kafka has them all, 1 there is no such dead letter or its
    value was left out, 4 Kafka did not take them all.
    """
    if bool(ids) == (all_ or reason is not None):
        raise typer.BadParameter("give ids, or --reason, or --all")
    if ids and since:
        raise typer.BadParameter("--since goes with --reason or --all")
    if json and not (yes or dry_run):
        raise typer.BadParameter("--json does not ask: give --yes or --dry-run")
    positions, selection = _positions(ids or []), Selection(reason=reason, since=_since(since))
    with errors_told(as_json=json):
        dead = Wiring(Settings()).dead_letters()
        letters = _letters(dead, positions, selection)
        limit = MOST_REQUEUED if all_ or positions else FIRST
        plan = _planned(letters(), limit)
        _tell_plan(plan)
        if not (dry_run or yes):
            typer.confirm(f"Requeue {plan.passed:,}?", abort=True, err=True)
        sent = 0 if dry_run else _send(dead, Sieve(limit=limit).through(letters()))
    if json:
        held = {"repeated": plan.repeated, "left_out": plan.left_out, "beyond_limit": plan.beyond}
        print_json({"dry_run": dry_run, "selected": plan.passed, "requeued": sent, **held})
    elif not dry_run:
        out.print(f"{sent:,} requeued")


def _letters(
    dead: DeadLetters, positions: list[Position], selection: Selection
) -> Callable[[], Iterable[DeadLetter]]:
    """Return what gives the dead letters that are meant; it is called twice, to count them and to send them."""
    if positions:
        return partial(iter, complete(dead.pick(positions)))
    return partial(dead.select, selection)


def _planned(letters: Iterable[DeadLetter], limit: int) -> Sieve:
    """Return the sieve through which these letters have gone."""
    plan = Sieve(limit=limit)
    for _ in plan.through(letters):
        pass
    return plan


def _tell_plan(plan: Sieve) -> None:
    err.print(f"{plan.passed:,} to requeue")
    if plan.repeated:
        err.print(f"{plan.repeated:,} are the same command again: each is sent once")
    if plan.left_out:
        err.print(f"{plan.left_out:,} have no command in them, it was too large: only their producer can send it")
    if plan.beyond:
        err.print(f"{plan.beyond:,} more: see how these go, then --all, or --since a later time")


def _send(dead: DeadLetters, letters: Iterable[DeadLetter]) -> int:
    told = 0

    def on_progress(delivered: int) -> None:
        nonlocal told
        if delivered - told >= _TELL_EVERY:
            told = delivered
            err.print(f"{delivered:,} requeued")

    return dead.requeue(letters, on_progress=on_progress)
