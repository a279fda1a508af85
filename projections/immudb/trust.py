"""The trusted state: how far we have verified a database, in a file of our own.

Everything that immudb shows is held against it, so it must neither be cut nor quietly be made anew. It is written
beside, synced, renamed, and the directory synced, all under a lock that processes share. A file that is damaged, or
gone although there was one, stops everything until a person has looked.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self, TextIO

from projections.immudb.errors import TrustedStateBusy, TrustedStateInvalid
from projections.immudb.records import State

_FORMAT: Final = "partita-immudb-state-1"
_MOST_BYTES: Final = 64 * 1024
_WAIT: Final = 10.0
_AGAIN_AFTER: Final = 0.005
_WHAT_TO_DO: Final = (
    "compare with the state that an auditor keeps, then put a good copy back, or take what immudb has now by "
    "`partita immudb trust --trust-server`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedState:
    """A database up to transaction `tx`, as we have verified it.

    `alh` is its hash, in hex. `first_tx` and `first_at` (seconds since 1970 UTC) say where and when we first took the
    server's word, and `origin` why: "first contact", or "by hand" when an operator did so again.
    """

    database: str
    server_uuid: str
    tx: int
    alh: str
    origin: str
    first_tx: int
    first_at: int

    @property
    def state(self) -> State:
        """The state itself."""
        return State(self.tx, bytes.fromhex(self.alh))

    @classmethod
    def taken(cls, database: str, server_uuid: str, state: State, origin: str) -> Self:
        """Return what is trusted when the server's word is taken now."""
        return cls(
            database=database,
            server_uuid=server_uuid,
            tx=state.tx,
            alh=state.alh.hex(),
            origin=origin,
            first_tx=state.tx,
            first_at=int(time.time()),
        )


class TrustFile:
    """The file of one database's trusted state. Use it under `locked`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = path.with_name(f"{path.name}.lock")

    @contextmanager
    def locked(self, wait: float = _WAIT) -> Iterator["Held"]:
        """Hold the file alone, of all processes and threads; raises `TrustedStateBusy` after `wait` seconds."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a+") as lock:
            self._take(lock, wait)
            held = Held(self.path, lock)
            try:
                yield held
            finally:
                held.flush()

    def _take(self, lock: TextIO, wait: float) -> None:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TrustedStateBusy(
                        f"{self.path} was held by others for {wait:.0f} s", path=str(self.path)
                    ) from None
                time.sleep(_AGAIN_AFTER)
            else:
                return


class Held:
    """The file while we hold its lock. The lock's file is not empty once there was a state.

    How far we have got is written when the lock is let go, once for all that was verified meanwhile. If that is lost,
    an older state is trusted, which is as good.
    """

    def __init__(self, path: Path, lock: TextIO) -> None:
        self._path = path
        self._lock = lock
        self._read: TrustedState | None = None
        self._unwritten = False

    def read(self) -> TrustedState | None:
        """Return what is trusted, None if there never was anything.

        Raises:
            TrustedStateInvalid: the file is damaged, or gone.
        """
        if self._read is None:
            self._read = self._from_file()
        return self._read

    def _from_file(self) -> TrustedState | None:
        try:
            with self._path.open("rb") as file:
                data = file.read(_MOST_BYTES)
        except FileNotFoundError:
            if os.fstat(self._lock.fileno()).st_size:
                raise self._invalid("is gone, although there was one") from None
            return None
        try:
            return _parsed(data)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._invalid("is damaged") from None

    def _invalid(self, what: str) -> TrustedStateInvalid:
        return TrustedStateInvalid(f"the trusted state {self._path} {what}: {_WHAT_TO_DO}", path=str(self._path))

    def advance(self, trusted: TrustedState, state: State) -> None:
        """Note that we have verified the database from `trusted` up to `state`, unless that is less."""
        if state.tx > trusted.tx:
            self._read = replace(trusted, tx=state.tx, alh=state.alh.hex())
            self._unwritten = True

    def flush(self) -> None:
        """Write what was noted."""
        if self._unwritten and self._read is not None:
            self.write(self._read)

    def write(self, trusted: TrustedState) -> None:
        """Replace the file; it is on disk when this returns."""
        self._read, self._unwritten = trusted, False
        if not os.fstat(self._lock.fileno()).st_size:
            self._lock.write("there is a trusted state beside this file\n")
            self._lock.flush()
            os.fsync(self._lock.fileno())
        beside = self._path.with_name(f"{self._path.name}.new")
        with beside.open("w") as file:
            file.write(_text(trusted))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _text(trusted: TrustedState) -> str:
    content = {"format": _FORMAT, **asdict(trusted)}
    return json.dumps({**content, "check": _check(content)}, indent=1) + "\n"


def _parsed(data: bytes) -> TrustedState:
    content: dict[str, Any] = json.loads(data)
    check = content.pop("check")
    if content["format"] != _FORMAT or check != _check(content):
        raise ValueError
    del content["format"]
    return TrustedState(**content)


def _check(content: dict[str, Any]) -> str:
    """Return what tells a damaged file from a sound one; it is no secret, and does not tell a forged one."""
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
