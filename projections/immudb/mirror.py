"""The mirror: every event of the log under a key of its own in immudb. Writing it there, and reading it back."""

from collections.abc import Sequence
from typing import Any

from events.follow import StoredEvent
from events.merkle import ProofInvalid
from projections.immudb import evidence
from projections.immudb.errors import ImmudbTampered
from projections.immudb.evidence import Evidence
from projections.immudb.mirrored import event_of, key_of, value_of
from projections.immudb.verified import Kept, VerifiedDatabase


class Mirror:
    """The events of one topic in a database of immudb. Calls block."""

    def __init__(self, database: VerifiedDatabase, topic: str) -> None:
        self.database = database
        self._topic = topic

    def keep(self, events: Sequence[StoredEvent]) -> Kept:
        """See to it that immudb has each of the events, once; raises as `VerifiedDatabase.keep`."""
        return self.database.keep([(self.key(stored), value_of(stored.data)) for stored in events])

    def key(self, stored: StoredEvent) -> bytes:
        """Return the key of an event."""
        return key_of(self._topic, stored.partition, stored.event.sequence)

    def find(self, partition: int, sequence: int) -> Evidence | None:
        """Return the event at a place of the log, with its evidence; None: not there yet.

        Raises:
            ImmudbTampered: it was written over, or deleted, or the proof does not hold.
            ImmudbUnavailable, ImmudbRefused, TrustedStateInvalid, TrustedStateBusy: as they say.
        """
        key = key_of(self._topic, partition, sequence)
        found = self.database.get(key)
        if found is None:
            return None
        name = key.decode()
        if found.revision != 1 or found.metadata:
            raise ImmudbTampered(f"{name} was written more than once in {self.database.place}", key=name)
        try:
            event_of(found)
        except ProofInvalid as error:
            raise ImmudbTampered(f"{error.message}: {self.database.place}", key=name) from error
        return found

    def first_fault(self, events: Sequence[StoredEvent]) -> str | None:
        """Return the first of the events that immudb does not have as it is, and why; None: it is proven of all.

        Raises:
            TrustedStateInvalid, TrustedStateBusy, ImmudbUnavailable, ImmudbRefused: it can't be told.
        """
        pairs = [(self.key(stored), value_of(stored.data)) for stored in events]
        try:
            wrong = self.database.differing(pairs)
        except ImmudbTampered as error:
            return self._first_refused(pairs) or error.message
        return next((f"{key.decode()}: {wrong[key]}" for key, _ in pairs if key in wrong), None)

    def _first_refused(self, pairs: Sequence[tuple[bytes, bytes]]) -> str | None:
        """Return the first of the pairs that can't be proven alone; None when each can."""
        for key, value in pairs:
            try:
                self.database.differing([(key, value)])
            except ImmudbTampered as error:
                return f"{key.decode()}: {error.message}"
        return None

    def receipt_part(self, partition: int, sequence: int) -> dict[str, Any] | None:
        """Return the `immudb` part of an entry's receipt, JSON-ready; None: not there yet. Raises as `find`."""
        found = self.find(partition, sequence)
        return None if found is None else evidence.to_json(found)
