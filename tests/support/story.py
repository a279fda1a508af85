"""given(events).when(command).then(outcome): a rule of the ledger told as a story. Pure."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

from commands.decide import Place, decide
from commands.errors import Rejected, from_event
from commands.payload import payload_hash
from commands.types import Policy, PostEntry
from events.account import NEW_ACCOUNT, Account, evolve
from events.types import AccountEvent, CommandRejected, EntryPosted
from tests.support.samples import NOON


@dataclass
class Story:
    """What an account has been through, and what a command does to it. All in partition 0, which is its home."""

    account: Account
    policy: Policy = field(default_factory=Policy)
    home_partition: int = 0
    event: AccountEvent | None = None

    def when(self, command: PostEntry, fault: Rejected | None = None) -> Self:
        place = Place(0, self.home_partition, 7, 3, NOON, 5)
        self.event = decide(self.account, command, payload_hash(command), place, self.policy, fault)
        assert (self.event.sequence, self.event.writer_epoch, self.event.recorded_at) == (7, 3, NOON)
        assert self.event.command_offset == 5
        assert self.event.payload_hash == payload_hash(command)
        return self

    def then_posted(self, **fields: Any) -> EntryPosted:
        assert isinstance(self.event, EntryPosted), self.event
        assert {name: getattr(self.event, name) for name in fields} == fields
        return self.event

    def then_rejected(self, kind: type[Rejected], **details: Decimal | int | str) -> CommandRejected:
        assert isinstance(self.event, CommandRejected), self.event
        error = from_event(self.event)
        assert type(error) is kind
        assert {name: error.details[name] for name in details} == details
        assert evolve(self.account, self.event) == self.account
        assert self.event.version == self.account.version
        assert self.event.balance == self.account.balance(self.event.asset)
        return self.event


def given(*events: AccountEvent, policy: Policy | None = None, home_partition: int = 0) -> Story:
    """Begin a story with these events."""
    account = NEW_ACCOUNT
    for event in events:
        account = evolve(account, event)
    return Story(account, policy or Policy(), home_partition)
