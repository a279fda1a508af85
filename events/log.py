"""The port that the write side stands on: commands in, one transaction out.

There are two logs behind it: Kafka (`events.kafka_log`), and a fake in the tests that crashes and rebalances on
demand. The same contract tests run against both.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from events.errors import LedgerError
from events.follow import Headers, Record


class Aborted(LedgerError):
    """The transaction was refused and left nothing behind: the group has a new generation. Others go on."""

    retriable = True


class LogLost(LedgerError):
    """It is not known what became of the transaction, or the writer is fenced: start over from the log."""

    retriable = True


class Outgoing(NamedTuple):
    """A message to append. `partition` None leaves it to murmur2 of the key."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None


class Polled(NamedTuple):
    """What came of a poll: partitions lost, partitions won, and commands of partitions that were started.

    `ends` has partitions of which every command has been returned, now or before, and the offset where each ends:
    behind the last command, and behind what is none, as the markers of its producer's transactions are.
    """

    revoked: Sequence[int] = ()
    assigned: Sequence[int] = ()
    records: Sequence[Record] = ()
    ends: Sequence[tuple[int, int]] = ()


class Log(Protocol):
    """One member of the group that owns partitions, and their only writer.

    Every method raises `LogLost` when the log can't be used any more; a new one is made then. Times are in seconds.
    """

    def poll(self, timeout: float, limit: int) -> Polled:
        """Return what is there, at once if anything is, else after up to `timeout`."""

    def committed(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the offset of the next command by the group's word, -1 if it never said.

        Left out is what isn't known yet: while a transaction of a predecessor that moves it is open.
        """

    def oldest_commands(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the offset of the oldest command that retention has left."""

    def stable_ends(self, partitions: Collection[int]) -> dict[int, int]:
        """Return where the partitions' events end, leaving out those on which a transaction is open."""

    def read(self, offsets: Mapping[int, int], timeout: float) -> list[Record]:
        """Return committed events of some of these partitions, from these offsets on, in order.

        Cheap when the offsets are where the read before has come to; others, going back included, cost a seek.
        What these partitions get later is fetched ahead until other offsets are asked for, or none.
        """

    def read_position(self, partition: int) -> int:
        """Return up to where `read` has come, past records that it doesn't return."""

    def start(self, partition: int, offset: int) -> None:
        """Deliver the partition's commands from `offset` on."""

    def begin(self) -> None:
        """Begin a transaction."""

    def append(self, messages: Sequence[Outgoing]) -> None:
        """Append to the transaction."""

    def commit(self, consumed: Mapping[int, int]) -> None:
        """Commit what was appended together with the next command offset of each partition.

        Raises:
            Aborted: refused; nothing was written.
            LogLost: not known; it may have been written or not.
        """

    def abort(self) -> None:
        """Drop the transaction."""

    def close(self) -> None:
        """Leave the group."""
