"""A handler as a process, which can die or stand still whenever it calls its log or writes to its disk.

`point` is called at each of these moments. It returns at once, or after the world has gone on for a while, or it
raises `Killed`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from events.follow import Record
from events.log import Outgoing, Polled
from tests.support.fake_cluster import FakeCluster, Transaction
from tests.support.fake_ledger import FakeLedger, Member
from tests.support.fake_log import FakeLog
from tests.support.memory_store import MemoryStore, MemoryStores

Point = Callable[[], None]
_MOST_READ = 9
_AGAIN = 0.05


class Killed(BaseException):
    """The process is gone, wherever it was: nothing in it gets to clean up."""


class Owned(NamedTuple):
    """What a handler goes by when it decides commands of a partition."""

    recorded_at: int
    writer_epoch: int


Circumstances = dict[Transaction, Mapping[int, Owned]]
"""Of each transaction, in the order in which they began: the partitions that its handler had."""


class SteppedLog(FakeLog):
    """A log that stops at every call. How much it brings and in what order is chance, and some of it comes again.

    What its handler has when a transaction begins, which `owned` tells, is noted in `circumstances`.
    """

    def __init__(
        self,
        cluster: FakeCluster,
        instance: str,
        point: Point,
        random: Random,
        circumstances: Circumstances,
        owned: Callable[[], Mapping[int, Owned]],
    ) -> None:
        super().__init__(cluster, instance, read_limit=random.randint(1, _MOST_READ))
        self._point = point
        self._random = random
        self._circumstances = circumstances
        self._owned = owned
        self._delivered: list[Record] = []

    def poll(self, timeout: float, limit: int) -> Polled:
        self._point()
        before = dict(self._positions)
        polled = super().poll(timeout, self._random.randint(1, limit))
        again = self._again(before)
        self._delivered += polled.records
        order = self._random.sample(range(self._cluster.partitions), self._cluster.partitions)
        records = sorted([*again, *polled.records], key=lambda record: order.index(record.partition))
        return polled._replace(records=records)

    def _again(self, positions: Mapping[int, int | None]) -> list[Record]:
        """Return, now and then, some of what was delivered before and is behind the positions."""
        if self._random.random() > _AGAIN:
            return []
        behind = [r for r in self._delivered[-_MOST_READ:] if r.offset < (positions.get(r.partition) or 0)]
        return [record for record in behind if record.partition in self._positions]

    def committed(self, partitions: Collection[int]) -> dict[int, int]:
        self._point()
        return super().committed(partitions)

    def stable_ends(self, partitions: Collection[int]) -> dict[int, int]:
        self._point()
        return super().stable_ends(partitions)

    def read(self, offsets: Mapping[int, int], timeout: float) -> list[Record]:
        self._point()
        return super().read(offsets, timeout)

    def begin(self) -> None:
        owned = self._owned()
        self._point()
        super().begin()
        self._circumstances[self._current("begin")] = owned

    def append(self, messages: Sequence[Outgoing]) -> None:
        self._point()
        super().append(messages)

    def commit(self, consumed: Mapping[int, int]) -> None:
        self._point()
        super().commit(consumed)

    def abort(self) -> None:
        self._point()
        super().abort()


class Disk(MemoryStores):
    """The disk of one process; another process finds on it what was written."""

    point: Point

    def open(self, partition: int) -> "_SteppedStore":
        super().open(partition)
        store = _SteppedStore(self, partition, self.point)
        self.opened[partition] = store
        return store

    def copy(self) -> "Disk":
        """Return the disk as it is now."""
        return Disk({p: dict(values) for p, values in self.kept.items()})


@dataclass
class _SteppedStore(MemoryStore):
    point: Point

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        self.point()
        super().write(changes)


class Process:
    """A running handler. `point` is told which process it is that calls.

    While it is `paused` it stands still in the middle of a turn; one that is `killed` then does not wake up.
    """

    def __init__(
        self,
        ledger: FakeLedger,
        name: str,
        disk: Disk,
        point: Callable[["Process"], None],
        random: Random,
        circumstances: Circumstances,
    ) -> None:
        self.name = name
        self.disk = disk
        self.paused = False
        self.killed = False
        disk.point = lambda: point(self)
        ledger.disks[name] = disk
        self.member: Member = ledger.member(
            name,
            lambda cluster, instance: SteppedLog(cluster, instance, disk.point, random, circumstances, self._owned),
        )

    def _owned(self) -> Mapping[int, Owned]:
        handler, now = self.member.handler, self.member.ledger.now
        return {
            p: Owned(max(now, state.position.recorded_at), handler._epochs.get(p, 0))
            for p, state in handler._ready.items()
        }

    def close(self) -> None:
        """End as a service ends its handler: it lets go of its disk, then leaves the group."""
        self.member.handler.close()
        self.member.log.close()
