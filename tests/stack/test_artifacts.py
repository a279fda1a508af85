"""A download is whole or absent, made once by one process, and is what was pinned."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock

import pytest

from partita.stack import StackError
from partita.stack.artifacts import Pin, download, fetch_all, make_once, package_directory, read_pins, workplace
from partita.stack.processes import this_process
from partita.stack.progress import Progress, Teller

PINS = Path(__file__).parents[2] / "partita" / "stack" / "pins"
RIGHT, WRONG = b"the jar", b"half a j"


def pin(name: str) -> Pin:
    checksum = hashlib.sha256(RIGHT).hexdigest()
    return Pin(group="g", artifact=name, version="1", classifier="", packaging="jar", sha256=checksum)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Replace the repository: each download takes the next content of this list, the last one again and again."""
    contents: list[bytes] = []

    class Context:
        def __init__(self, *, repo_cache: Path, timeout: int) -> None:
            self.place = repo_cache

        def project(self, _group: str, _artifact: str) -> "Context":
            return self

        def at_version(self, _version: str) -> "Context":
            return self

        def artifact(self, _classifier: str, _packaging: str) -> "Context":
            return self

        def resolve(self) -> Path:
            content = contents.pop(0) if len(contents) > 1 else contents[0]
            if not content:
                raise RuntimeError("not found in remote repositories")
            self.place.mkdir(parents=True)
            (self.place / "file").write_bytes(content)
            return self.place / "file"

    monkeypatch.setattr("jgo.maven.MavenContext", Context)
    return contents


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    target.touch()
    assert make_once(target, lambda _: pytest.fail("made again"), cache=tmp_path) == target


def test_an_interrupted_download_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(place: Path) -> Path:
        (place / "thing").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_once(tmp_path / "thing", interrupted, cache=tmp_path)
    assert not (tmp_path / "thing").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_of_several_one_makes_it(tmp_path: Path) -> None:
    made, lock, go = [], Lock(), Event()

    def make(place: Path) -> Path:
        with lock:
            made.append(place)
        (place / "thing").write_text("whole")
        return place / "thing"

    def wait_and_make() -> str:
        go.wait()
        return make_once(tmp_path / "thing", make, cache=tmp_path).read_text()

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(wait_and_make) for _ in range(6)]
        go.set()
        assert {job.result() for job in jobs} == {"whole"}
    assert len(made) == 1


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    me = this_process()
    killed = tmp_path / "tmp" / f"{me.pid}-{me.started - 1}-abc"
    running = tmp_path / "tmp" / f"{me.pid}-{me.started}-abc"
    for place in (killed, running):
        place.mkdir(parents=True)
    with workplace(tmp_path):
        assert not killed.exists()
        assert running.exists()


def test_the_pinned_bytes_are_taken(served: list[bytes], tmp_path: Path) -> None:
    served[:] = [RIGHT]
    assert download(pin("a"), tmp_path).read_bytes() == RIGHT


def test_other_bytes_and_failures_are_tried_again(served: list[bytes], tmp_path: Path) -> None:
    served[:] = [WRONG, b"", RIGHT]
    assert download(pin("a"), tmp_path).read_bytes() == RIGHT


@pytest.mark.parametrize(("content", "reason"), [(WRONG, "checksum is"), (b"", "not found")])
def test_other_bytes_and_failures_are_refused_in_the_end(
    content: bytes, reason: str, served: list[bytes], tmp_path: Path
) -> None:
    served[:] = [content]
    with pytest.raises(StackError, match=rf"could not download a-1.jar: .*{reason}"):
        make_once(tmp_path / "a-1.jar", lambda place: download(pin("a"), place), cache=tmp_path)
    assert not (tmp_path / "a-1.jar").exists()


def test_only_what_is_missing_is_fetched_and_told(served: list[bytes], tmp_path: Path) -> None:
    served[:] = [RIGHT]
    pins, jars, told = tuple(pin(name) for name in "abcd"), tmp_path / "jars", list[Progress]()
    jars.mkdir()
    (jars / "a-1.jar").write_bytes(RIGHT)
    tell = Teller(part="kafka", on_progress=told.append, stop=Event())
    assert fetch_all(pins, jars, cache=tmp_path, tell=tell) == tuple(jars / f"{name}-1.jar" for name in "abcd")
    assert [(step.done, step.total) for step in told] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_fetching_is_given_up_when_nobody_waits(served: list[bytes], tmp_path: Path) -> None:
    served[:] = [RIGHT]
    tell = Teller(part="kafka", on_progress=None, stop=Event())
    tell.stop.set()
    with pytest.raises(StackError, match="given up"):
        fetch_all((pin("a"),), tmp_path, cache=tmp_path, tell=tell)


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(StackError, match=r"partita\[stack\]"):
        package_directory("no_such_package")


@pytest.mark.parametrize("name", ["kafka-broker-jars.txt", "kafka-tools-extra-jars.txt", "registry.txt"])
def test_every_pin_is_exact(name: str) -> None:
    pins = read_pins(name)
    assert pins
    for found in pins:
        assert len(bytes.fromhex(found.sha256)) == 32, found
        assert found.version[0].isdigit(), found


def test_files_carry_no_download_address() -> None:
    for path in PINS.iterdir():
        assert not re.search("https?://", path.read_text()), path
