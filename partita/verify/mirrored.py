"""The mirror held against the log (I7): every event that should be in immudb is there as it is, proven."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from events.checks import CheckResult
from events.follow import StoredEvent
from projections.immudb.errors import ImmudbTampered, TrustedStateInvalid
from projections.immudb.mirror import Mirror

_TITLE: Final = "every event is in immudb as it is, proven from the trusted state"


@dataclass(slots=True)
class MirrorAudit:
    """Takes every event of the log; `mirrored` says by partition which sequence comes next. Its calls block."""

    mirror: Mirror
    mirrored: Mapping[int, int]
    checked: int = 0
    fault: str | None = None

    def take(self, events: Sequence[StoredEvent]) -> None:
        """Look for some events; nothing more is looked for after the first fault.

        Raises:
            ImmudbUnavailable, ImmudbRefused, TrustedStateBusy: it can't be told.
        """
        wanted = [stored for stored in events if stored.event.sequence < self.mirrored.get(stored.partition, 0)]
        if not wanted or self.fault is not None:
            return
        try:
            self.fault = self.mirror.first_fault(wanted)
        except (ImmudbTampered, TrustedStateInvalid) as error:
            self.fault = error.message
        self.checked += len(wanted)

    def result(self) -> CheckResult:
        """Return what was found."""
        return CheckResult("I7 mirror", _TITLE, self.fault is None, self.checked, self.fault)
