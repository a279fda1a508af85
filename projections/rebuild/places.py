"""Where the tables of a rebuild are, and what must be true of where they are read up to. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Places:
    """The schemas of one projection's tables: `live`, `new` while they are made, `old` after the exchange."""

    live: str
    projection: str

    @property
    def new(self) -> str:
        """The schema in which the tables are made anew."""
        return f"{self.live}__{self.projection}_rebuild"

    @property
    def old(self) -> str:
        """The schema that keeps the tables that were live before."""
        return f"{self.live}__{self.projection}_old"

    @property
    def lock(self) -> str:
        """The name of the lock that whoever rebuilds holds."""
        return f"partita.rebuild.{self.projection}.{self.live}"


def cut(live: Mapping[int, int], log: Mapping[int, int]) -> dict[int, int]:
    """Return up to which sequence, by partition, live tables can be compared: where they are, if the log has it."""
    return {partition: min(live.get(partition, 0), end) for partition, end in log.items()}


def is_behind(at: Mapping[int, int], other: Mapping[int, int]) -> bool:
    """Whether `at` has not come as far as `other` in some partition."""
    return any(at.get(partition, 0) < end for partition, end in other.items())


def missing(at: Mapping[int, int], end: Mapping[int, int]) -> int:
    """Return how many events lie between `at` and `end`, over all partitions."""
    return sum(max(sequence - at.get(partition, 0), 0) for partition, sequence in end.items())
