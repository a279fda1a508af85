"""How far the read model is behind what requesters have been told, watched from a thread of its own."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from partita.wiring import Wiring
from projections.errors import ReadModelUnavailable

_EVERY: Final = 0.05


@dataclass(slots=True)
class LagWatch:
    """Compares the read model's positions with `reached` (partition to sequence) twenty times a second.

    `lag` is in events, now; `most` is the most that was seen; both are None until the read model first answers.
    """

    wiring: Wiring
    reached: Callable[[], Mapping[int, int]]
    lag: int | None = None
    most: int = 0
    _positions: dict[int, int] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="demo-lag", daemon=True)
        self._thread.start()

    async def _watch(self) -> None:
        async with self.wiring.read_model() as read_model:
            while not self._stopping.is_set():
                try:
                    positions = await read_model.positions()
                except ReadModelUnavailable:  # its tables are made by the projection, which may not have started
                    positions = {}
                self._take({p: row.next_sequence for p, row in positions.items()})
                await asyncio.sleep(_EVERY)

    def _take(self, positions: dict[int, int]) -> None:
        with self._changed:
            self._positions = positions
            self.lag = _behind(dict(self.reached()), positions)
            self.most = max(self.most, self.lag)
            self._changed.notify_all()

    def wait_for(self, wanted: Mapping[int, int], timeout: float) -> float | None:
        """Return the moment (monotonic seconds) at which the read model was seen past `wanted`; None: not in time."""
        with self._changed:
            if self._changed.wait_for(lambda: not _behind(wanted, self._positions), timeout):
                return time.monotonic()
        return None

    def stop(self) -> None:
        """End watching."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10)


def _behind(wanted: Mapping[int, int], positions: Mapping[int, int]) -> int:
    return sum(max(0, sequence + 1 - positions.get(p, 0)) for p, sequence in wanted.items())
