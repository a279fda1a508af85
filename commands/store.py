"""The port to what a handler keeps on its disk: one store of keys and values for each partition.

Nothing in a store is the record: the log is, and a store can be thrown away and made again from it. There are two
kinds behind the port: RocksDB (`commands.rocks_store`), and one in memory in the tests. The same contract tests run
against both.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from events.errors import LedgerError


class StoreLost(LedgerError):
    """The store can't be read or written: start over. What it had is in the log."""

    retriable = True


class StoreInUse(LedgerError):
    """Another process has the store open: two handlers were given the same directory."""

    retriable = True


class Store(Protocol):
    """The store of one partition. One opener has it at a time.

    Every method raises `StoreLost` when the store is not to be trusted any more.
    """

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`; None when there is none."""

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """Return the values of `keys`, in their order: quicker than one by one."""

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Write all of `changes` or nothing, after all that was written before; None deletes.

        What was written outlives the process. Of what was written before the machine fails, a last part may be gone,
        but never an earlier one.
        """

    def close(self) -> None:
        """Let go of it."""


class Stores(Protocol):
    """The stores of one handler."""

    def open(self, partition: int) -> Store:
        """Return the store of `partition`, an empty one when there was none, or none that can be read.

        Raises:
            StoreInUse: it is open already.
            StoreLost: there can be no store here.
        """

    def discard(self, partition: int) -> None:
        """Throw away the store of `partition`, which is not open."""
