"""Stores in memory, for the simulations: what a handler's disk is to it, crashes and all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from commands.store import StoreInUse, StoreLost


@dataclass
class MemoryStores:
    """See `commands.store.Stores`. `fail()` makes the next write of any store fail."""

    kept: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    opened: dict[int, "MemoryStore"] = field(default_factory=dict)
    failing: bool = False

    def open(self, partition: int) -> "MemoryStore":
        if partition in self.opened:
            raise StoreInUse(f"partition {partition} is open")
        self.opened[partition] = MemoryStore(self, partition)
        return self.opened[partition]

    def discard(self, partition: int) -> None:
        self.kept.pop(partition, None)

    def crash(self) -> None:
        """The process that had them open is gone: what it still holds can't be used, what was written is kept."""
        self.opened.clear()

    def fail(self) -> None:
        self.failing = True


@dataclass
class MemoryStore:
    """See `commands.store.Store`."""

    stores: MemoryStores
    partition: int

    def _values(self) -> dict[bytes, bytes]:
        if self.stores.opened.get(self.partition) is not self:
            raise StoreLost(f"the store of partition {self.partition} is not open")
        return self.stores.kept.setdefault(self.partition, {})

    def get(self, key: bytes) -> bytes | None:
        return self._values().get(key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self.get(key) for key in keys]

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        values = self._values()
        if self.stores.failing:
            self.stores.failing = False
            raise StoreLost("the disk is full")
        for key, value in changes.items():
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value

    def close(self) -> None:
        if self.stores.opened.get(self.partition) is self:
            del self.stores.opened[self.partition]
