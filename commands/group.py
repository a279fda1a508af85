"""A group of commands of one partition: gather what the rules need, decide, and say what to append."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from commands.batch_validation import check_batch_identity
from commands.batches import Batches
from commands.codec import CommandCodec, OutcomeCodec
from commands.decide import TRIED, Place, conflict, decide
from commands.outbox import Outbox
from commands.payload import payload_hash
from commands.promises import release, reserve, settle
from commands.records import answer_key, batch_key, conflict_key, flight_key
from commands.state import Draft, Drafts
from commands.step_validation import check_step
from commands.types import (
    AccountCommand,
    BatchCommand,
    Command,
    ExpireHold,
    Policy,
    PostBatch,
    PostEntry,
    ReleaseBatch,
    ReleaseHold,
    ReportReservation,
    ReportSettlement,
    ReserveBatch,
    ReverseBatch,
    SettleBatch,
    SettleHold,
    Step,
    TryBatch,
)
from commands.validation import canonical, check_identity
from events.account import NEW_ACCOUNT, Hold
from events.codec import EventCodec, Undecodable
from events.follow import Record
from events.partitioner import home_of
from events.topics import Topics


class Codecs(NamedTuple):
    """The codecs of the write side."""

    commands: CommandCodec
    events: EventCodec
    outcomes: OutcomeCodec


Reading = tuple[Record, Command | Step | Undecodable]
"""A record and the command in it, or why there is none."""


class Decider:
    """Decides groups of commands for one ledger."""

    def __init__(self, topics: Topics, codecs: Codecs, policy: Policy) -> None:
        self._topics = topics
        self._codecs = codecs
        self._policy = policy
        self._batches = Batches(codecs.events, policy)

    def read(self, record: Record) -> Reading:
        """Decode a command. It may ask the registry, so it is done before a transaction begins."""
        try:
            return record, self._codecs.commands.decode(record.value)
        except Undecodable as error:
            return record, error

    def decide(self, drafts: Drafts, draft: Draft, readings: Sequence[Reading], *, most: int | None = None) -> Outbox:
        """Return what to append for commands of the draft's partition; `draft`, and `drafts`, take in the events.

        No command is begun when their values have `most` bytes; `draft.next_command_offset` says how far it came.
        """
        out = Outbox(self._topics, *self._codecs)
        posts = (command for _, command in readings if isinstance(command, PostEntry))
        draft.fetch(_keys(readings), {command.account_id for command in posts})
        for record, command in readings:
            if most is not None and out.size >= most:
                break
            match command:
                case PostEntry():  # nearly all
                    self._answer(draft, record, command, out)
                case Undecodable():
                    out.drop(record, "Undecodable", command.reason)
                case PostBatch() | ReverseBatch():
                    self._answer_batch(drafts, draft, record, command, out)
                case (
                    ReserveBatch()
                    | SettleBatch()
                    | ReleaseBatch()
                    | ReportReservation()
                    | ReportSettlement()
                    | TryBatch()
                ):
                    self._step(drafts, draft, record, command, out)
                case _:
                    self._answer(draft, record, command, out)
            draft.next_command_offset = record.offset + 1
        return out

    def _answer(self, draft: Draft, record: Record, command: AccountCommand, out: Outbox) -> None:
        if unusable := check_identity(command):
            out.drop(record, unusable.code, unusable.message)
            return
        command, fault = canonical(command)
        digest = payload_hash(command)
        key = answer_key(command.account_id, command.command_id)
        earlier = draft.answer(key)
        if earlier is not None and earlier.payload_hash != digest:
            fault = conflict(command)
            earlier = draft.answer(conflict_key(key, digest))
        reply_key = command.reply_key or command.command_id
        if earlier is not None:
            out.tell(type(command), reply_key, draft.partition, earlier.data, replayed=True)
            return
        account = draft.account(command.account_id)
        place = _place(draft, record, command, known=account is not NEW_ACCOUNT)
        event = decide(account, command, digest, place, self._policy, hold=_hold(draft, command), fault=fault)
        data = self._codecs.events.encode(event) if event.sequence < 0 else out.append(draft, event)
        out.tell(type(command), reply_key, draft.partition, data, replayed=False)

    def _answer_batch(self, drafts: Drafts, draft: Draft, record: Record, command: BatchCommand, out: Outbox) -> None:
        if unusable := check_batch_identity(command):
            out.drop(record, unusable.code, unusable.message)
        else:
            self._batches.answer(drafts, draft, command, record.offset, out)

    def _step(self, drafts: Drafts, draft: Draft, record: Record, step: Step, out: Outbox) -> None:
        if fault := check_step(step, draft.partition, draft.partition_count):
            out.drop(record, fault.code, fault.message)
            return
        match step:
            case ReserveBatch():
                reserve(draft, record.offset, step, self._policy, out)
            case SettleBatch():
                settle(draft, record.offset, step, out)
            case ReleaseBatch():
                release(draft, record.offset, step, out)
            case ReportReservation():
                self._batches.reservation(draft, record.offset, step, out)
            case ReportSettlement():
                self._batches.settlement(draft, record.offset, step, out)
            case TryBatch():
                self._batches.try_on(drafts, draft, step, out)


def _keys(readings: Sequence[Reading]) -> Iterator[bytes]:
    """Yield the keys that say whether commands were answered before."""
    for _, command in readings:
        if isinstance(command, PostEntry):
            yield answer_key(command.account_id, command.command_id)
        elif isinstance(command, PostBatch):
            yield batch_key(command.command_id)
            yield flight_key(command.command_id)


def _hold(draft: Draft, command: AccountCommand) -> Hold | None:
    """Return the hold that the command names."""
    if isinstance(command, SettleHold | ReleaseHold | ExpireHold):
        return draft.hold(command.account_id, command.hold_id)
    return None


def _place(draft: Draft, record: Record, command: AccountCommand, *, known: bool) -> Place:
    home = draft.partition if known else home_of(command.account_id, draft.partition_count)
    sequence = TRIED if command.dry_run else draft.next_sequence
    return Place(draft.partition, home, sequence, draft.writer_epoch, draft.recorded_at, record.offset)
