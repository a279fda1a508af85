"""What every store promises, on RocksDB and on the one in memory; then what only a disk can do."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from commands.rocks_store import RocksStores
from commands.store import Store, StoreInUse, StoreLost, Stores
from tests.support.memory_store import MemoryStores


@dataclass
class Disk:
    """Stores that are closed at the end of a test, whatever it did."""

    stores: Stores
    closing: ExitStack

    def open(self, partition: int) -> Store:
        store = self.stores.open(partition)
        self.closing.callback(store.close)
        return store

    def discard(self, partition: int) -> None:
        self.stores.discard(partition)


@pytest.fixture
def rocks(tmp_path: Path) -> Iterator[Callable[[], Disk]]:
    with ExitStack() as closing:
        yield lambda: Disk(RocksStores(tmp_path), closing)


@pytest.fixture(params=["rocks", "memory"])
def stores(request: pytest.FixtureRequest, rocks: Callable[[], Disk]) -> Stores:
    return rocks() if request.param == "rocks" else MemoryStores()


def test_a_new_store_is_empty(stores: Stores) -> None:
    assert stores.open(3).get(b"k") is None


def test_what_is_written_is_read(stores: Stores) -> None:
    store = stores.open(0)
    store.write({b"k": b"v", b"\0": b"", "ключ".encode(): b"\xff" * 100_000})
    assert (store.get(b"k"), store.get(b"\0"), store.get("ключ".encode())) == (b"v", b"", b"\xff" * 100_000)


def test_many_are_read_in_the_order_in_which_they_are_asked_for(stores: Stores) -> None:
    store = stores.open(0)
    store.write({b"a": b"1", b"b": b"", b"c": b"3"})
    assert list(store.get_many([b"c", b"none", b"a", b"b", b"a"])) == [b"3", None, b"1", b"", b"1"]
    assert list(store.get_many([])) == []


def test_a_write_replaces_and_none_deletes(stores: Stores) -> None:
    store = stores.open(0)
    store.write({b"a": b"1", b"b": b"1"})
    store.write({b"a": b"2", b"b": None, b"never": None})
    assert (store.get(b"a"), store.get(b"b"), store.get(b"never")) == (b"2", None, None)


def test_it_is_there_when_it_is_opened_again(stores: Stores) -> None:
    store = stores.open(0)
    store.write({b"k": b"v"})
    store.close()
    assert stores.open(0).get(b"k") == b"v"


def test_partitions_have_a_store_each(stores: Stores) -> None:
    one, two = stores.open(1), stores.open(2)
    one.write({b"k": b"1"})
    assert two.get(b"k") is None
    two.write({b"k": b"2"})
    assert one.get(b"k") == b"1"


def test_a_store_has_one_opener_at_a_time(stores: Stores) -> None:
    store = stores.open(0)
    with pytest.raises(StoreInUse):
        stores.open(0)
    store.close()
    stores.open(0).close()


def test_a_discarded_store_is_empty_and_the_others_stay(stores: Stores) -> None:
    for partition in (0, 1):
        store = stores.open(partition)
        store.write({b"k": b"v"})
        store.close()
    stores.discard(0)
    stores.discard(7)
    assert (stores.open(0).get(b"k"), stores.open(1).get(b"k")) == (None, b"v")


def test_a_closed_store_is_of_no_use(stores: Stores) -> None:
    store = stores.open(0)
    store.close()
    store.close()
    with pytest.raises(StoreLost):
        store.get(b"k")
    with pytest.raises(StoreLost):
        store.write({b"k": b"v"})


def _filled(stores: Stores, count: int = 5000) -> Store:
    store = stores.open(0)
    for start in range(0, count, 500):
        store.write({b"%d" % number: os.urandom(200) for number in range(start, start + 500)})
    return store


def _read_all(store: Store) -> None:
    for number in range(5000):
        store.get(b"%d" % number)


def _damage(directory: Path, pattern: str) -> None:
    """Overwrite the middle of the files of a store whose names are like this."""
    damaged = list(directory.glob(pattern))
    assert damaged, f"no {pattern} in {list(directory.iterdir())}"
    for path in damaged:
        data = bytearray(path.read_bytes())
        data[len(data) // 3 : len(data) // 3 * 2] = b"\x5a" * len(data[len(data) // 3 : len(data) // 3 * 2])
        path.write_bytes(data)


@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*"])
def test_a_store_that_can_not_be_opened_is_begun_anew(
    tmp_path: Path, rocks: Callable[[], Disk], pattern: str
) -> None:
    _filled(rocks()).close()
    _damage(tmp_path / "0", pattern)
    store = rocks().open(0)
    assert store.get(b"7") is None
    store.write({b"k": b"v"})
    assert store.get(b"k") == b"v"


def test_a_store_that_can_not_be_read_is_lost_and_begun_anew(tmp_path: Path, rocks: Callable[[], Disk]) -> None:
    store = _filled(rocks())
    store.close()
    _damage(tmp_path / "0", "*.sst")
    damaged = rocks().open(0)
    with pytest.raises(StoreLost):
        _read_all(damaged)
    damaged.close()
    assert rocks().open(0).get(b"7") is None


def test_a_directory_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreLost, match="no store can be kept"):
        RocksStores(tmp_path / "file").open(0)


WRITER = """
import sys
from pathlib import Path
from commands.rocks_store import RocksStores
store = RocksStores(Path(sys.argv[1])).open(0)
for number in range(1, 10**9):
    store.write({b"n": b"%d" % number, b"%d" % number: b"x" * 300})
    print(number, flush=True)
"""


def test_what_was_written_outlives_a_killed_process(tmp_path: Path, rocks: Callable[[], Disk]) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        told = 0
        while told < 2000:
            told = int(writer.stdout.readline())
        with pytest.raises(StoreInUse):
            rocks().open(0)
        writer.send_signal(signal.SIGKILL)
        told = int(([b"%d" % told, *writer.stdout.read().split()])[-1])
    store = rocks().open(0)
    last = int(store.get(b"n") or 0)
    assert told <= last <= told + 1
    assert all(store.get(b"%d" % number) == b"x" * 300 for number in range(1, last + 1))
    assert store.get(b"%d" % (last + 1)) is None
