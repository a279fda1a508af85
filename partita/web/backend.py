"""What the routes stand on: the engine for commands, the read model for questions, and whether both are there."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Depends, Request

from events.errors import LedgerError
from events.follow import Ends
from partita.engine import LedgerEngine
from partita.web.models import Part
from partita.wiring import Wiring
from projections.errors import ReadModelUnavailable
from projections.queries import ReadModel
from projections.records import PositionRow
from projections.snapshots.queries import History

_ENDS_FOR: Final = 2.0
_PROJECTED_FOR: Final = 0.5

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
    _projected: _Told[bool] = field(init=False)

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

    async def missing(self) -> dict[Part, str]:
        """Return which parts are not there or don't work, each with the code of its error."""
        found = await asyncio.gather(_fault(self.ends), _fault(self._projected))
        return {part: code for part, code in zip(Part, found, strict=True) if code is not None}

    async def _ask_projected(self) -> bool:
        positions = await self.read_model.positions()
        if not positions:
            raise ReadModelUnavailable("no projection has been started")
        if halted := [row for row in positions.values() if row.halted]:
            raise ProjectionHalted(halted)
        return True


class ProjectionHalted(LedgerError):
    """The projection has stopped in some partitions, and goes on in the others."""

    def __init__(self, halted: list[PositionRow]) -> None:
        super().__init__("the projection has stopped", partitions=sorted(row.partition for row in halted))


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
