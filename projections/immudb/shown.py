"""What a client of immudb is told and tells: where to connect, the server's answers as records. No vendor's code."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from projections.immudb.records import DualProof, Entry, EntryProof, TxHeader

KeyValue = tuple[bytes, bytes]

MOST_ENTRIES: Final = 1024
"""Most entries in a transaction of a database that was made with immudb's defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a database is and who we are there. `timeout` is in seconds, for each call.

    `authorities` is the PEM of those who vouch for the server; None: the connection is not encrypted.
    """

    host: str
    port: int
    database: str
    username: str
    password: Callable[[], str]
    timeout: float
    authorities: bytes | None = None

    @property
    def place(self) -> str:
        """The address for people: no secret is in it."""
        return f"{self.host}:{self.port}/{self.database}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTx:
    """A transaction as the server shows it. `signature` is the server's, of the proof's target, or empty."""

    header: TxHeader
    entries: tuple[Entry, ...]
    proof: DualProof
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEntry:
    """The value of a key as the server shows it. `revision` counts the values that the key had; it is not proven."""

    tx: int
    key: bytes
    value: bytes
    metadata: bytes
    is_reference: bool
    revision: int
    inclusion: EntryProof
    proof: DualProof
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The value of a key without proof, and the transaction that is said to have set it."""

    tx: int
    key: bytes
    value: bytes


class KeyExists(Exception):
    """At least one of the keys exists."""
