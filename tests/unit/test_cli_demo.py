"""The demo's end when somebody else ends it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from partita.cli import app


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_demo_that_is_told_to_end_stops_what_it_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stopped: list[Path] = []

    def be_ended(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("partita.stack.up", be_ended, raising=False)
    monkeypatch.setattr("partita.stack.down", stopped.append, raising=False)
    monkeypatch.setenv("PARTITA_STACK_DIR", str(tmp_path))
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 128 + signal.SIGTERM
    assert stopped == [tmp_path]
