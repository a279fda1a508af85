"""What is known about a stack is written at once or not at all; ports are loopback ports that stay free."""

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from partita.stack import StackError
from partita.stack.addresses import read_addresses
from partita.stack.part import ALL_PARTS, checked_names
from partita.stack.ports import choose, is_free
from partita.stack.processes import this_process
from partita.stack.site import Site, load, locked, make_directories, pid_file, save

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    make_directories(tmp_path / "stack")
    return Site(
        directory=tmp_path / "stack",
        cache=tmp_path / "cache",
        password="secret",
        parts=("kafka", "postgres"),
        ports={"kafka": 15001},
        addresses={"kafka_bootstrap": "127.0.0.1:15001"},
    )


def put_on_record(site: Site, part: str) -> None:
    """Record the test's own process as the part's."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    stat = Path(f"/proc/{this_process().pid}/stat").read_text()
    pid_file(site.directory, part).write_text(f"{boot} {stat}")


def test_what_is_saved_is_loaded(site: Site) -> None:
    save(site)
    assert load(site.directory) == site


def test_only_the_owner_may_read_the_password(site: Site) -> None:
    save(site)
    assert (site.directory / "stack.json").stat().st_mode & 0o077 == 0


def test_nothing_is_known_of_a_stack_that_never_was(tmp_path: Path) -> None:
    assert load(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ports": {}}'])
def test_a_broken_file_is_told(text: str, site: Site) -> None:
    (site.directory / "stack.json").write_text(text)
    with pytest.raises(StackError, match="not readable"):
        load(site.directory)
    assert read_addresses(site.directory) is None


def test_no_addresses_without_a_stack(tmp_path: Path) -> None:
    assert read_addresses(tmp_path) is None


def test_no_addresses_when_all_processes_are_gone(site: Site) -> None:
    save(site)
    assert read_addresses(site.directory) is None


def test_addresses_while_a_process_runs(site: Site) -> None:
    save(site)
    put_on_record(site, "postgres")
    assert read_addresses(site.directory) == {"kafka_bootstrap": "127.0.0.1:15001"}


def test_a_process_of_a_part_that_was_not_asked_for_does_not_count(site: Site) -> None:
    save(replace(site, parts=("kafka",)))
    put_on_record(site, "postgres")
    assert read_addresses(site.directory) is None


def test_finding_a_stack_needs_the_standard_library_only() -> None:
    script = (
        "import sys, partita; before = set(sys.modules); import partita.stack.addresses\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(names - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout.replace("'", '"')) == ["partita"]


def test_a_lock_that_others_hold_is_told(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock", limit_s=1, busy="busy"),
        pytest.raises(StackError, match="busy"),
        locked(tmp_path / "lock", limit_s=0.2, busy="busy"),
    ):
        pass


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    """Given a holder that is killed, the next one gets the lock."""
    script = (
        "import sys, time; from pathlib import Path; from partita.stack.site import locked\n"
        "with locked(Path(sys.argv[1]), limit_s=1, busy=''): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "lock"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    with locked(tmp_path / "lock", limit_s=1, busy="still locked"):
        pass


def test_ports_are_free_and_outside_the_range_of_clients(tmp_path: Path) -> None:
    low, high = (int(word) for word in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    chosen = choose(["a", "b", "c"], directory=tmp_path, taken=())
    assert len(set(chosen.values())) == 3
    assert all(is_free(port) and not low <= port <= high for port in chosen.values())


def test_a_taken_port_is_not_chosen(tmp_path: Path) -> None:
    (first,) = choose(["a"], directory=tmp_path, taken=()).values()
    assert choose(["a"], directory=tmp_path, taken=[first])["a"] != first
    with socket.socket() as server:
        server.bind(("127.0.0.1", first))
        server.listen()
        assert not is_free(first)
        assert choose(["a"], directory=tmp_path, taken=())["a"] != first


def test_stacks_search_for_ports_from_different_places(tmp_path: Path) -> None:
    ports = [choose(["a"], directory=tmp_path / name, taken=())["a"] for name in "abcdef"]
    assert len(set(ports)) == len(ports)


def test_parts_come_in_their_own_order() -> None:
    assert checked_names({"postgres", "kafka"}) == ("kafka", "postgres")
    assert checked_names(ALL_PARTS) == ALL_PARTS


@pytest.mark.parametrize("names", [["kafka", "zookeeper"], []])
def test_unknown_parts_are_refused(names: list[str]) -> None:
    with pytest.raises(StackError, match="the parts are kafka, registry, postgres, immudb, anvil"):
        checked_names(names)
