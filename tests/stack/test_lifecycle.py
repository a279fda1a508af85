"""Up, down and their interruptions, with real processes. PostgreSQL stands for all parts where one will do."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import partita.stack as local
from partita.stack import StackError, StackStatus
from partita.stack.addresses import read_addresses
from partita.stack.ports import LOOPBACK
from partita.stack.processes import Process, alive, descendants, end, recorded, this_process
from partita.stack.programs import spawn
from partita.stack.site import Site, load, pid_file, save
from tests.support.stack import end_leftovers

ROOT = Path(__file__).parents[2]
PART = "postgres"


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a stack for this module's tests to break; each first brings it up."""
    directory = tmp_path_factory.mktemp("own")
    yield directory
    local.down(directory, purge=True)


@pytest.fixture
def up(own_stack: Path, stack_cache: Path) -> StackStatus:
    return local.up(own_stack, parts=[PART], cache=stack_cache)


def process_of(directory: Path, part: str = PART) -> Process:
    found = recorded(pid_file(directory, part))
    assert found is not None
    return found


def await_end(process: Process) -> None:
    while alive(process):
        time.sleep(0.01)


async def query(status: StackStatus, *statements: str) -> object:
    connection = await asyncpg.connect(status.addresses["postgres_url"])
    try:
        *before, last = statements
        for statement in before:
            await connection.execute(statement)
        return await connection.fetchval(last)
    finally:
        await connection.close()


def test_up_twice_is_harmless(up: StackStatus, own_stack: Path, stack_cache: Path) -> None:
    again = local.up(own_stack, parts=[PART], cache=stack_cache)
    assert again.healthy
    assert again.part(PART).pid == up.part(PART).pid
    assert again.addresses == up.addresses


def test_the_addresses_are_found_in_the_directory(up: StackStatus, own_stack: Path) -> None:
    assert read_addresses(own_stack) == up.addresses
    assert local.status(own_stack).healthy


async def test_a_part_that_is_killed_comes_back_where_it_was_with_its_data(
    up: StackStatus, own_stack: Path, stack_cache: Path
) -> None:
    await query(up, "DROP TABLE IF EXISTS kept", "CREATE TABLE kept AS SELECT 42 AS n", "SELECT n FROM kept")
    killed = process_of(own_stack)
    os.kill(killed.pid, signal.SIGKILL)
    await asyncio.to_thread(await_end, killed)
    assert local.status(own_stack).part(PART).state == "down"

    again = local.up(own_stack, parts=[PART], cache=stack_cache)
    assert again.addresses == up.addresses
    assert process_of(own_stack) != killed
    assert await query(again, "SELECT n FROM kept") == 42


@pytest.mark.parametrize("kill", [True, False])
async def test_a_part_is_stopped_and_started_alone(kill: bool, up: StackStatus, own_stack: Path) -> None:
    family = [process_of(own_stack), *descendants(process_of(own_stack))]
    assert local.stop_part(own_stack, PART, kill=kill).part(PART).state == "down"
    assert not any(alive(process) for process in family)
    again = local.start_part(own_stack, PART)
    assert again.healthy
    assert again.addresses == up.addresses
    assert await query(again, "SELECT 1") == 1


def test_a_stopped_process_is_unhealthy_and_is_ended_all_the_same(up: StackStatus, own_stack: Path) -> None:
    """Given a process that hangs, status says so within seconds and down does not wait for ever."""
    hung = process_of(own_stack)
    os.kill(hung.pid, signal.SIGSTOP)
    began = time.monotonic()
    assert local.status(own_stack).part(PART).state == "unhealthy"
    assert time.monotonic() - began < 10
    local.stop_part(own_stack, PART, kill=True)
    assert not alive(hung)


def test_down_ends_what_up_started_and_nothing_else(up: StackStatus, own_stack: Path, tmp_path: Path) -> None:
    """Given a stranger's process whose pid a stale record names, down leaves it alone."""
    stranger = spawn(("sleep", "60"), pid_file=tmp_path / "pid", log=tmp_path / "log", cwd=tmp_path)
    stale = (tmp_path / "pid").read_text().replace(f" {stranger.started} ", f" {stranger.started - 1} ")
    pid_file(own_stack, "anvil").write_text(stale)
    family = [process_of(own_stack), *descendants(process_of(own_stack))]

    status = local.down(own_stack)

    assert status.part(PART).state == "down"
    assert not any(alive(process) for process in family)
    assert alive(stranger)
    assert not pid_file(own_stack, "anvil").exists()
    assert read_addresses(own_stack) is None
    end(stranger, how=signal.SIGKILL, limit_s=5)


def test_down_twice_is_harmless(own_stack: Path) -> None:
    local.down(own_stack)
    assert local.down(own_stack).part(PART).state == "down"


def test_after_down_the_addresses_are_the_same(up: StackStatus, own_stack: Path, stack_cache: Path) -> None:
    local.down(own_stack)
    assert local.up(own_stack, parts=[PART], cache=stack_cache).addresses == up.addresses


def test_a_port_that_another_program_took_is_given_up(up: StackStatus, own_stack: Path, stack_cache: Path) -> None:
    local.down(own_stack)
    port = int(str(up.part(PART).address).rpartition(":")[2])
    script = (
        f"import socket, time; s = socket.create_server(('{LOOPBACK}', {port})); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        again = local.up(own_stack, parts=[PART], cache=stack_cache)
        stranger.kill()
    assert again.healthy
    assert again.addresses != up.addresses


def interrupted_up(directory: Path, cache: Path, *, at: str) -> None:
    """Run `up` in a process of its own and kill that when it tells the step `at`."""
    script = (
        "import os, signal, sys; from pathlib import Path; import partita.stack as local\n"
        "def heard(step):\n"
        "    if step.step == sys.argv[3]: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"local.up(Path(sys.argv[1]), parts=['{PART}'], cache=Path(sys.argv[2]), on_progress=heard)"
    )
    done = subprocess.run([sys.executable, "-c", script, directory, cache, at], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("at", ["start", "up"])
def test_what_a_killed_up_began_is_taken_up_by_the_next(at: str, own_stack: Path, stack_cache: Path) -> None:
    local.down(own_stack, purge=True)
    interrupted_up(own_stack, stack_cache, at=at)
    began = recorded(pid_file(own_stack, PART))
    assert (began is not None) == (at == "up")
    status = local.up(own_stack, parts=[PART], cache=stack_cache)
    assert status.healthy
    assert began is None or began == process_of(own_stack)


def test_what_a_killed_up_began_is_ended_by_down(own_stack: Path, stack_cache: Path) -> None:
    local.down(own_stack)
    interrupted_up(own_stack, stack_cache, at="up")
    began = process_of(own_stack)
    local.down(own_stack)
    assert not alive(began)


def test_the_stack_of_a_killed_test_session_is_ended_by_the_next(tmp_path: Path, stack_cache: Path) -> None:
    me, kept = this_process(), tmp_path / "pytest-1" / "stack0"
    left = tmp_path / "pytest-2" / "stack0", tmp_path / "pytest-3" / "popen-gw1" / "stack0"
    for directory, started in ((kept, me.started), *((each, me.started - 1) for each in left)):
        local.up(directory, parts=[PART], cache=stack_cache)
        (directory / "owner").write_text(f"{me.pid} {started}")
    abandoned = [process_of(each) for each in left]

    end_leftovers(tmp_path)

    assert not any(map(alive, abandoned))
    assert local.status(kept).healthy
    local.down(kept, purge=True)


def test_two_at_once_start_one_stack(own_stack: Path, stack_cache: Path) -> None:
    local.down(own_stack)
    script = (
        "import sys; from pathlib import Path; import partita.stack as local\n"
        f"print(local.up(Path(sys.argv[1]), parts=['{PART}'], cache=Path(sys.argv[2])).part('{PART}').pid)"
    )
    argv = [sys.executable, "-c", script, str(own_stack), str(stack_cache)]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    pids = {process.communicate(timeout=60)[0] for process in both}
    assert pids == {f"{process_of(own_stack).pid}\n"}


def test_a_part_that_does_not_start_is_told_with_its_log(up: StackStatus, own_stack: Path, stack_cache: Path) -> None:
    configuration = Path(f"/proc/{process_of(own_stack).pid}/cwd").resolve() / "postgresql.conf"
    local.down(own_stack)
    good = configuration.read_text()
    configuration.write_text(good + "\nno_such_setting = on\n")
    with pytest.raises(StackError) as failed:
        local.up(own_stack, parts=[PART], cache=stack_cache)
    configuration.write_text(good)
    text = str(failed.value)
    assert text.startswith("postgres: ended while starting")
    assert 'unrecognized configuration parameter "no_such_setting"' in text
    assert str(own_stack / "logs" / "postgres.log") in text
    assert "partita stack up" in text
    assert recorded(pid_file(own_stack, PART)) is None


def test_a_part_that_was_never_up_is_not_started_alone(up: StackStatus, own_stack: Path) -> None:
    with pytest.raises(StackError, match="anvil: not a part of the stack"):
        local.start_part(own_stack, "anvil")


def test_purge_deletes_everything(up: StackStatus, own_stack: Path) -> None:
    outside = own_stack / "data" / "postgres-outside"
    place = outside.resolve() if outside.is_symlink() else None
    local.down(own_stack, purge=True)
    assert [path.name for path in own_stack.iterdir()] == ["lock"]
    assert place is None or not place.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as another user")
def test_root_runs_postgresql_as_another_user(up: StackStatus, own_stack: Path) -> None:
    """Given a directory that only root may enter (pytest's are), its data are where the other user can reach them."""
    assert own_stack.parent.stat().st_mode & 0o077 == 0
    assert Path(f"/proc/{process_of(own_stack).pid}").stat().st_uid != 0
    assert (own_stack / "data" / "postgres-outside" / "cluster").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as another user")
def test_root_keeps_the_data_in_the_directory_where_others_may_pass(
    stack_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a directory that everybody may enter but a virtual environment that they may not."""
    from partita.stack import postgres  # noqa: PLC0415

    reachable = postgres._reachable
    monkeypatch.setattr(postgres, "_reachable", lambda path: "site-packages" not in str(path) and reachable(path))
    directory = Path(f"/var/tmp/partita-test-{os.getpid()}")
    try:
        assert local.up(directory, parts=[PART], cache=stack_cache).healthy
        assert (directory / "data" / PART / "cluster" / "PG_VERSION").exists()
        program = Path(f"/proc/{process_of(directory).pid}/exe").readlink()
        assert program.is_relative_to((directory / "data" / "postgres-outside").resolve())
    finally:
        local.down(directory, purge=True)
        (directory / "lock").unlink()
        directory.rmdir()


def test_a_directory_that_was_moved_from_an_older_state_is_told(tmp_path: Path) -> None:
    save(Site(directory=tmp_path, cache=tmp_path, password="x"))
    assert load(tmp_path) is not None
    (tmp_path / "stack.json").write_text("{}")
    with pytest.raises(StackError, match="--purge"):
        local.status(tmp_path)
    local.down(tmp_path, purge=True)
    assert load(tmp_path) is None
