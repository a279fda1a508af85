"""A cluster in memory that behaves as Kafka does where the handler's safety hangs on it.

`FakeCluster` holds the topics, one consumer group and the transactions; a member of the group is a
`tests.support.fake_log.FakeLog`. There is no clock, no thread and no random in here: what time-outs do in Kafka
happens when a test says so (`expire_member`, `time_out_transactions`), so a seeded simulation can drive it.

What is modelled, and what a handler without its remedies would trip over:
- records of open transactions take offsets and are invisible, and hide what comes after them (last stable offset);
- commit and abort markers take an offset too, and may reach partitions late (`hold_markers`);
- the group's offsets move with the transaction, and are withheld while one that moves them is open;
- the group has generations: a member that has not polled since the last change can't commit;
- partitions move cooperatively: the old owner must have polled before the new one gets them;
- the instance name is fenced, in the group and in the transactions: the newest log of that name wins.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from events.follow import Headers, Record
from events.log import Outgoing
from events.partitioner import partition_of
from events.topics import Topics

ABORT_MARKER = object()
COMMIT_MARKER = object()


class Writer(Protocol):
    """A member of the group as the cluster knows it: by its instance name."""

    instance: str


@dataclass(eq=False)
class Transaction:
    """What one producer has appended since it began. `unmarked` partitions wait for the marker of its end."""

    owner: Writer
    messages: list[Outgoing] = field(default_factory=list)
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
    headers: Headers | None
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
        self._members: dict[str, Writer] = {}
        self._writers: dict[str, Writer] = {}
        self._owners: dict[int, Writer | None] = dict.fromkeys(range(partitions))

    # What clients do.

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> int:
        """Append a message without a transaction, as a requester does; return its offset."""
        where = (topic, self._partition(topic, key) if partition is None else partition)
        self._slots[where].append(Slot(key, value, headers, None))
        return len(self._slots[where]) - 1

    def visible(self, topic: str, partition: int) -> list[Record]:
        """Return what a reader of committed records sees."""
        return self.read(topic, partition, 0)

    def all_visible(self, topic: str) -> list[Record]:
        """Return what a reader of committed records sees in all partitions, one after another."""
        return [record for p in range(self.partitions) for record in self.visible(topic, p)]

    def read(self, topic: str, partition: int, offset: int) -> list[Record]:
        """Return the committed records from `offset` to the last stable offset."""
        first = max(offset, self.oldest(topic, partition))
        return [
            Record(partition, at, slot.key, slot.value, headers=slot.headers)
            for at, slot in enumerate(self._slots[topic, partition][first : self.stable_end(topic, partition)], first)
            if slot.marker is None and (slot.transaction is None or slot.transaction.committed)
        ]

    def kept_at(self, topic: str, partition: int, offset: int) -> Slot:
        """Return what was appended at an offset, be it deleted since."""
        return self._slots[topic, partition][offset]

    def kept(self, topic: str, partition: int) -> list[Record]:
        """Return all that was ever visible, be it deleted since."""
        return [
            Record(partition, at, slot.key, slot.value, headers=slot.headers)
            for at, slot in enumerate(self._slots[topic, partition])
            if slot.marker is None and (slot.transaction is None or slot.transaction.committed)
        ]

    def sent_by_handlers(self, topic: str, partition: int) -> list[Record]:
        """Return what of it came in transactions."""
        slots = self._slots[topic, partition]
        return [record for record in self.kept(topic, partition) if slots[record.offset].transaction is not None]

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

    def let_lost_commits_arrive(self) -> None:
        """Let commits that were sent after their offsets arrive after all, unless their producers are fenced."""
        for transaction in [t for t in self._transactions if t.offsets and self.may_write(t)]:
            self.end(transaction, commit=True)

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

    def join(self, log: Writer) -> None:
        """Take in a new log. The earlier one of its instance is fenced, and its transaction aborted."""
        for transaction in [t for t in self._transactions if t.open and t.owner.instance == log.instance]:
            self.end(transaction, commit=False)
        self._writers[log.instance] = log
        self.enter(log)

    def enter(self, log: Writer) -> None:
        """Take a log into the group, in the place of the earlier one of its instance."""
        earlier = self._members.get(log.instance)
        if earlier is None:
            self.generation += 1
        self._members[log.instance] = log
        for p, owner in self._owners.items():
            if owner is not None and owner is earlier:
                self._owners[p] = None

    def leave(self, log: Writer) -> None:
        """Let a member go, unless it was replaced."""
        if self.is_current(log):
            self._remove(log)

    def is_current(self, log: Writer) -> bool:
        """Whether the log is in the group."""
        return self._members.get(log.instance) is log

    def is_fenced(self, log: Writer) -> bool:
        """Whether a later log goes by its instance name."""
        return self._members.get(log.instance, log) is not log

    def rebalance(self, log: Writer, owned: Collection[int]) -> tuple[list[int], list[int]]:
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

    def begin(self, log: Writer) -> Transaction:
        """Begin a transaction: the markers of the last one under this name have arrived by then."""
        for transaction in [t for t in self._transactions if not t.open and t.owner.instance == log.instance]:
            self._mark(transaction, transaction.unmarked)
            transaction.offsets_unmarked = False
        self._transactions.append(Transaction(log))
        return self._transactions[-1]

    def append(self, transaction: Transaction, messages: Iterable[Outgoing]) -> None:
        """Append to a transaction; what a fenced producer sends is thrown away."""
        if not self.may_write(transaction):
            return
        for topic, partition, key, value, headers in messages:
            where = (topic, self._partition(topic, key) if partition is None else partition)
            transaction.unmarked.add(where)
            transaction.messages.append(Outgoing(topic, partition, key, value, headers))
            self._slots[where].append(Slot(key, value, headers, transaction))

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
            self._slots[where].append(Slot(None, None, None, None, marker))
        transaction.unmarked = transaction.unmarked - partitions

    def _remove(self, log: Writer) -> None:
        del self._members[log.instance]
        self.generation += 1
        for p, owner in self._owners.items():
            if owner is log:
                self._owners[p] = None

    def _partition(self, topic: str, key: bytes | None) -> int:
        if topic in (self.topics.deadletter, self.topics.checkpoints):
            return 0
        return 0 if key is None else partition_of(key.decode(), self.partitions)
