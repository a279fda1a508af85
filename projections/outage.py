"""How long to go on without PostgreSQL or the registry, and how often to try again."""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from events.errors import LedgerError

log = logging.getLogger(__name__)

_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 2.0
_QUIET: Final = 60.0
"""Seconds without trouble that end an outage even when there was nothing to write."""


@dataclass(slots=True)
class Outage:
    """Counts the time since PostgreSQL or the registry was last of use, and says when it has been too long."""

    give_up_after: float
    _since: float = float("-inf")
    _last: float = float("-inf")
    _delay: float = _FIRST_DELAY

    def over(self) -> None:
        """Note that something was written."""
        self._last = float("-inf")

    async def wait(self, error: LedgerError, stop: asyncio.Event) -> None:
        """Wait before the next try, longer each time, not beyond `stop`; raises `error` when it has been too long."""
        now = time.monotonic()
        if now - self._last > _QUIET:  # another outage
            self._since, self._delay = now, _FIRST_DELAY
        self._last = now
        if now - self._since >= self.give_up_after:
            raise error
        log.warning("%s (%s); trying again", error.message, error.details.get("cause", ""))
        try:
            await asyncio.wait_for(stop.wait(), self._delay)
        except TimeoutError:
            self._delay = min(self._delay * 2, _LONGEST_DELAY)
