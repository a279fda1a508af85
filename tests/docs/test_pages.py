"""The documents say what the code has: settings, errors, commands, topics, tables. And their links lead somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from fastapi.routing import APIRoute
from sqlalchemy import Table
from typer.testing import CliRunner

import partita
import partita.web.app
from commands.types import COMMAND_TYPES, BatchCommand
from events.errors import LedgerError
from events.topics import Topics
from partita.cli import app
from partita.cli.output import exit_status
from partita.settings import Settings
from partita.web.problems import STATUSES
from projections.snapshots.tables import ALL_TABLES
from reconciler import tables as chain_tables
from tests.docs.pages import PAGES, ROOT, anchors, links, names, read, rows, section

DAY_MS = 24 * 60 * 60 * 1000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page.name}: {link}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    to_see = [ROOT / "README.md"]
    while to_see:
        page = to_see.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            to_see += [(page.parent / link.partition("#")[0]).resolve() for link in links(page.read_text())]
    assert seen >= set(PAGES)


def variable(field: str) -> str:
    return f"PARTITA_{field.upper()}"


def test_every_setting_has_a_row_and_every_row_a_setting() -> None:
    documented = [name for row in rows(read("docs/settings.md")) for name in names(row[0])]
    assert sorted(documented) == sorted(variable(field) for field in Settings.model_fields)


def test_the_defaults_of_settings_are_told() -> None:
    told = {names(row[0])[0]: row[-1] for row in rows(read("docs/settings.md"))}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, int | float | str):
            shown = field.default if isinstance(field.default, str) else f"{field.default:g}"
            assert told[variable(name)] == f"`{shown}`", name


def test_the_documents_name_no_setting_that_there_is_not() -> None:
    known = {variable(field) for field in Settings.model_fields} | {"PARTITA_"}
    for page in PAGES:
        if page.name != "stack.md":  # names the variables of docker-compose.yml too
            assert set(re.findall(r"PARTITA_[A-Z_]*", page.read_text())) <= known, page.name


def all_errors(base: type[LedgerError] = LedgerError) -> Iterator[type[LedgerError]]:
    for error in base.__subclasses__():
        if not error.__name__.startswith("_"):
            yield error
        yield from all_errors(error)


def test_every_public_error_has_a_row_that_is_right() -> None:
    documented = {names(row[0])[0]: row for row in rows(read("docs/errors.md"))}
    public = {name: found for name in partita.__all__ if _is_error(found := getattr(partita, name))}
    assert public.keys() - documented.keys() - {"LedgerError"} == set()
    existing = {error.__name__: error for error in all_errors()}
    assert documented.keys() <= existing.keys()
    for name, row in documented.items():
        error = existing[name].__new__(existing[name])
        assert row[-2:] == ["yes" if error.retriable else "no", str(int(exit_status(error)))], name


def _is_error(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, LedgerError)


def test_every_problem_has_the_status_that_is_told() -> None:
    told = {name: int(row[1]) for row in rows(section(read("docs/http.md"), "Problems")) for name in names(row[0])}
    told.pop("Invalid...")
    assert told == {kind.__name__: status for kind, status in STATUSES.items() if status != 500}


def test_every_request_is_told() -> None:
    page = read("docs/http.md")
    cells = [row[0] for title in ("Questions", "Commands", "Running it") for row in rows(section(page, title))]
    routers = (
        partita.web.reading.router,
        partita.web.history.router,
        partita.web.proofs.router,
        partita.web.writing.router,
        partita.web.service.router,
    )
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    there_are = {f"{method} {route.path}" for route in routes for method in route.methods or ()}
    assert {name for cell in cells for name in names(cell) if name.startswith(("GET", "POST"))} == there_are - {
        "GET /docs",
        "GET /problems/{code}",
    }


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command below `command`, whichever click it is made with."""
    below: dict[str, Any] = getattr(command, "commands", {})
    if not below:
        yield path
    for name, found in below.items():
        yield from commands(found, (*path, name))


@pytest.mark.parametrize("path", [*commands(typer.main.get_command(app))], ids=" ".join)
def test_a_command_explains_itself_and_is_in_the_documents(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Usage:" in shown.stdout
    assert f"`partita {' '.join(path)}`" in read("README.md")


def test_every_command_is_told_with_its_fields() -> None:
    page = read("docs/commands.md")
    fields = section(page, "The fields")
    everybodys, accounts, some = (
        names_of(table) for table in re.split("All but .* these too:|And some of them these:", fields)
    )
    told = {names(row[0])[0]: names(row[2]) for row in rows(section(page, "The commands"))}
    assert told.keys() == {command.__name__ for command in COMMAND_TYPES}
    for command in COMMAND_TYPES:
        common = everybodys if command in get_args(BatchCommand) else [*everybodys, *accounts]
        assert {*told[command.__name__], *common} == {*command._fields}, command.__name__
    assert {name for fields in told.values() for name in fields} == {*some}


def names_of(text: str) -> list[str]:
    return [name for row in rows(text) for name in names(row[0])]


def test_topics_are_kept_as_told() -> None:
    told = {names(row[0])[0]: row for row in rows(section(read("README.md"), "The contract: topics"))}
    actual = Topics(prefix="ledger").settings()
    assert told.keys() == actual.keys()
    for topic, settings in actual.items():
        kept = told[topic][4]
        if settings["retention.ms"] == "-1":
            assert kept.startswith("for ever")
        else:
            days = int(settings["retention.ms"]) // DAY_MS
            assert kept == f"{days} day{'s' if days > 1 else ''}"


@pytest.mark.parametrize("table", [*ALL_TABLES.tables.values()], ids=str)
def test_tables_have_the_columns_that_are_told(table: Table) -> None:
    columns = [column.name for column in table.columns]
    described = [name for row in rows(section(read("docs/tables.md"), table.name)) for name in names(row[0])]
    assert described == columns
    in_short = {names(row[0])[0]: names(row[2]) for row in rows(section(read("README.md"), "The contract: tables"))}
    assert in_short[table.name] == columns


@pytest.mark.parametrize("table", [*chain_tables.metadata.tables.values()], ids=str)
def test_tables_of_the_chain_have_the_columns_that_are_told(table: Table) -> None:
    page = read("docs/reconciliation.md")
    described = [name for row in rows(section(page, table.name)) for name in names(row[0])]
    assert described == [column.name for column in table.columns]


def test_every_decision_is_in_the_index() -> None:
    index = read("docs/adr/README.md")
    for page in (ROOT / "docs" / "adr").glob("[0-9]*.md"):
        assert f"({page.name})" in index
        assert page.read_text().startswith(f"# {page.name[:4]}: ")
