"""Going on for ever with a chain that others run, until told to stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from events.errors import LedgerError
from reconciler.errors import ChainUnavailable
from reconciler.provider import NodeRefused

log = logging.getLogger(__name__)

T = TypeVar("T")

GIVE_UP_AFTER: Final = 300.0
"""Seconds within which what is not a chain's node must come back."""
FINISHING: Final = 10.0
"""Seconds that a round under way has to come to its end when it is time to stop."""
_FIRST_DELAY: Final = 0.2
_LONGEST_DELAY: Final = 10.0


async def run_rounds(
    one: Callable[[], Coroutine[Any, Any, bool]],
    stop: asyncio.Event,
    *,
    poll: float,
    give_up_after: float = GIVE_UP_AFTER,
) -> None:
    """Do one round after the other until `stop` is set, `poll` seconds apart when one says that nothing was to do.

    A chain's node that does not answer, or not with what can be, is waited for however long: it is somebody else's,
    and will be read where it was left. A round may be ended anywhere: one that does not come to its end when `stop`
    is set is cancelled.

    Raises:
        LedgerError: what waiting does not mend, or did not within `give_up_after` seconds: a refusal of a node too.
    """
    loop = asyncio.get_running_loop()
    well_at, delay = loop.time(), _FIRST_DELAY
    while not stop.is_set():
        try:
            did_something = await _unless_stopped(one(), stop)
        except LedgerError as error:
            is_the_chain = isinstance(error, ChainUnavailable) and not isinstance(error, NodeRefused)
            if not error.retriable or (not is_the_chain and loop.time() - well_at > give_up_after):
                raise
            if is_the_chain:
                well_at = loop.time()
            log.warning("%s; trying again", error.message)
            await _wait(stop, delay)
            delay = min(delay * 2, _LONGEST_DELAY)
            continue
        well_at, delay = loop.time(), _FIRST_DELAY
        if not did_something:
            await _wait(stop, poll)


async def _unless_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """Return what comes of `work`; None when it was cancelled, since it had not ended soon after `stop` was set."""
    task, told = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait({task}, timeout=FINISHING)
        if task.done():
            return task.result()
        log.info("stopping in the middle of a round")
        return None
    finally:
        await _cancelled(task)
        await _cancelled(told)


async def _cancelled(task: Awaitable[Any]) -> None:
    assert isinstance(task, asyncio.Task)
    task.cancel()
    await asyncio.wait({task})


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
