"""Processes are known by pid and start time; a program is on record before it runs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from partita.stack.errors import StackError
from partita.stack.processes import Process, alive, descendants, end, memory_mb, recorded, this_process
from partita.stack.programs import run, spawn

SLEEP = ("sleep", "60")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = spawn(SLEEP, pid_file=tmp_path / "pid", log=tmp_path / "log", cwd=tmp_path)
    yield process
    end(process, how=signal.SIGKILL, limit_s=5)


def test_a_program_is_on_record_when_spawn_returns(sleeper: Process, tmp_path: Path) -> None:
    assert recorded(tmp_path / "pid") == sleeper
    # Its own line of /proc, written before it became the program: the shell's name is in it.
    assert "(sh)" in (tmp_path / "pid").read_text()


def test_a_program_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from partita.stack.programs import spawn; p = Path(sys.argv[1])\n"
        "spawn(['sleep', '60'], pid_file=p / 'pid', log=p / 'log', cwd=p)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True, cwd=Path(__file__).parents[2])
    process = recorded(tmp_path / "pid")
    assert process is not None
    assert os.getsid(process.pid) != os.getsid(0)
    assert end(process, how=signal.SIGTERM, limit_s=5)


def test_a_recycled_pid_is_not_ours(sleeper: Process, tmp_path: Path) -> None:
    """Given a record of an earlier process with the same pid, it names nothing and nothing is signalled."""
    text = (tmp_path / "pid").read_text()
    (tmp_path / "earlier").write_text(text.replace(f" {sleeper.started} ", f" {sleeper.started - 1} "))
    assert recorded(tmp_path / "earlier") is None
    end(replace(sleeper, started=sleeper.started - 1), how=signal.SIGKILL, limit_s=0.1)
    assert alive(sleeper)


def test_a_record_of_another_boot_is_not_ours(sleeper: Process, tmp_path: Path) -> None:
    _, _, line = (tmp_path / "pid").read_text().partition(" ")
    (tmp_path / "other").write_text(f"00000000-0000-0000-0000-000000000000 {line}")
    assert recorded(tmp_path / "other") is None


@pytest.mark.parametrize("text", ["", "garbage", "boot 12", "boot 12 (sh) S 1\n", "\x00\xff"])
def test_a_torn_record_names_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(text)
    assert recorded(tmp_path / "pid") is None


def test_no_record_names_nothing(tmp_path: Path) -> None:
    assert recorded(tmp_path / "pid") is None


def test_one_that_ignores_the_signal_is_killed_when_its_time_is_up(tmp_path: Path) -> None:
    deaf = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    process = spawn(deaf, pid_file=tmp_path / "pid", log=tmp_path / "log", cwd=tmp_path)
    while "ready" not in (tmp_path / "log").read_text():
        assert alive(process)
    family = list(descendants(process))
    assert not end(process, how=signal.SIGTERM, limit_s=0.2)
    assert not alive(process)
    assert not any(alive(child) for child in family)


def test_children_are_killed_with_their_parent(tmp_path: Path) -> None:
    parent = ("sh", "-c", "sleep 60 & echo ready; wait")
    process = spawn(parent, pid_file=tmp_path / "pid", log=tmp_path / "log", cwd=tmp_path)
    while "ready" not in (tmp_path / "log").read_text():
        assert alive(process)
    (child,) = descendants(process)
    end(process, how=signal.SIGKILL, limit_s=5)
    assert not alive(child)


def test_what_a_program_says_is_appended_to_its_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    for word in ("one", "two"):
        process = spawn(("echo", word), pid_file=tmp_path / "pid", log=tmp_path / "log", cwd=tmp_path)
        while alive(process):
            pass
    assert (tmp_path / "log").read_text() == "before\none\ntwo\n"


def test_a_long_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with log.open("w") as handle:
        handle.truncate(21 * 1024 * 1024)
    process = spawn(("echo", "new"), pid_file=tmp_path / "pid", log=log, cwd=tmp_path)
    while alive(process):
        pass
    assert log.read_text() == "new\n"
    assert (tmp_path / "part.log.1").exists()


def test_memory_is_told_in_mib() -> None:
    assert 5 < memory_mb(this_process()) < 4096


def test_a_failing_program_is_told_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"kafka: sh ended with status 3 and said:\nout of luck"):
        run(("sh", "-c", "echo out of luck; exit 3"), part="kafka", cwd=tmp_path, limit_s=5)


def test_a_program_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="kafka: sleep has not ended after 0 s"):
        run(SLEEP, part="kafka", cwd=tmp_path, limit_s=0.1)


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="cannot be run"):
        run((str(tmp_path / "none"),), part="kafka", cwd=tmp_path, limit_s=5)
