"""What a group of commands gives to append: events, outcomes, steps to other partitions, dead letters."""

from typing import Any

from commands.codec import CommandCodec, OutcomeCodec
from commands.deadletter import dead_letter
from commands.state import Draft
from commands.types import Step
from events.codec import EventCodec
from events.follow import Record
from events.log import Outgoing
from events.topics import Topics
from events.types import AccountEvent, BatchEvent


class Outbox:
    """Collects messages in `messages`, in the order in which they are to be appended.

    `size` is that of their values together, in bytes.
    """

    def __init__(self, topics: Topics, commands: CommandCodec, events: EventCodec, outcomes: OutcomeCodec) -> None:
        self._topics = topics
        self._to_commands, self._to_events, self._to_outcomes = topics.commands, topics.events, topics.outcomes
        self._commands = commands
        self._events = events
        self._outcomes = outcomes
        self.messages: list[Outgoing] = []
        self.size = 0

    def append(self, draft: Draft, event: AccountEvent | BatchEvent) -> bytes:
        """Put `event` into the log of the draft's partition, and return its bytes."""
        data = self._events.encode(event)
        draft.record(event, data)
        key = getattr(event, "account_id", None) or event.command_id
        self._add(Outgoing(self._to_events, draft.partition, key.encode("utf-8"), data))
        return data

    def tell(self, command: type[Any], reply_key: str, partition: int, event: bytes, *, replayed: bool) -> None:
        """Tell the outcome of a command of this type: `event`, in its bytes, is in `partition`."""
        value = self._outcomes.encode(command, replayed=replayed, partition=partition, event=event)
        self._add(Outgoing(self._to_outcomes, None, reply_key.encode("utf-8"), value))

    def send(self, step: Step, partition: int) -> None:
        """Send a step of a batch to the handler of `partition`."""
        value = self._commands.encode(step)
        self._add(Outgoing(self._to_commands, partition, None, value))  # no key would lead there

    def drop(self, record: Record, reason: str, message: str) -> None:
        """Put a record that can't be answered among the dead letters, with its reason."""
        self._add(dead_letter(self._topics, record, reason, message))

    def _add(self, message: Outgoing) -> None:
        self.messages.append(message)
        self.size += len(message.value or b"")
