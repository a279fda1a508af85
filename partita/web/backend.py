"""What the routes stand on: the engine for commands, the read model for questions, and whether all is there."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Depends, Request

from events.errors import LedgerError
from events.follow import Ends
from partita.engine import LedgerEngine
from partita.web.models import Part, Readiness
from partita.wiring import Wiring
from projections.balances import BALANCES
from projections.errors import ReadModelUnavailable
from projections.proofs.following import CHECKPOINTS
from projections.proofs.projection import PROOFS
from projections.queries import ReadModel
from projections.snapshots.projection import SNAPSHOTS
from projections.snapshots.queries import History

_ENDS_FOR: Final = 2.0
_PROJECTED_FOR: Final = 0.5

_PROJECTIONS: Final = {
    Part.READ_MODEL: BALANCES,
    Part.SNAPSHOTS: SNAPSHOTS,
    Part.PROOFS: PROOFS,
    Part.CHECKPOINTS: CHECKPOINTS,
}
"""What the API reads from. Of those that were never started, but for the first, nothing is wanted."""

T = TypeVar("T")


@dataclass(slots=True)
class _Told(Generic[T]):
    """What was found out, told again for `lasts` seconds, however many ask; a fault too."""

    ask: Callable[[], Awaitable[T]]
    lasts: float
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _found: T | LedgerError | None = None
    _found_at: float = float("-inf")

    async def __call__(self) -> T:
        async with self._asking:
            if self._found is None or time.monotonic() - self._found_at > self.lasts:
                try:
                    self._found = await self.ask()
                except LedgerError as error:
                    self._found = error
                self._found_at = time.monotonic()
            if isinstance(self._found, LedgerError):
                raise self._found
            return self._found


@dataclass(slots=True)
class Backend:
    """One ledger, as the API sees it."""

    engine: LedgerEngine
    read_model: ReadModel
    wiring: Wiring
    ends: _Told[Mapping[int, int]] = field(init=False)
    """Where the log of events ends, by partition: the offset that comes next."""
    _projected: _Told[Mapping[Part, tuple[list[int], int]]] = field(init=False)

    def __post_init__(self) -> None:
        self.ends = _Told(self._ask_ends, _ENDS_FOR)
        self._projected = _Told(self._ask_projected, _PROJECTED_FOR)

    @property
    def history(self) -> History:
        """What was, at any time."""
        return History(self.read_model)

    @property
    def longest_wait(self) -> float:
        """The seconds that a request waits at most, for an outcome or for the tables."""
        return self.engine.settings.outcome_timeout

    async def _ask_ends(self) -> Mapping[int, int]:
        return await asyncio.to_thread(self._read_ends)

    def _read_ends(self) -> dict[int, int]:
        count, timeout = self.wiring.partition_count(), self.engine.settings.connect_timeout
        return Ends(self.wiring.clients).stable(self.wiring.topics.events, range(count), timeout=timeout)

    async def readiness(self) -> Readiness:
        """Return which parts are not there or don't work, each with the code of its error, and what has stopped."""
        missing: dict[Part, str] = {}
        halted: dict[Part, list[int]] = {}
        if code := await _fault(self.ends):
            missing[Part.KAFKA] = code
        try:
            found = await self._projected()
        except LedgerError as error:
            missing[Part.READ_MODEL] = error.code
        else:
            halted = {part: stopped for part, (stopped, _) in found.items() if stopped}
            missing |= {part: ProjectionHalted.__name__ for part, rows in found.items() if _fails(part, *rows)}
        return Readiness(ready=not missing, missing=missing, halted=halted)

    async def _ask_projected(self) -> Mapping[Part, tuple[list[int], int]]:
        """Return in which partitions each projection has stopped, and how many it has."""
        found = {}
        for part, projection in _PROJECTIONS.items():
            positions = await self.read_model.positions(projection)
            found[part] = [row.partition for row in positions.values() if row.halted], len(positions)
        if not found[Part.READ_MODEL][1]:
            raise ReadModelUnavailable("no projection has been started")
        return found


class ProjectionHalted(LedgerError):
    """The projection has stopped in some partitions, and goes on in the others."""


def _fails(part: Part, stopped: list[int], partitions: int) -> bool:
    """Whether too much has stopped: proofs are of one partition, other answers are of all of them together."""
    is_of_one = part in (Part.PROOFS, Part.CHECKPOINTS)
    return 0 < partitions <= len(stopped) if is_of_one else bool(stopped)


async def _fault(ask: Callable[[], Awaitable[object]]) -> str | None:
    try:
        await ask()
    except LedgerError as error:
        return error.code
    return None


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


Served = Annotated[Backend, Depends(_backend)]
