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
"""Seconds for which rounds may fail, one after the other, for another reason than that a node does not answer."""
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
    and will be read where it was left. What else fails, a refusal of a node too, is tried again for
    `give_up_after` seconds. A round may be ended anywhere: one that does not come to its end when `stop`
    is set is cancelled.

    Raises:
        LedgerError: what waiting does not mend, or did not in that time.
    """
    clock = asyncio.get_running_loop().time
    failing_since: float | None = None
    delay = _FIRST_DELAY
    while not stop.is_set():
        try:
            did_something = await _unless_stopped(one(), stop)
        except LedgerError as error:
            is_the_chain = isinstance(error, ChainUnavailable) and not isinstance(error, NodeRefused)
            failing_since = None if is_the_chain else failing_since or clock()
            if not error.retriable or (failing_since is not None and clock() - failing_since > give_up_after):
                raise
            log.warning("%s; trying again", error.message)
            await _wait(stop, delay)
            delay = min(delay * 2, _LONGEST_DELAY)
            continue
        failing_since, delay = None, _FIRST_DELAY
        if not did_something:
            await _wait(stop, poll)


async def in_thread(call: Callable[..., T], *arguments: Any) -> T:
    """Return what `call` returns in a thread; when this is cancelled the thread comes to its end first.

    For clients that must not be closed while a thread uses them.
    """
    task = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


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
