"""A setting that can't be ends every command with exit status 2, and says which one it is."""

import json

import pytest
from typer.testing import CliRunner

from partita.cli import app

COMMANDS = [
    ["stack", "up"],
    ["stack", "down"],
    ["stack", "status"],
    ["stack", "fetch"],
    ["demo"],
    ["run", "handler"],
    ["run", "balances"],
    ["post", "alice", "1", "--credit"],
    ["balance", "alice"],
    ["statement", "alice"],
]
BAD = {"PARTITA_PARTITIONS": "many", "PARTITA_KAFKA_OPTIONS": "{no JSON", "PARTITA_POSTGRES_URL": "db:5432"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("setting", BAD)
def test_a_bad_setting_is_wrong_usage(command: list[str], setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(setting, BAD[setting])
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert setting.removeprefix("PARTITA_").lower() in result.stderr.lower()


@pytest.mark.parametrize("setting", BAD)
def test_programs_are_told_as_json(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(setting, BAD[setting])
    result = CliRunner().invoke(app, ["balance", "alice", "--json"])
    assert json.loads(result.stdout)["error"] == "InvalidSetting"
