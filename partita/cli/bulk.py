"""`partita post-many`: the entries of a file."""

import json as jsonlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import IO, Annotated, Any, Final

import typer

from commands.errors import InvalidCommand, InvalidCommandId, InvalidEffectiveTime, OutcomeUnknown
from events.errors import LedgerError
from partita.cli.asking import DryRun, Timeout, ask, timed
from partita.cli.output import Json, err, exit_status, print_fields, print_json
from partita.engine import LedgerEngine
from partita.results import LedgerEntry

_AT_ONCE: Final = 5000
_SHOWN: Final = 10

Line = tuple[int, dict[str, Any] | InvalidCommand]
"""The number of a line, and the entry that it asks for or what is wrong with it."""


@dataclass(slots=True)
class Summary:
    """What came of the lines so far."""

    dry_run: bool
    lines: int = 0
    posted: int = 0
    replayed: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    status: int = 0
    stopped_at: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "dry_run": self.dry_run,
            "lines": self.lines,
            "posted": self.posted,
            "replayed": self.replayed,
            "failed": dict(self.failed),
            "stopped_at_line": self.stopped_at,
        }


def post_many(
    file: Annotated[
        typer.FileText,
        typer.Argument(
            help="A file of JSON lines; - is stdin.", show_default=False, encoding="utf-8", errors="surrogateescape"
        ),
    ],
    results: Annotated[
        typer.FileTextWrite | None, typer.Option(help="Write what came of each line to this file, as JSON lines.")
    ] = None,
    dry_run: DryRun = False,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Post the entries in FILE, each on its own, thousands at a time, and print a summary.

    Each line is a JSON object. It must have command_id, account_id, amount (as text: "12.50") and entry_type.

    It may have asset, reference, metadata, effective_at (ISO 8601 with zone) and expected_version.

    A line that is rejected does not stop the others. Entries of one account are posted in their order. With
    --dry-run, each line is tried alone, as if those before it had not been.

    The command_id makes it safe to run the same file again: what was posted is not posted twice.
    """
    summary = Summary(dry_run=dry_run)

    async def question(ledger: LedgerEngine) -> None:
        begun = monotonic()
        lines = _lines(file)
        while summary.stopped_at is None and (chunk := list(islice(lines, _AT_ONCE))):
            await _post(ledger, chunk, summary, results, timeout)
            err.print(f"{summary.lines:,} lines, {summary.lines / (monotonic() - begun):,.0f}/s")

    ask(question, as_json=json)
    _tell(summary, as_json=json)
    if summary.status:
        raise typer.Exit(summary.status)


def _lines(source: IO[str]) -> Iterator[Line]:
    for number, text in enumerate(source, 1):
        if text.strip():
            yield number, _entry(text)


def _entry(text: str) -> dict[str, Any] | InvalidCommand:
    """Return the fields of the entry that a line asks for, or what is wrong with it."""
    try:
        fields = jsonlib.loads(text)
    except (ValueError, RecursionError) as error:
        return InvalidCommand(f"the line is not JSON: {error}"[:200])
    if not isinstance(fields, dict):
        return InvalidCommand("the line is not a JSON object")
    if fields.get("command_id") is None:
        return InvalidCommandId("the line has no command_id: without one it would be posted again by the next run")
    if "dry_run" in fields:
        return InvalidCommand("dry_run goes for the whole file: --dry-run")
    try:
        return timed(fields)
    except InvalidEffectiveTime as fault:
        return fault


async def _post(
    ledger: LedgerEngine, chunk: Sequence[Line], summary: Summary, results: IO[str] | None, timeout: float | None
) -> None:
    asked = [fields for _, fields in chunk if isinstance(fields, dict)]
    answers = iter(await ledger.create_entries(asked, dry_run=summary.dry_run, timeout=timeout))
    for number, fields in chunk:
        answer = next(answers) if isinstance(fields, dict) else fields
        _count(summary, number, answer)
        if results is not None:
            results.write(jsonlib.dumps({"line": number, **answer.to_dict()}) + "\n")


def _count(summary: Summary, number: int, answer: LedgerEntry | LedgerError) -> None:
    summary.lines += 1
    if isinstance(answer, LedgerEntry):
        summary.replayed += answer.replayed
        summary.posted += not answer.replayed
        return
    if summary.failed.total() < _SHOWN:
        err.print(f"line {number}: {answer.code}: {answer.message}", markup=False)
    summary.failed[answer.code] += 1
    summary.status = max(summary.status, exit_status(answer))
    if isinstance(answer, OutcomeUnknown) or answer.retriable:
        summary.stopped_at = summary.stopped_at or number  # what does not answer is not asked for more


def _tell(summary: Summary, *, as_json: bool) -> None:
    if summary.failed.total() > _SHOWN:
        err.print(f"and {summary.failed.total() - _SHOWN:,} more: --results has them all")
    if summary.stopped_at is not None:
        err.print(f"stopped: line {summary.stopped_at} has no answer; run the same file again")
    told = summary.to_dict()
    if as_json:
        print_json(told)
        return
    failed = told.pop("failed")
    print_fields({**told, **{f"failed: {code}": count for code, count in failed.items()}})
