"""The checkpoints that a handler publishes: signed heads of its partitions' trees, with their events."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from commands.state import Draft
from events.checkpoint import Checkpoint, Signer, origin_of, sign
from events.log import Outgoing
from events.topics import Topics


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """Makes the messages of `ledger.checkpoints`; `ledger_origin` names the ledger, and with a number a partition."""

    topics: Topics
    ledger_origin: str
    signers: Sequence[Signer] = field(repr=False)

    def of(self, draft: Draft) -> Outgoing:
        """Return the checkpoint of a partition with all that is on top of its state."""
        origin = origin_of(self.ledger_origin, draft.partition)
        note = sign(Checkpoint(origin, draft.next_sequence, draft.root), self.signers)
        return Outgoing(self.topics.checkpoints, None, origin.encode(), note.encode())
