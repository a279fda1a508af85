"""A group of commands of one partition: gather what the rules need, decide, and say what to append."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple

from commands.codec import CommandCodec, OutcomeCodec
from commands.decide import Place, conflict, decide
from commands.errors import InvalidMetadata, Rejected
from commands.payload import payload_hash
from commands.state import Draft, answer_key, conflict_key
from commands.types import Policy, PostEntry
from commands.validation import canonical_metadata, check_identity
from events.account import NEW_ACCOUNT
from events.clients import MAX_MESSAGE_BYTES
from events.codec import EventCodec, Undecodable
from events.follow import Record
from events.log import Outgoing
from events.partitioner import partition_of
from events.topics import Topics

_HOMES_KEPT: Final = 100_000
_LARGEST_KEY: Final = 1024
_LARGEST_DEAD_LETTER: Final = MAX_MESSAGE_BYTES - 64 * 1024
"""Bytes of key and value: what is left is for headers."""


@lru_cache(maxsize=_HOMES_KEPT)
def _home(account_id: str, partition_count: int) -> int:
    return partition_of(account_id, partition_count)


class Codecs(NamedTuple):
    """The codecs of the write side."""

    commands: CommandCodec
    events: EventCodec
    outcomes: OutcomeCodec


Reading = tuple[Record, PostEntry | Undecodable]
"""A record and the command in it, or why there is none."""


class Decider:
    """Decides groups of commands for one ledger."""

    def __init__(self, topics: Topics, codecs: Codecs, policy: Policy) -> None:
        self._topics = topics
        self._codecs = codecs
        self._policy = policy

    def read(self, record: Record) -> Reading:
        """Decode a command. It may ask the registry, so it is done before a transaction begins."""
        try:
            return record, self._codecs.commands.decode(record.value)
        except Undecodable as error:
            return record, error

    def decide(self, draft: Draft, readings: Sequence[Reading]) -> list[Outgoing]:
        """Return what to append for commands of the draft's partition; the draft takes in the events."""
        out: list[Outgoing] = []
        for record, command in readings:
            if isinstance(command, Undecodable):
                out.append(self._dead_letter(record, "Undecodable", command.reason))
            elif fault := check_identity(command):
                out.append(self._dead_letter(record, fault.code, fault.message))
            else:
                self._answer(draft, record, command, out)
            draft.next_command_offset = record.offset + 1
        return out

    def _answer(self, draft: Draft, record: Record, command: PostEntry, out: list[Outgoing]) -> None:
        fault: Rejected | None = None
        if command.metadata is not None:
            command, fault = _with_canonical_metadata(command)
        digest = payload_hash(command)
        key = answer_key(command.account_id, command.command_id)
        earlier = draft.answer(key)
        if earlier is not None and earlier.payload_hash != digest:
            fault = conflict(command)
            earlier = draft.answer(conflict_key(key, digest))
        if earlier is not None:
            out.append(self._outcome(draft, command, earlier.data, replayed=True))
            return
        account = draft.account(command.account_id)
        place = _place(draft, record, command.account_id, known=account is not NEW_ACCOUNT)
        event = decide(account, command, digest, place, self._policy, fault)
        data = self._codecs.events.encode(event)
        draft.record(event, data)
        account_key = command.account_id.encode("utf-8")
        out.append(Outgoing(self._topics.events, draft.partition, account_key, data))
        out.append(self._outcome(draft, command, data, replayed=False))

    def _outcome(self, draft: Draft, command: PostEntry, event: bytes, *, replayed: bool) -> Outgoing:
        key = (command.reply_key or command.command_id).encode("utf-8")
        value = self._codecs.outcomes.encode(replayed=replayed, partition=draft.partition, event=event)
        return Outgoing(self._topics.outcomes, None, key, value)

    def _dead_letter(self, record: Record, reason: str, message: str) -> Outgoing:
        headers: list[tuple[str, str | bytes | None]] = [
            ("reason", reason.encode()),
            ("message", message.encode("utf-8", "replace")),
            ("source-topic", self._topics.commands.encode()),
            ("source-partition", str(record.partition).encode()),
            ("source-offset", str(record.offset).encode()),
        ]
        key, value = record.key or b"", record.value or b""
        if len(key) + len(value) <= _LARGEST_DEAD_LETTER:
            return Outgoing(self._topics.deadletter, None, record.key, record.value, headers)
        # A broker bounds what comes in compressed, so that this may be larger than anything we can send.
        headers += [("left-out-bytes", str(len(value)).encode()), ("left-out-sha256", sha256(value).hexdigest())]
        return Outgoing(self._topics.deadletter, None, key[:_LARGEST_KEY], None, headers)


def _with_canonical_metadata(command: PostEntry) -> tuple[PostEntry, Rejected | None]:
    try:
        return command._replace(metadata=canonical_metadata(command.metadata or "")), None
    except InvalidMetadata as fault:
        return command, fault


def _place(draft: Draft, record: Record, account_id: str, *, known: bool) -> Place:
    home = draft.partition if known else _home(account_id, draft.partition_count)
    return Place(draft.partition, home, draft.next_sequence, draft.writer_epoch, draft.recorded_at, record.offset)
