"""All is decided again, by one handler that nothing befalls: every event and every outcome must be the same."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from commands.codec import Outcome
from commands.group import Reading
from commands.state import Draft, PartitionState
from commands.types import Policy
from events.follow import StoredEvent
from events.log import Outgoing
from events.types import PartitionOpened
from tests.simulation.evidence import Evidence, demand
from tests.simulation.process import Owned
from tests.support.fake_cluster import Transaction
from tests.support.memory_store import MemoryStores
from tests.support.samples import CODECS, TOPICS, decider


class _Drafts(NamedTuple):
    """The drafts of one transaction, of the partitions that its handler had."""

    drafts: Mapping[int, Draft]

    def get(self, partition: int) -> Draft | None:
        return self.drafts.get(partition)


class OneHandler:
    """Takes all transactions, in the order in which they began; in each it has the partitions that its handler had.

    They did not all end in that order: one that had only looked at an account of another partition, and refused, may
    have been committed after that account was changed.

    `waiting` are the reply keys of those who asked for a batch in flight. It tells all of them; a handler that dies
    forgets them, so what they are told is not compared.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._decider = decider(Policy(asset_scales={"JPY": 0}))
        self._states: dict[int, PartitionState] = {}
        self._positions: dict[int, int] = {}
        self.waiting: set[str] = set()

    def decide_again(self) -> None:
        """Raises `Broken` where a handler said something else."""
        for transaction in [t for t in self._evidence.circumstances if t.committed]:
            events = [message.value or b"" for message in transaction.messages if message.topic == TOPICS.events]
            if events and isinstance(CODECS.events.decode(events[0]), PartitionOpened):
                self._open(events)
            else:
                self._decide_transaction(transaction)

    def _open(self, events: Sequence[bytes]) -> None:
        for data in events:
            event = CODECS.events.decode(data)
            if isinstance(event, PartitionOpened):
                state = self._states[event.partition] = PartitionState(
                    event.partition, MemoryStores().open(event.partition)
                )
                state.replay([StoredEvent(event.partition, 0, data, event)])

    def _decide_transaction(self, transaction: Transaction) -> None:
        known = self._evidence.circumstances[transaction]
        drafts = _Drafts({p: _draft(self._states[p], owned) for p, owned in known.items() if p in self._states})
        out: list[Outgoing] = []
        for p, end in transaction.offsets.items():  # in which order they were decided
            out += self._decide(drafts, p, self._taken(p, end))
        said, wanted = self._comparable(transaction.messages), self._comparable(out)
        demand(said == wanted, f"I3: {transaction.owner.instance} said {said}; one handler alone says {wanted}")
        for draft in drafts.drafts.values():
            draft.commit()
        self._go_on(transaction.offsets)

    def _taken(self, partition: int, end: int) -> list[Reading]:
        """Return what the transaction has taken of a partition: from where the one before it ended."""
        begin = self._positions.get(partition, 0)
        self._positions[partition] = end
        records = self._evidence.ledger.cluster.kept(TOPICS.commands, partition)
        return [self._decider.read(record) for record in records if begin <= record.offset < end]

    def _go_on(self, offsets: Mapping[int, int]) -> None:
        """Behind markers too, where there was nothing to decide."""
        for p, end in offsets.items():
            self._states[p].position = self._states[p].position._replace(next_command_offset=end)

    def _decide(self, drafts: _Drafts, partition: int, readings: Sequence[Reading]) -> list[Outgoing]:
        demand(partition in drafts.drafts, f"I5: a handler commits commands of partition {partition}, not its own")
        said: list[Outgoing] = []
        for record, command in readings:
            out = self._decider.decide(drafts, drafts.drafts[partition], [(record, command)]).messages
            asked = self._evidence.asked.get((partition, record.offset))
            if asked is not None and not out:
                self.waiting.add(asked.reply_key or "")
            said += out
        return said

    def _comparable(self, messages: Sequence[Outgoing]) -> tuple[list[Outgoing], list[tuple[str, Outcome]]]:
        """Return what does not depend on which commands were taken together: all but the trees and their heads."""
        others = [m for m in messages if m.topic not in (TOPICS.outcomes, TOPICS.checkpoints)]
        told = [
            ((m.key or b"").decode(), CODECS.outcomes.decode(m.value or b""))
            for m in messages
            if m.topic == TOPICS.outcomes
        ]
        return others, [
            (key, outcome._replace(tree_size=None, merkle_root=None))
            for key, outcome in told
            if key not in self.waiting
        ]


def _draft(state: PartitionState, known: Owned) -> Draft:
    draft = Draft(state, recorded_at=known.recorded_at, writer_epoch=known.writer_epoch)
    draft.recorded_at = known.recorded_at
    return draft
