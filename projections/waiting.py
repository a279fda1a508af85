"""Waiting until the read model has got to an event: one reader of the positions, however many wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from events.errors import LedgerError
from projections.errors import ReadModelBehind, ReadModelUnavailable
from projections.records import PositionRow

_SHORTEST: Final = 0.002
_LONGEST: Final = 0.05

Positions = Mapping[int, PositionRow]


class Waiting:
    """Lets calls wait for positions, which `read` returns."""

    def __init__(self, read: Callable[[], Awaitable[Positions]]) -> None:
        self._read = read
        self._known: Positions = {}
        self._waiters: dict[asyncio.Future[None], Mapping[int, int]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._joined = asyncio.Event()

    async def wait_for(self, wanted: Mapping[int, int], timeout: float) -> None:  # raises its own error
        """Return when the event at each sequence of `wanted` (by partition) has been seen.

        Raises:
            ReadModelBehind: not within `timeout` seconds, or one of the partitions has halted before.
            ReadModelUnavailable: the positions can't be read.
        """
        if _missing(wanted, self._known) is None:
            return
        begun = time.monotonic()
        future = asyncio.get_running_loop().create_future()
        self._waiters[future] = wanted
        self._joined.set()
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            partition = _missing(wanted, self._known)
            if partition is not None:
                raise _behind(partition, wanted, self._known, time.monotonic() - begun) from None
        finally:
            self._waiters.pop(future, None)

    def forget(self) -> None:
        """Take nothing for known any more."""
        self._known = {}

    async def close(self) -> None:
        """End every wait with `ReadModelUnavailable`."""
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.cancel()
            await asyncio.gather(poller, return_exceptions=True)
        self._fail(ReadModelUnavailable("the read model was closed while a call waited for it"))

    async def _poll(self) -> None:
        """Read the positions again and again while somebody waits, more rarely while nothing moves."""
        delay = _SHORTEST
        while self._waiters:
            before = self._known
            try:
                self._known = await self._read()
            except LedgerError as error:
                self._fail(error)
                return
            self._release()
            moved = before != self._known or self._joined.is_set()
            self._joined.clear()
            delay = _SHORTEST if moved else min(delay * 1.5, _LONGEST)
            await asyncio.sleep(delay)

    def _release(self) -> None:
        for future, wanted in list(self._waiters.items()):
            if future.done():
                continue
            partition = _missing(wanted, self._known)
            if partition is None:
                future.set_result(None)
            elif partition in self._known and self._known[partition].halted:
                future.set_exception(_behind(partition, wanted, self._known, 0.0))

    def _fail(self, error: LedgerError) -> None:
        for future in list(self._waiters):
            if not future.done():
                future.set_exception(error)


def _missing(wanted: Mapping[int, int], known: Positions) -> int | None:
    """Return a partition that has not got to its wanted sequence: a halted one if there is any; None if all have."""
    missing = [p for p, sequence in wanted.items() if p not in known or known[p].next_sequence <= sequence]
    halted = [p for p in missing if p in known and known[p].halted]
    return next(iter(halted or missing), None)


def _behind(partition: int, wanted: Mapping[int, int], known: Positions, waited: float) -> ReadModelBehind:
    position = known.get(partition)
    return ReadModelBehind(
        partition=partition,
        wanted=wanted[partition],
        reached=position.next_sequence - 1 if position else None,
        waited=waited,
        halted=position.halted if position else None,
    )
