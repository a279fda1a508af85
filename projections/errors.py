"""What a reader or a projection service can meet, beyond the errors of the log itself."""

from collections.abc import Mapping
from typing import Any

from events.errors import LedgerError


class ReadModelUnavailable(LedgerError):
    """PostgreSQL did not answer in time, or the read model's tables are not there yet."""

    retriable = True


class TablesOutdated(LedgerError):
    """The tables are not there, or of another version, and who asks may not change them: `partita migrate` does.

    `found` and `wanted` are versions of the tables; `found` is None when there are none.
    """

    def __init__(self, *, place: str, schema: str, found: str | None, wanted: str, is_newer: bool) -> None:
        there = "not there" if found is None else f"of version {found}"
        told = "they were made by a later Partita than this" if is_newer else "run `partita migrate`"
        super().__init__(
            f"the tables of {schema!r} in {place} are {there}, and are to be of version {wanted}: {told}",
            place=place,
            schema=schema,
            found=found,
            wanted=wanted,
        )


class ReadModelBehind(LedgerError):
    """The read model has not got to the wanted event within the wait, or has stopped before it.

    `reached` is the last sequence that it holds of the partition, or None.
    """

    retriable = True

    def __init__(
        self, *, partition: int, wanted: int, reached: int | None, waited: float, halted: str | None = None
    ) -> None:
        why = f"it has stopped there: {halted}" if halted else f"waited {waited:.1f} s"
        super().__init__(
            f"the read model has got to sequence {reached} of partition {partition}, not yet to {wanted}; {why}",
            partition=partition,
            wanted=wanted,
            reached=reached,
            waited=waited,
            halted=halted,
        )


class EntryNotFound(LedgerError):
    """No entry has this id, as far as the read model has got."""

    def __init__(self, entry_id: str) -> None:
        super().__init__(f"there is no entry {entry_id[:80]!r}", entry_id=entry_id)


class AccountNotInReadModel(LedgerError):
    """No account has this id, as far as the read model has got."""

    def __init__(self, account_id: str) -> None:
        super().__init__(f"there is no account {account_id[:80]!r}", account_id=account_id)


class BatchNotInReadModel(LedgerError):
    """No batch has this id, as far as the read model has got."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"there is no batch {batch_id[:80]!r}", batch_id=batch_id)


class HoldNotInReadModel(LedgerError):
    """The account never had this hold, as far as the read model has got."""

    def __init__(self, account_id: str, hold_id: str) -> None:
        super().__init__(
            f"account {account_id[:80]!r} has no hold {hold_id[:80]!r}", account_id=account_id, hold_id=hold_id
        )


class InvalidPointInTime(LedgerError):
    """The time at which something is to be told is none: it has no zone, or no instant."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the time can't be used: {reason}", reason=reason)


class TreeDamaged(LedgerError):
    """The tiles that the read side has of a partition's tree are not those of the log."""


class InvalidCursor(LedgerError):
    """The cursor is none of ours, or belongs to another question."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the cursor can't be used: {reason}", reason=reason)


class PositionConflict(LedgerError):
    """Another instance writes the same partitions: its position had moved, so nothing was written."""

    retriable = True


class PartitionsHalted(LedgerError):
    """The projection ended in order, but had halted some partitions; `reasons` says why, by number."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        listed = "; ".join(f"partition {partition}: {reason}" for partition, reason in sorted(reasons.items()))
        details: dict[str, Any] = {"partitions": sorted(reasons)}
        super().__init__(f"halted: {listed}", **details)
        self.reasons = dict(reasons)


class EndNotReached(LedgerError):
    """A projection can't get to where it was to stop; `missing` is where it is and was to be, by partition."""

    retriable = True

    def __init__(self, missing: Mapping[int, tuple[int, int]], reason: str) -> None:
        listed = ", ".join(f"partition {p} is at {at} and not at {end}" for p, (at, end) in sorted(missing.items()))
        super().__init__(f"the end was not reached: {reason}; {listed}", reason=reason, partitions=sorted(missing))
        self.missing = dict(missing)


class RebuildRunning(LedgerError):
    """The projection is being rebuilt already, or the old tables of it are being dropped."""

    retriable = True


class RebuildRefused(LedgerError):
    """The tables of a projection can't be exchanged, or not yet; `details` say what is in the way."""


class RebuildDiffers(RebuildRefused):
    """The new tables are not what the live ones are; `details` name the first differences."""


class RebuildBlocked(LedgerError):
    """Somebody has used the live tables all the time, so they could not be exchanged; what was built is kept."""

    retriable = True


class EventRefused(ValueError):
    """A projection can't take an event, now or later; `str()` says why. The partition is halted there."""
