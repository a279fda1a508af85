"""What is left of a story when it is over: the log, what was asked, and what requesters were told."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from commands.batch_validation import canonical_batch
from commands.codec import Outcome
from commands.payload import payload_hash
from commands.types import Command, PostBatch, ReverseBatch
from commands.validation import canonical
from events.batch import PASSING
from events.errors import LogCorrupt
from events.follow import StoredEvent
from events.types import AccountAnswer, Answer, BatchEvent, BatchPosted, BatchRejected, CommandRejected
from tests.simulation.process import Circumstances
from tests.support.fake_ledger import FakeLedger
from tests.support.samples import CODECS, TOPICS

Place = tuple[int, int]
"""Partition and offset on the commands topic."""

Asked = Mapping[Place, Command | None]
"""What requesters sent; None is what can't be read."""

Commands = Mapping[Place, Command]
"""The commands among it, each partition's in their order."""


class Broken(AssertionError):
    """An invariant does not hold."""


def demand(holds: bool, what: str) -> None:
    """Raise `Broken` unless it holds."""
    if not holds:
        raise Broken(what)


class Question(NamedTuple):
    """What has one answer for ever; the account id of a batch is empty."""

    partition: int
    account_id: str
    command_id: str
    payload_hash: bytes


class Told(NamedTuple):
    """An outcome, and its bytes."""

    outcome: Outcome
    data: bytes


class Evidence(NamedTuple):
    """All of it. `told` is by reply key."""

    ledger: FakeLedger
    asked: Asked
    commands: Commands
    events: Sequence[StoredEvent]
    told: Mapping[str, Sequence[Told]]
    circumstances: Circumstances

    def outcome(self, command: Command) -> Outcome:
        """Return the one outcome of a command; raises `Broken` when there is none or another."""
        told = self.told.get(command.reply_key or "", ())
        demand(len(told) == 1, f"I2: {command} has {len(told)} outcomes")
        return told[0].outcome


def gather(ledger: FakeLedger, asked: Asked, circumstances: Circumstances) -> Evidence:
    """Read it; raises `Broken` where the log can't be."""
    try:
        events = ledger.events()
    except LogCorrupt as error:
        raise Broken(f"I5: {error}") from error
    told: defaultdict[str, list[Told]] = defaultdict(list)
    for found in ledger.cluster.all_visible(TOPICS.outcomes):
        key, data = (found.key or b"").decode(), found.value or b""
        told[key].append(Told(CODECS.outcomes.decode(data), data))
    commands = {place: command for place, command in sorted(asked.items()) if command is not None}
    return Evidence(ledger, asked, commands, events, told, circumstances)


def question(place: Place, command: Command) -> Question:
    """Return what the command asks."""
    if isinstance(command, PostBatch | ReverseBatch):
        batch, _ = canonical_batch(command)
        return Question(place[0], "", command.command_id, payload_hash(batch))
    account, _ = canonical(command)
    return Question(place[0], account.account_id, command.command_id, payload_hash(account))


def answers(events: Sequence[StoredEvent]) -> list[tuple[Question, Answer]]:
    """Return every event that answers a command for ever, and what it answers."""
    return [
        (Question(item.partition, _account(event), event.command_id, event.payload_hash), event)
        for item in events
        if isinstance(event := item.event, AccountAnswer | BatchPosted | BatchRejected) and not passes(event)
    ]


def _account(event: Answer) -> str:
    return "" if isinstance(event, BatchEvent) else event.account_id


def passes(event: Answer) -> bool:
    """Whether it is a refusal that uses up nothing."""
    return isinstance(event, CommandRejected | BatchRejected) and event.code in PASSING
