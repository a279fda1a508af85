"""A cluster in memory that behaves as Kafka does where the handler's safety hangs on it.

`FakeCluster` holds the topics, one consumer group and the transactions; `FakeLog` is one member of the group, an
`events.log.Log`. The contract tests run against it and against Kafka. There is no clock, no thread and no random in
here: what time-outs do in Kafka happens when a test says so (`expire_member`, `time_out_transactions`), so a seeded
simulation can drive it.

What is modelled, and what a handler without its remedies would trip over:
- records of open transactions take offsets and are invisible, and hide what comes after them (last stable offset);
- commit and abort markers take an offset too, and may reach partitions late (`hold_markers`);
- the group's offsets move with the transaction, and are withheld while one that moves them is open;
- the group has generations: a member that has not polled since the last change can't commit;
- partitions move cooperatively: the old owner must have polled before the new one gets them;
- the instance name is fenced, in the group and in the transactions: the newest log of that name wins;
- a commit may be lost before or after it happened (`lose_next_commit`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from events.errors import CommandsExpired, Fenced
from events.follow import Record
from events.log import Aborted, LogLost, Outgoing, Polled
from events.partitioner import partition_of
from events.topics import Topics

ABORT_MARKER = object()
COMMIT_MARKER = object()


class Loss(Enum):
    """Where a commit is lost on its way."""

    BEFORE_OFFSETS = auto()
    """Neither the offsets nor the commit arrived: the transaction is open, and nothing says that it moves them."""
    BEFORE_COMMIT = auto()
    """The offsets arrived, the commit did not: the transaction is open."""
    AFTER_COMMIT = auto()
    """It is committed; the answer was lost."""


@dataclass(eq=False)
class Transaction:
    """What one producer has appended since it began. `unmarked` partitions wait for the marker of its end."""

    owner: "FakeLog"
    open: bool = True
    committed: bool = False
    unmarked: set[tuple[str, int]] = field(default_factory=set)
    offsets: dict[int, int] = field(default_factory=dict)
    offsets_unmarked: bool = False

    @property
    def ended(self) -> bool:
        """Whether its end is decided and known everywhere."""
        return not self.open and not self.unmarked and not self.offsets_unmarked


class Slot(NamedTuple):
    """One offset of a partition: a message, or a marker; `transaction` is None for those sent without one."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, str | bytes | None]]
    transaction: Transaction | None
    marker: object | None = None


class FakeCluster:
    """The brokers. `partitions` is the count of the commands, events and outcomes topics."""

    def __init__(self, topics: Topics, partitions: int) -> None:
        self.topics = topics
        self.partitions = partitions
        self._slots: defaultdict[tuple[str, int], list[Slot]] = defaultdict(list)
        self._oldest: dict[tuple[str, int], int] = {}
        self._transactions: list[Transaction] = []
        self._holding_markers = False
        self._committed: dict[int, int] = {}
        self.generation = 0
        self._members: dict[str, FakeLog] = {}
        self._writers: dict[str, FakeLog] = {}
        self._owners: dict[int, FakeLog | None] = dict.fromkeys(range(partitions))

    # What clients do.

    def produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int | None = None) -> int:
        """Append a message without a transaction, as a requester does; return its offset."""
        where = (topic, self._partition(topic, key) if partition is None else partition)
        self._slots[where].append(Slot(key, value, (), None))
        return len(self._slots[where]) - 1

    def visible(self, topic: str, partition: int) -> list[Record]:
        """Return what a reader of committed records sees."""
        return self.read(topic, partition, 0)

    def all_visible(self, topic: str) -> list[Record]:
        """Return what a reader of committed records sees in all partitions, one after another."""
        return [record for p in range(self.partitions) for record in self.visible(topic, p)]

    def headers(self, topic: str, record: Record) -> dict[str, str | bytes | None]:
        """Return a record's headers."""
        return dict(self._slots[topic, record.partition][record.offset].headers)

    def read(self, topic: str, partition: int, offset: int) -> list[Record]:
        """Return the committed records from `offset` to the last stable offset."""
        return [
            Record(partition, at, slot.key, slot.value)
            for at, slot in enumerate(self._slots[topic, partition][: self.stable_end(topic, partition)])
            if at >= max(offset, self.oldest(topic, partition))
            and slot.marker is None
            and (slot.transaction is None or slot.transaction.committed)
        ]

    def high_end(self, topic: str, partition: int) -> int:
        """Return the high watermark: where the next append goes."""
        return len(self._slots[topic, partition])

    def stable_end(self, topic: str, partition: int) -> int:
        """Return the last stable offset: the first of a transaction whose end is not marked in the partition."""
        where = (topic, partition)
        for at, slot in enumerate(self._slots[where]):
            transaction = slot.transaction
            if transaction is not None and (transaction.open or where in transaction.unmarked):
                return at
        return len(self._slots[where])

    def oldest(self, topic: str, partition: int) -> int:
        """Return the offset of the oldest message that retention has left."""
        return self._oldest.get((topic, partition), 0)

    def committed_offset(self, partition: int) -> int | None:
        """Return the group's offset, -1 if it has none, None while it is not known."""
        pending = (t for t in self._transactions if partition in t.offsets and (t.open or t.offsets_unmarked))
        if any(pending):
            return None
        return self._committed.get(partition, -1)

    # What befalls a cluster.

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Let retention delete what is before `offset`."""
        self._oldest[topic, partition] = offset

    def expire_member(self, instance: str) -> None:
        """Let the group notice that a member is gone."""
        self._remove(self._members[instance])

    def time_out_transactions(self) -> None:
        """Abort what is open."""
        for transaction in [t for t in self._transactions if t.open]:
            self.end(transaction, commit=False)

    def hold_markers(self) -> None:
        """Let the markers of transactions that end from now on be on their way for a while."""
        self._holding_markers = True

    def release_markers(self, only: Collection[tuple[str, int]] | None = None) -> None:
        """Let markers arrive: those of the given partitions, or all of them and of the offsets."""
        if only is None:
            self._holding_markers = False
        for transaction in self._transactions:
            if not transaction.open:
                self._mark(transaction, transaction.unmarked if only is None else transaction.unmarked & set(only))
                transaction.offsets_unmarked &= only is not None
        self._transactions = [t for t in self._transactions if not t.ended]

    # What the logs ask for.

    def join(self, log: "FakeLog") -> None:
        """Take in a new log. The earlier one of its instance is fenced, and its transaction aborted."""
        for transaction in [t for t in self._transactions if t.open and t.owner.instance == log.instance]:
            self.end(transaction, commit=False)
        self._writers[log.instance] = log
        self.enter(log)

    def enter(self, log: "FakeLog") -> None:
        """Take a log into the group, in the place of the earlier one of its instance."""
        earlier = self._members.get(log.instance)
        if earlier is None:
            self.generation += 1
        self._members[log.instance] = log
        for p, owner in self._owners.items():
            if owner is not None and owner is earlier:
                self._owners[p] = None

    def leave(self, log: "FakeLog") -> None:
        """Let a member go, unless it was replaced."""
        if self.is_current(log):
            self._remove(log)

    def is_current(self, log: "FakeLog") -> bool:
        """Whether the log is in the group."""
        return self._members.get(log.instance) is log

    def is_fenced(self, log: "FakeLog") -> bool:
        """Whether a later log goes by its instance name."""
        return self._members.get(log.instance, log) is not log

    def rebalance(self, log: "FakeLog", owned: Collection[int]) -> tuple[list[int], list[int]]:
        """Return the partitions that the member loses and wins; those not yet given up elsewhere come later."""
        names = sorted(self._members)
        target = {p: self._members[names[p % len(names)]] for p in range(self.partitions)}
        revoked = [p for p in owned if target[p] is not log]
        for p in revoked:
            self._owners[p] = None
        assigned = [p for p, member in target.items() if member is log and self._owners[p] is None and p not in owned]
        for p in assigned:
            self._owners[p] = log
        return revoked, assigned

    def begin(self, log: "FakeLog") -> Transaction:
        """Begin a transaction."""
        self._transactions.append(Transaction(log))
        return self._transactions[-1]

    def append(self, transaction: Transaction, messages: Iterable[Outgoing]) -> None:
        """Append to a transaction; what a fenced producer sends is thrown away."""
        if not self.may_write(transaction):
            return
        for topic, partition, key, value, headers in messages:
            where = (topic, self._partition(topic, key) if partition is None else partition)
            transaction.unmarked.add(where)
            self._slots[where].append(Slot(key, value, headers or (), transaction))

    def may_write(self, transaction: Transaction) -> bool:
        """Whether the transaction is open and its producer not fenced."""
        return transaction.open and self._writers[transaction.owner.instance] is transaction.owner

    def end(self, transaction: Transaction, *, commit: bool) -> None:
        """Decide the end of a transaction; the markers that tell the partitions may come later."""
        transaction.open = False
        transaction.committed = commit
        transaction.offsets_unmarked = bool(transaction.offsets)
        if commit:
            self._committed.update(transaction.offsets)
        if not self._holding_markers:
            self.release_markers()

    def _mark(self, transaction: Transaction, partitions: set[tuple[str, int]]) -> None:
        marker = COMMIT_MARKER if transaction.committed else ABORT_MARKER
        for where in sorted(partitions):
            self._slots[where].append(Slot(None, None, (), None, marker))
        transaction.unmarked = transaction.unmarked - partitions

    def _remove(self, log: "FakeLog") -> None:
        del self._members[log.instance]
        self.generation += 1
        for p, owner in self._owners.items():
            if owner is log:
                self._owners[p] = None

    def _partition(self, topic: str, key: bytes | None) -> int:
        if topic in (self.topics.deadletter, self.topics.checkpoints):
            return 0
        return 0 if key is None else partition_of(key.decode(), self.partitions)


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
        return Polled([*lost, *revoked], assigned, self._fetch(limit))

    def _fetch(self, limit: int) -> list[Record]:
        topic = self._cluster.topics.commands
        records: list[Record] = []
        for p, position in sorted(self._positions.items()):
            if position is None:
                continue
            if not self._cluster.oldest(topic, p) <= position <= self._cluster.high_end(topic, p):
                raise CommandsExpired(f"{topic}: offset {position} of partition {p} is out of range")
            found = self._cluster.read(topic, p, position)[: limit - len(records)]
            if found:
                self._positions[p] = found[-1].offset + 1
                records += found
        return records

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
