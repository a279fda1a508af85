"""What the routes stand on: the engine for commands, the read model for questions, and whether both are there."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import Depends, Request

from events.errors import LedgerError
from events.follow import Ends
from partita.engine import LedgerEngine
from partita.web.models import Part
from partita.wiring import Wiring
from projections.errors import ReadModelUnavailable
from projections.queries import ReadModel
from projections.records import PositionRow

_KNOWN_FOR: Final = 2.0
"""Seconds for which what was found out about Kafka is told again, however many ask."""


@dataclass(slots=True)
class Backend:
    """One ledger, as the API sees it."""

    engine: LedgerEngine
    read_model: ReadModel
    wiring: Wiring
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ends: dict[int, int] | LedgerError = field(default_factory=dict)
    _ends_at: float = float("-inf")

    @property
    def longest_wait(self) -> float:
        """The seconds that a request waits at most, for an outcome or for the tables."""
        return self.engine.settings.outcome_timeout

    async def ends(self) -> Mapping[int, int]:
        """Return where the log of events ends, by partition: the offset that comes next.

        Raises:
            BrokerUnavailable, TopicMissing, NotConfigured: it is not known.
        """
        async with self._asking:
            if time.monotonic() - self._ends_at > _KNOWN_FOR:
                try:
                    self._ends = await asyncio.to_thread(self._ask_ends)
                except LedgerError as error:
                    self._ends = error
                self._ends_at = time.monotonic()
            if isinstance(self._ends, LedgerError):
                raise self._ends
            return self._ends

    def _ask_ends(self) -> dict[int, int]:
        count, timeout = self.wiring.partition_count(), self.engine.settings.connect_timeout
        return Ends(self.wiring.clients).stable(self.wiring.topics.events, range(count), timeout=timeout)

    async def missing(self) -> dict[Part, str]:
        """Return which parts are not there or don't work, each with the code of its error."""
        found = await asyncio.gather(_fault(self.ends), _fault(self._project))
        return {part: code for part, code in zip(Part, found, strict=True) if code is not None}

    async def _project(self) -> None:
        positions = await self.read_model.positions()
        if not positions:
            raise ReadModelUnavailable("no projection has been started")
        if halted := [row for row in positions.values() if row.halted]:
            raise ProjectionHalted(halted)


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
