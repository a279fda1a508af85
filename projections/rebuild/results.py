"""What a rebuild says while it goes on, and what it has come to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from projections.rebuild.comparing import Difference


@dataclass(frozen=True, slots=True)
class Step:
    """What is being done: "filling", "comparing", "indexing" or "exchanging"; events that are done, of how many."""

    doing: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild has come to. `events` were read by this run; the tables are now at `positions` (sequences)."""

    projection: str
    events: int
    seconds: float
    positions: Mapping[int, int]
    differences: list[Difference]
    halted: Mapping[int, str]
    """Why the new tables end where they do, by partition, where the log does not."""
    not_carried_over: list[str]
    """What the old tables had besides: indexes, triggers, constraints, columns."""
    old_schema: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "projection": self.projection,
            "events": self.events,
            "seconds": round(self.seconds, 2),
            "positions": {str(partition): sequence for partition, sequence in sorted(self.positions.items())},
            "differences": [each.to_dict() for each in self.differences],
            "halted": {str(partition): reason for partition, reason in sorted(self.halted.items())},
            "not_carried_over": self.not_carried_over,
            "old_schema": self.old_schema,
        }
