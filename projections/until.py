"""Where a projection stops that is not to run for ever, and how it finds that it can't. Pure but for a clock."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from projections.errors import EndNotReached
from projections.store import Position


@dataclass(slots=True)
class Until:
    """A sequence by partition, before which to stop; and how many seconds to wait for what is not there yet."""

    sequences: Mapping[int, int]
    patience: float
    _last_event: float = field(default_factory=time.monotonic)

    def is_reached(self, at: Mapping[int, Position]) -> bool:
        """Whether the positions, which are none before they were read, have come to the end."""
        return bool(at) and all(at[partition].next_sequence >= end for partition, end in self.sequences.items())

    def expect_more(self, at: Mapping[int, Position], *, came: bool, comes: bool) -> None:
        """Take in whether something came, and whether more is to be read.

        Raises:
            EndNotReached: nothing has come for too long, or all was read, and what is left can't be written.
        """
        now = time.monotonic()
        if came:
            self._last_event = now
        elif not comes or now - self._last_event > self.patience:
            raise EndNotReached(
                {p: (at[p].next_sequence, end) for p, end in self.sequences.items() if at[p].next_sequence < end},
                f"nothing came for {self.patience:.0f} s" if comes else "a batch would be shown in part there",
            )
