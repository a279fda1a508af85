"""The mirror as a projection: every event into immudb, once, each transaction verified.

An event is in immudb before the mirror's position, which is in PostgreSQL, is behind it. So what a crash cuts short
is done again, and is found to be there. An event that immudb has otherwise halts its partition; proofs that do not
hold end the service.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg

from events.errors import LedgerError
from events.follow import StoredEvent
from projections.errors import EventRefused
from projections.immudb.errors import ImmudbConflict, ImmudbUnavailable, TrustedStateBusy
from projections.immudb.mirror import Mirror
from projections.immudb.verified import VerifiedDatabase

MIRROR: Final = "mirror"


class ImmudbMirror:
    """See `projections.store.Projection`. `topic` is that of the events."""

    name = MIRROR
    whole_batches = False
    tables: tuple[str, ...] = ()
    passing: tuple[type[LedgerError], ...] = (ImmudbUnavailable, TrustedStateBusy)

    def __init__(self, database: VerifiedDatabase, topic: str) -> None:
        self._mirror = Mirror(database, topic)

    async def prepare(self, events: Sequence[StoredEvent]) -> None:
        """See to it that immudb has the events.

        Raises:
            ImmudbTampered, ImmudbRefused, TrustedStateInvalid: immudb is not to be trusted, or says no.
        """
        try:
            await asyncio.to_thread(self._mirror.keep, events)
        except ImmudbConflict as conflict:
            raise EventRefused(conflict.message) from conflict

    async def write(self, connection: asyncpg.Connection, schema: str, prepared: None) -> None:
        """Write nothing: all is in immudb."""
