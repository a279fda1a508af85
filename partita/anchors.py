"""Anchors of a ledger's checkpoints: made once, made for ever, found for an event."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from partita.reconciliation import Opened, opened, prepared
from partita.settings import Settings
from partita.wiring import Wiring
from reconciler.anchoring import Anchoring
from reconciler.anchors import Anchor

_POLL = 1.0


@asynccontextmanager
async def _anchoring(parts: Opened) -> AsyncIterator[Anchoring]:
    """Give what anchors; close the parts in the end."""
    try:
        await parts.resolutions.catch_up()
        yield parts.wiring.anchoring(parts.reconciler, parts.resolutions, parts.partition_count)
    finally:
        await parts.close()


async def anchor_now(settings: Settings, *, timeout: float) -> tuple[str, Anchor | None]:  # ends by itself
    """Anchor the newest checkpoints, and wait until the anchor is settled and recorded, at most `timeout` seconds.

    Returns what became of it, `recorded`, `unchanged` (they are anchored already) or `sent` (not settled in time: the
    next call goes on with it), and the anchor of one of its checkpoints when it is recorded.

    Raises:
        NotConfigured, AnchorKeyInvalid: there is no key, or none that is one.
        AnchorStuck: no transaction of it got into a block.
        ChainUnavailable, WrongChain: as for a reconciliation.
    """
    settings.anchoring_key()  # before anything is connected
    parts = await opened(settings, None)
    async with _anchoring(parts) as anchoring:
        if not await anchoring.begin():
            return "unchanged", None
        try:
            async with asyncio.timeout(timeout):
                while (event := await anchoring.step()) is None:  # noqa: ASYNC110  # the chain tells nobody
                    await asyncio.sleep(min(_POLL, timeout / 10))
        except TimeoutError:
            return "sent", None
        found = await parts.reconciler.store.anchor(event.event_id)
        return "recorded", Anchor.of_row(found, 0)


async def run_anchor_service(settings: Settings, stop: asyncio.Event) -> None:
    """Anchor what is new, every so many seconds of the settings, until `stop` is set; raises as `anchor_now`."""
    settings.anchoring_key()
    async with _anchoring(await prepared(settings, None)) as anchoring:
        await anchoring.run(stop, every=settings.anchor_every)


async def find_anchor(settings: Settings, partition: int, index: int) -> Anchor | None:
    """Return the oldest anchor of a tree of the partition that has the leaf `index`; None: there is none yet."""
    wiring = Wiring(settings)
    try:
        return await wiring.anchor_of(partition, index)
    finally:
        await asyncio.to_thread(wiring.close)
