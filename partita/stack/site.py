"""One stack's place on disk and its recorded facts (ports, password, addresses): `stack.json`.

Owns the layout of the stack's directory. Which processes run is recorded elsewhere, one file a process
(see `processes`), because a process must be on record before it runs.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from partita.stack.errors import StackError

STATE_FILE = "stack.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is known about one stack. `ports` is keyed by port name, `addresses` by the public keys."""

    directory: Path
    cache: Path
    password: str
    parts: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)

    def data(self, part: str) -> Path:
        """Return the directory that holds a part's data."""
        return self.directory / "data" / part

    def config(self, part: str) -> Path:
        """Return the directory of the configuration files that are written at each start."""
        return self.directory / "config" / part

    def log(self, part: str) -> Path:
        """Return the log of a part."""
        return log_file(self.directory, part)

    def pid_file(self, part: str) -> Path:
        """Return the file in which a part's process puts itself on record."""
        return pid_file(self.directory, part)


def pid_file(directory: Path, part: str) -> Path:
    """Return the file in which a part's process puts itself on record."""
    return directory / "run" / f"{part}.pid"


def log_file(directory: Path, part: str) -> Path:
    """Return the log of a part."""
    return directory / "logs" / f"{part}.log"


def load(directory: Path) -> Site | None:
    """Read the stack's facts; None if there are none. `StackError` if the file is not one of ours."""
    try:
        found: dict[str, Any] = json.loads((directory / STATE_FILE).read_bytes())
        return Site(
            directory=directory,
            cache=Path(found["cache"]),
            password=found["password"],
            parts=tuple(found["parts"]),
            ports=found["ports"],
            addresses=found["addresses"],
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StackError(
            f"{directory / STATE_FILE} is not readable ({error!r}); `partita stack down --purge` removes it"
        ) from error


def save(site: Site) -> None:
    """Write the stack's facts at once or not at all; only the owner may read them (they hold the password)."""
    facts = {**asdict(site), "directory": str(site.directory), "cache": str(site.cache)}
    temporary = site.directory / f"{STATE_FILE}.tmp"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        json.dump(facts, handle, indent=2)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(site.directory / STATE_FILE)


def make_directories(directory: Path) -> None:
    """Create the stack's directory tree: for the owner only, but root lets others pass (PostgreSQL is one)."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    for path in (directory, directory / "data", directory / "config", directory / "logs", directory / "run"):
        path.mkdir(mode=mode, parents=True, exist_ok=True)


@contextmanager
def locked(path: Path, *, limit_s: float, busy: str) -> Iterator[None]:
    """Hold an exclusive lock on a file between processes; `StackError(busy)` if others hold it for `limit_s`.

    The kernel releases the lock when the holder ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        deadline = time.monotonic() + limit_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackError(busy) from None
                time.sleep(0.1)
        yield
