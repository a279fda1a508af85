"""What people see in a terminal is whole: no figure is cut short to fit."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from events.money import to_decimal
from events.types import EntryType
from partita.cli import app, entries, output
from partita.results import EntryPage, LedgerEntry, from_micros
from tests.support.samples import NOON

LARGE = 12345678901234567890123456789012345678


def entry() -> LedgerEntry:
    return LedgerEntry(
        entry_id="3-8590",
        account_id="a" * 255,
        asset="USD",
        entry_type=EntryType.CREDIT,
        amount=to_decimal(LARGE),
        running_balance=to_decimal(LARGE + 1),
        version=1,
        partition=3,
        sequence=8590,
        recorded_at=from_micros(NOON),
        effective_at=from_micros(NOON),
        command_id="c-1",
    )


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Console:
    """A screen of 80 columns that remembers what was printed."""
    console = Console(width=80, record=True, soft_wrap=True, highlight=False)
    for module in (output, entries):
        monkeypatch.setattr(module, "out", console)
    return console


def column(text: str, number: int) -> str:
    """Return what stands in a column of a table, lines joined."""
    rows = [line.split("│") for line in text.splitlines() if line.startswith("│")]
    return "".join(row[number].strip() for row in rows)


def test_a_statement_shows_every_digit(narrow: Console) -> None:
    entries._print_page(EntryPage(entries=(entry(),), next_cursor=None))
    text = narrow.export_text()
    assert "…" not in text
    assert column(text, 4) == f"{to_decimal(LARGE):f}"
    assert column(text, 6) == f"{to_decimal(LARGE + 1):f}"


def test_an_entry_shows_the_whole_account_id(narrow: Console) -> None:
    output.print_fields(entry().to_dict())
    text = narrow.export_text()
    assert "…" not in text
    assert text.count("a" * 20) >= 12


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_a_place_that_can_not_be_used_is_told(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["stack", command, "--directory", str(tmp_path / "file"), "--json"])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert json.loads(result.stdout)["error"]
    assert "file" in result.stderr
