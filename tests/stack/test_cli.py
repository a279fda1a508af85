"""`partita stack` on the command line: what it prints, where, and its exit status."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from partita.cli.stack import app
from partita.stack import PartStatus, StackStatus

RUNNER = CliRunner()
PASSWORD = "do-not-show"


def found(directory: Path, *, state: str = "up") -> StackStatus:
    part = PartStatus(
        name="postgres", state=state, pid=42, address="127.0.0.1:15005", memory_mb=40.2,  # type: ignore[arg-type]
        log=directory / "postgres.log", detail="PostgreSQL 18",
    )  # fmt: skip
    url = f"postgresql://partita:{PASSWORD}@127.0.0.1:15005/partita"
    return StackStatus(directory=directory, parts=(part,), addresses={"postgres_url": url})


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let `status` find a stack in this state."""
    monkeypatch.setattr("partita.stack.status", found, raising=False)
    return "up"


def test_people_are_told_the_state_and_no_password(state: str, tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["status", "--directory", str(tmp_path)])
    assert result.exit_code == 0
    assert "127.0.0.1:15005" in result.stdout
    assert "40 MiB" in result.stdout
    assert PASSWORD not in result.output


def test_programs_are_told_everything(state: str, tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["status", "--json", "--directory", str(tmp_path)])
    told = json.loads(result.stdout)
    assert told["healthy"] is True
    assert PASSWORD in told["addresses"]["postgres_url"]
    assert told["parts"][0] == {
        "name": "postgres",
        "state": "up",
        "pid": 42,
        "address": "127.0.0.1:15005",
        "memory_mb": 40.2,
        "log": str(tmp_path / "postgres.log"),
        "detail": "PostgreSQL 18",
    }


@pytest.mark.parametrize("bad", ["down", "unhealthy"])
def test_a_part_that_is_not_up_is_exit_status_1(bad: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("partita.stack.status", lambda directory: found(directory, state=bad), raising=False)
    assert RUNNER.invoke(app, ["status", "--directory", str(tmp_path)]).exit_code == 1


def test_nothing_is_up_where_no_stack_was_started(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["status", "--json", "--directory", str(tmp_path / "none")])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["addresses"] == {}
    assert {part["state"] for part in told["parts"]} == {"down"}
    assert not (tmp_path / "none").exists()


def test_down_is_harmless_where_no_stack_was_started(tmp_path: Path) -> None:
    assert RUNNER.invoke(app, ["down", "--directory", str(tmp_path / "none")]).exit_code == 0


def test_an_unknown_part_is_exit_status_2() -> None:
    result = RUNNER.invoke(app, ["up", "--parts", "kafka,zookeeper"])
    assert result.exit_code == 2
    assert "choose from kafka" in result.stderr


def test_a_failure_is_told_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    result = RUNNER.invoke(app, ["status", "--directory", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "not readable" in result.stderr


@pytest.mark.parametrize("command", ["up", "down", "status", "fetch"])
def test_help_says_what_a_command_does(command: str) -> None:
    result = RUNNER.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.stdout) > 300
