"""What is said of discrepancies between ledger and chain, and anchors: events on a topic of their own.

They don't change an account, so they are none of the events of a partition's sequence. Of what is said of a
discrepancy the last holds; an anchor is recorded once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args

from events.codec import RecordCodec, SchemaLookup, TopicCodec


class DiscrepancyExplained(NamedTuple):
    """It is as it should be, for a reason."""

    event_id: str
    recorded_at: int
    discrepancy_id: str
    chain_id: int
    actor: str | None
    reason: str


class DiscrepancyIgnored(NamedTuple):
    """It is let be, for a reason."""

    event_id: str
    recorded_at: int
    discrepancy_id: str
    chain_id: int
    actor: str | None
    reason: str


class DiscrepancyResolved(NamedTuple):
    """A batch has put it right."""

    event_id: str
    recorded_at: int
    discrepancy_id: str
    chain_id: int
    actor: str | None
    reason: str
    batch_id: str


class DiscrepancyReopened(NamedTuple):
    """What was said before does not hold any more."""

    event_id: str
    recorded_at: int
    discrepancy_id: str
    chain_id: int
    actor: str | None
    reason: str


class CheckpointsAnchored(NamedTuple):
    """The root over `notes`, checkpoints of all partitions, is in a transaction on a chain, for good."""

    event_id: str
    recorded_at: int
    chain_id: int
    block_number: int
    block_hash: str
    transaction_hash: str
    sender: str
    root: bytes
    notes: Sequence[str]


Said = DiscrepancyExplained | DiscrepancyIgnored | DiscrepancyResolved | DiscrepancyReopened
"""Something that was said of a discrepancy."""

ReconciliationEvent = Said | CheckpointsAnchored

ReconciliationCodec = TopicCodec[ReconciliationEvent]

_TYPES: Final[tuple[type[Any], ...]] = get_args(ReconciliationEvent)


def reconciliation_codec(ids: Mapping[str, int], lookup: SchemaLookup) -> ReconciliationCodec:
    """Return the codec of `ledger.reconciliation`; `ids` maps a schema's short name to its registered id."""
    return TopicCodec({cls: RecordCodec(cls.__name__, cls, ids[cls.__name__]) for cls in _TYPES}, lookup)
