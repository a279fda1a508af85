"""Bugs of what one handler keeps, in memory and on its disk, and of what it applies."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from hashlib import sha256
from typing import Any
from unittest.mock import patch

from commands import group, rules, state
from commands.errors import Rejected
from commands.group import Decider
from commands.handler import Handler
from commands.outbox import Outbox
from commands.records import POSITION_KEY, Kept
from commands.state import Draft, PartitionState
from commands.store import StoreLost
from commands.types import AccountCommand
from events.account import Account, Hold, evolve_hold
from events.types import HoldEvent, HoldSettled
from tests.simulation.planted import Bugs
from tests.support.memory_store import MemoryStore
from tests.support.samples import TOPICS

BUGS = Bugs()


# The disk and the cache in front of it.


@BUGS.plant
def a_failed_write_is_ignored() -> AbstractContextManager[object]:
    """The handler goes on with a disk that lacks what it has done."""
    original = MemoryStore.write

    def write(self: MemoryStore, changes: Mapping[bytes, bytes | None]) -> None:
        with suppress(StoreLost):
            original(self, changes)

    return patch.object(MemoryStore, "write", write)


@BUGS.plant
def a_failed_write_is_torn() -> AbstractContextManager[object]:
    """Of what was to be written at once, the position is written and the rest is not."""
    original = MemoryStore.write

    def write(self: MemoryStore, changes: Mapping[bytes, bytes | None]) -> None:
        if self.stores.failing:
            self.stores.failing = False
            original(self, {POSITION_KEY: changes[POSITION_KEY]})
            raise StoreLost("torn")
        original(self, changes)

    return patch.object(MemoryStore, "write", write)


@BUGS.plant
def the_cache_is_not_renewed() -> AbstractContextManager[object]:
    """An account that is in memory stays there as it was."""
    original = PartitionState._remember

    def remember(self: PartitionState, accounts: dict[str, Account]) -> None:
        original(self, {name: account for name, account in accounts.items() if name not in self._cache})

    return patch.object(PartitionState, "_remember", remember)


@BUGS.plant
def a_handler_that_ends_keeps_its_disk() -> AbstractContextManager[object]:
    """The next one can't open it."""

    def close(self: Handler) -> None:
        pass

    return patch.object(Handler, "close", close)


# What is applied, and how often.


@BUGS.plant
def command_ids_are_remembered_for_a_while() -> AbstractContextManager[object]:
    """A command is known within its group, and forgotten after it."""

    def answer(self: PartitionState, key: bytes) -> Kept | None:
        return None

    return patch.object(PartitionState, "answer", answer)


@BUGS.plant
def another_payload_is_taken_for_the_same() -> AbstractContextManager[object]:
    """Of a payload, only the kind of command counts."""

    def payload_hash(command: AccountCommand) -> bytes:
        return sha256(type(command).__name__.encode()).digest()

    return patch.object(group, "payload_hash", payload_hash)


@BUGS.plant
def a_hold_can_be_settled_twice() -> AbstractContextManager[object]:
    """A hold that was settled stays as it was."""

    def evolved(hold: Hold | None, event: HoldEvent) -> Hold | None:
        return hold if isinstance(event, HoldSettled) else evolve_hold(hold, event)

    return patch.object(state, "evolve_hold", evolved)


@BUGS.plant
def held_funds_can_be_spent() -> AbstractContextManager[object]:
    """What is held counts as available."""
    original = rules.not_covered

    def not_covered(account: Account, account_id: str, asset: str, amount: int) -> Rejected | None:
        return original(account._replace(held={}), account_id, asset, amount)

    return patch.object(rules, "not_covered", not_covered)


@BUGS.plant
def recorded_time_follows_the_clock() -> AbstractContextManager[object]:
    """It goes back when the clock does."""
    original = Draft.__init__

    def init(self: Draft, state: PartitionState, *, recorded_at: int, writer_epoch: int | None = None) -> None:
        original(self, state, recorded_at=recorded_at, writer_epoch=writer_epoch)
        self.recorded_at = recorded_at

    return patch.object(Draft, "__init__", init)


@BUGS.plant
def what_can_not_be_read_is_skipped() -> AbstractContextManager[object]:
    """There are no dead letters."""
    original = Decider.decide

    def decide(self: Decider, *given: Any, **named: Any) -> Outbox:
        out = original(self, *given, **named)
        out.messages = [message for message in out.messages if message.topic != TOPICS.deadletter]
        return out

    return patch.object(Decider, "decide", decide)
