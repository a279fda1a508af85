"""What `make` itself prints: set-up goes to stderr, stdout is the program's."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """#!/bin/sh
case "$*" in
  *pip*) echo "Collecting everything" ;;
  demo*) echo '{"ok": true}' ;;
  stack*) echo "fetching" >&2 ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what `make` needs, with programs that only say what they do."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "partita"):
        (programs / name).write_text(PROGRAM)
        (programs / name).chmod(0o755)
    return tmp_path


def test_the_json_of_the_demo_is_all_that_goes_to_stdout(project: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    for setting_up in (True, False):
        made = subprocess.run(
            ["make", "demo", "ARGS=--json"],  # the user's own
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert json.loads(made.stdout) == {"ok": True}
        assert ("Collecting" in made.stderr) is setting_up
