"""given(events).when(command).then(outcome): a rule of the ledger told as a story. Pure."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self, TypeVar

from commands.decide import NOWHERE, Place, decide
from commands.errors import Refused, Rejected
from commands.payload import payload_hash
from commands.rejections import from_event
from commands.types import AccountCommand, Policy
from events.account import NEW_ACCOUNT, Account, Hold, evolve, evolve_hold
from events.types import AccountEvent, CommandRejected, EntryPosted, HoldEvent, HoldPlaced, HoldReleased, HoldSettled
from tests.support.samples import NOON

E = TypeVar("E", bound=AccountEvent)


@dataclass
class Story:
    """What an account has been through, and what a command does to it. All in partition 0, which is its home."""

    account: Account
    holds: dict[str, Hold] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    home_partition: int = 0
    event: AccountEvent | None = None

    def when(self, command: AccountCommand, fault: Rejected | None = None) -> Self:
        place = Place(0, self.home_partition, 7, 3, NOON, 5)
        hold = self.holds.get(getattr(command, "hold_id", ""))
        self.event = decide(self.account, command, payload_hash(command), place, self.policy, hold=hold, fault=fault)
        assert self.event.sequence in (7, NOWHERE)
        assert (self.event.writer_epoch, self.event.recorded_at) == (3, NOON)
        assert self.event.command_offset == 5
        assert self.event.payload_hash == payload_hash(command)
        return self

    def then(self, kind: type[E], **fields: Any) -> E:
        """See that the event is of this kind, with these fields, and that the account is as it says."""
        assert isinstance(self.event, kind), self.event
        assert {name: getattr(self.event, name) for name in fields} == fields
        after = evolve(self.account, self.event)
        assert after.version == self.event.version == self.account.version + 1
        if isinstance(self.event, HoldEvent):
            assert after.held.get(self.event.asset, 0) == self.event.held
        if isinstance(self.event, HoldPlaced | HoldReleased):
            assert after.balance(self.event.asset) == self.event.balance
        if isinstance(self.event, EntryPosted | HoldSettled):
            assert after.balance(self.event.asset) == self.event.running_balance
        return self.event

    def then_posted(self, **fields: Any) -> EntryPosted:
        return self.then(EntryPosted, **fields)

    def then_refused(self, kind: type[Refused], **details: Decimal | int | str) -> CommandRejected:
        """See that the refusal is one that passes: it is nowhere in the log."""
        assert isinstance(self.event, CommandRejected), self.event
        assert self.event.sequence == NOWHERE
        return self.then_rejected(kind, **details)

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
    holds: dict[str, Hold] = {}
    for event in events:
        account = evolve(account, event)
        if isinstance(event, HoldEvent):
            hold = evolve_hold(holds.pop(event.hold_id, None), event)
            holds |= {} if hold is None else {event.hold_id: hold}
    return Story(account, holds, policy or Policy(), home_partition)
