"""One member of the fake cluster: an `events.log.Log` whose commits can be lost before or after they happened.

The contract tests run against it and against Kafka.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum, auto

from events.errors import CommandsExpired, Fenced
from events.follow import Record
from events.log import Aborted, LogLost, Outgoing, Polled
from tests.support.fake_cluster import FakeCluster, Transaction


class Loss(Enum):
    """Where a commit is lost on its way."""

    BEFORE_OFFSETS = auto()
    """Neither the offsets nor the commit arrived: the transaction is open, and nothing says that it moves them."""
    BEFORE_COMMIT = auto()
    """The offsets arrived, the commit did not: the transaction is open."""
    AFTER_COMMIT = auto()
    """It is committed; the answer was lost."""


class FakeLog:
    """One member of the group: see `events.log.Log`. Times are taken for what they are: nothing waits.

    `read_limit` bounds what one `read` returns, so that restoring takes several.
    """

    def __init__(self, cluster: FakeCluster, instance: str = "a", *, read_limit: int = 100) -> None:
        self._cluster = cluster
        self.instance = instance
        self._read_limit = read_limit
        self._generation = -1
        self._positions: dict[int, int | None] = {}
        self._reading: dict[int, int] = {}
        self._transaction: Transaction | None = None
        self._loss: Loss | None = None
        self._lost = False
        cluster.join(self)

    def lose_next_commit(self, where: Loss) -> None:
        """Let the next commit raise `LogLost`; what became of it is for `where` to say."""
        self._loss = where

    def poll(self, timeout: float, limit: int) -> Polled:
        """See `Log.poll`."""
        cluster = self._cluster
        if cluster.is_fenced(self):
            raise Fenced(f"another handler goes by the instance name {self.instance}", instance=self.instance)
        lost: list[int] = []
        if not cluster.is_current(self):  # thrown out: it comes in again with nothing
            lost = list(self._positions)
            self._positions.clear()
            cluster.enter(self)
        self._generation = cluster.generation
        revoked, assigned = cluster.rebalance(self, self._positions)
        for p in revoked:
            del self._positions[p]
        self._positions.update(dict.fromkeys(assigned))
        return Polled([*lost, *revoked], assigned, *self._fetch(limit))

    def _fetch(self, limit: int) -> tuple[list[Record], list[tuple[int, int]]]:
        topic = self._cluster.topics.commands
        records: list[Record] = []
        ends: list[tuple[int, int]] = []
        for p, position in sorted(self._positions.items()):
            if position is None:
                continue
            if not self._cluster.oldest(topic, p) <= position <= self._cluster.high_end(topic, p):
                raise CommandsExpired(f"{topic}: offset {position} of partition {p} is out of range")
            found, room = self._cluster.read(topic, p, position), limit - len(records)
            records += found[:room]
            if len(found) <= room:  # up to the end, with the markers before it
                self._positions[p] = self._cluster.stable_end(topic, p)
                ends.append((p, self._cluster.stable_end(topic, p)))
            elif room:
                self._positions[p] = found[room - 1].offset + 1
        return records, ends

    def committed(self, partitions: Collection[int]) -> dict[int, int]:
        """See `Log.committed`."""
        found = {p: self._cluster.committed_offset(p) for p in partitions}
        return {p: offset for p, offset in found.items() if offset is not None}

    def oldest_commands(self, partitions: Collection[int]) -> dict[int, int]:
        """See `Log.oldest_commands`."""
        return {p: self._cluster.oldest(self._cluster.topics.commands, p) for p in partitions}

    def stable_ends(self, partitions: Collection[int]) -> dict[int, int]:
        """See `Log.stable_ends`."""
        cluster, topic = self._cluster, self._cluster.topics.events
        ends = {p: cluster.high_end(topic, p) for p in partitions}
        return {p: end for p, end in ends.items() if cluster.stable_end(topic, p) == end}

    def read(self, offsets: Mapping[int, int], timeout: float) -> list[Record]:
        """See `Log.read`."""
        self._reading = dict(offsets)
        records: list[Record] = []
        for p, offset in self._reading.items():
            room = self._read_limit - len(records)
            found = self._cluster.read(self._cluster.topics.events, p, offset)
            records += found[:room]
            if len(found) <= room:  # up to the end, with the markers before it
                self._reading[p] = self._cluster.stable_end(self._cluster.topics.events, p)
            elif room:
                self._reading[p] = found[room - 1].offset + 1
        return records

    def read_position(self, partition: int) -> int:
        """See `Log.read_position`."""
        return self._reading[partition]

    def start(self, partition: int, offset: int) -> None:
        """See `Log.start`."""
        if partition not in self._positions:
            raise LogLost(f"start: partition {partition} is not assigned")
        self._positions[partition] = offset

    def begin(self) -> None:
        """See `Log.begin`."""
        self._usable("begin")
        if self._transaction is not None:
            raise LogLost("begin: within a transaction")
        self._transaction = self._cluster.begin(self)

    def append(self, messages: Sequence[Outgoing]) -> None:
        """See `Log.append`."""
        self._cluster.append(self._current("append"), messages)

    def commit(self, consumed: Mapping[int, int]) -> None:
        """See `Log.commit`."""
        transaction = self._current("commit")
        loss, self._loss = self._loss, None
        if loss is Loss.BEFORE_OFFSETS:
            self._lose("commit: lost before it arrived")
        if not self._cluster.may_write(transaction):
            self._lose("commit: this producer is fenced")
        if consumed and self._generation != self._cluster.generation:
            self.abort()
            raise Aborted("commit: the group has a new generation")
        transaction.offsets = dict(consumed)
        if loss is Loss.BEFORE_COMMIT:
            self._lose("commit: lost before it arrived")
        self._cluster.end(transaction, commit=True)
        self._transaction = None
        if loss is Loss.AFTER_COMMIT:
            self._lose("commit: the answer was lost")

    def abort(self) -> None:
        """See `Log.abort`."""
        transaction = self._current("abort")
        if not self._cluster.may_write(transaction):
            self._lose("abort: this producer is fenced")
        self._cluster.end(transaction, commit=False)
        self._transaction = None

    def close(self) -> None:
        """See `Log.close`. A transaction that is open stays so, as after a crash."""
        self._lost = True
        self._cluster.leave(self)

    def _current(self, doing: str) -> Transaction:
        self._usable(doing)
        if self._transaction is None:
            raise LogLost(f"{doing}: not within a transaction")
        return self._transaction

    def _usable(self, doing: str) -> None:
        if self._lost:
            raise LogLost(f"{doing}: the log is lost")

    def _lose(self, why: str) -> None:
        self._lost = True
        raise LogLost(why)
