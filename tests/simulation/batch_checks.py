"""What must hold of batches, and of accounts that somebody has locked, when a story is over.

That batches are all or nothing and no promise is left is seen by `events.checks.BatchAudit`, as by every auditor.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, get_args

from commands.decide import NOWHERE, TRIED
from commands.types import BatchCommand, Command, PostBatch, ReserveBatch, ReverseBatch, TryBatch, UnlockAccount
from events.account import NEW_ACCOUNT, Account, evolve
from events.follow import StoredEvent
from events.types import (
    AccountAnswer,
    AccountClosed,
    AccountEvent,
    BatchEntryPosted,
    BatchPosted,
    BatchRejected,
    CommandRejected,
    EntryReserved,
    EntryType,
)
from tests.simulation.evidence import Evidence, Place, demand, passes, question
from tests.support.samples import CODECS, TOPICS

_BEFORE_LOCKS = frozenset({"WrongPartition", "IdempotencyConflict"})
"""Rules that are looked at before the lock is."""

_Answer = BatchPosted | BatchRejected
_Logged = Mapping[Place, _Answer]
"""By partition and sequence."""


def check_batches(found: Evidence, waiting: Collection[str]) -> None:
    """I2, I3, I6 of batches. `waiting` are the reply keys of those who asked for one that was in flight."""
    logged = {
        (item.partition, item.event.sequence): item.event
        for item in found.events
        if isinstance(item.event, BatchPosted | BatchRejected)
    }
    asked = {p: c for p, c in found.commands.items() if isinstance(c, get_args(BatchCommand))}
    told_first: Counter[Place] = Counter()
    for place, command in asked.items():
        if command.reply_key in waiting:
            _check_who_waited(found, logged, place, command)
        else:
            told_first.update(_told_first(found, logged, place, command))
    where = list(logged)
    demand(told_first == Counter(where), f"I2: batches are answered at {where}, told first at {list(told_first)}")
    _check_what_was_posted(logged, asked)
    _check_promised_once(found.events)


def _check_who_waited(found: Evidence, logged: _Logged, place: Place, command: Command) -> None:
    """See that it is told of the batch that was in flight; if it is told nothing, it has asked again."""
    told = found.told.get(command.reply_key or "", ())
    for outcome, _ in told:
        right = outcome.replayed and _answers(outcome.event, logged, place, command)
        demand(right, f"I2: {command} waited for a batch in flight, and is told {outcome}")
    if not told:
        wanted = question(place, command)
        later = (c for p, c in found.commands.items() if p > place and question(p, c) == wanted)
        demand(any(c.reply_key in found.told for c in later), f"I2: {command} is not answered")


def _told_first(found: Evidence, logged: _Logged, place: Place, command: Command) -> list[Place]:
    """See that the command is told what the log says; return where that is when it is told first.

    A dry run across handlers is told again when its step comes again.
    """
    told = found.told.get(command.reply_key or "", ())
    if command.dry_run and len(told) > 1:
        demand(_was_passed_on(found, command), f"I2: {command} was tried by one handler, and is told {told}")
        wanted = question(place, command)
        for again, _ in told:
            event = again.event
            fine = event.sequence == TRIED and (again.replayed, again.partition) == (False, place[0])
            same = (event.command_id, event.payload_hash) == (wanted.command_id, wanted.payload_hash)
            demand(fine and same, f"I2: {command} is told {again} again")
        return []
    outcome = found.outcome(command)
    event = outcome.event
    if event.sequence < 0:
        fine = event.sequence == TRIED if command.dry_run else event.sequence == NOWHERE and passes(event)
        demand(fine and not outcome.replayed, f"I2: {command} is told of {outcome}, which is not in the log")
        return []
    demand(_answers(event, logged, place, command), f"I2: {command} is told {outcome}, which is no answer to it")
    if outcome.replayed:
        demand(event.command_offset < place[1] and not passes(event), f"I3: {command} at {place} is told {outcome}")
        return []
    return [(place[0], event.sequence)]


def _was_passed_on(found: Evidence, command: Command) -> bool:
    """Whether a handler asked another one to go on with the dry run."""
    cluster = found.ledger.cluster
    sent = (record for p in range(cluster.partitions) for record in cluster.sent_by_handlers(TOPICS.commands, p))
    steps = (CODECS.commands.decode(record.value) for record in sent)
    return any(isinstance(step, TryBatch) and step.reply_key == command.reply_key for step in steps)


def _answers(event: object, logged: _Logged, place: Place, command: Command) -> bool:
    """Whether the log has this answer, to the command or to another one that has reversed the same batch."""
    if not isinstance(event, BatchPosted | BatchRejected) or logged.get((place[0], event.sequence)) != event:
        return False
    if isinstance(command, ReverseBatch) and isinstance(event, BatchPosted) and event.reversal_of == command.batch_id:
        return True
    wanted = question(place, command)
    return (event.command_id, event.payload_hash) == (wanted.command_id, wanted.payload_hash)


class _Moved(NamedTuple):
    """What a batch does to an account."""

    account_id: str
    entry_type: EntryType
    amount: int
    asset: str


def _check_what_was_posted(logged: _Logged, asked: Mapping[Place, Command]) -> None:
    """See that batches have the entries that were asked for, and reversals the other ones, once."""
    commands = {question(place, c)[2:]: c for place, c in asked.items()}
    posted = {(p, e.command_id): e for (p, _), e in logged.items() if isinstance(e, BatchPosted)}
    reversed_batches: set[tuple[int, str]] = set()
    for (p, batch_id), event in posted.items():
        command = commands.get((batch_id, event.payload_hash))
        if isinstance(command, PostBatch):
            wanted = [_Moved(*entry[:4]) for entry in command.entries]
        else:
            demand(isinstance(command, ReverseBatch), f"I2: nobody asked for {event}")
            original = p, event.reversal_of or ""
            demand(original in posted and original not in reversed_batches, f"I3: {event} reverses again, or nothing")
            reversed_batches.add(original)
            wanted = [_turned(_Moved(*entry[4:8])) for entry in reversed(posted[original].entries)]
        demand([_Moved(*entry[4:8]) for entry in event.entries] == wanted, f"I6: {event} is not {command}")


def _turned(moved: _Moved) -> _Moved:
    return moved._replace(entry_type=EntryType.DEBIT if moved.entry_type is EntryType.CREDIT else EntryType.CREDIT)


def _check_promised_once(events: Sequence[StoredEvent]) -> None:
    """See that a step that came again has not promised again."""
    promised: set[tuple[str, int, int, int]] = set()
    for item in events:
        if isinstance(event := item.event, EntryReserved):
            what = event.batch_id, event.home, event.attempt, event.leg
            demand(what not in promised, f"I6: {event} is promised again")
            promised.add(what)


def check_locks(found: Evidence) -> None:
    """See that a locked account is changed by its lock's holder alone, and that nobody else is refused for a lock.

    And that an account that is closed is empty, of what batches will bring it too.
    """
    tokens = _tokens(found)
    accounts: dict[str, Account] = {}
    after: dict[tuple[str, int], Account] = {}
    for item in found.events:
        event = item.event
        if not isinstance(event, AccountEvent):
            continue
        account = accounts.get(event.account_id, NEW_ACCOUNT)
        place = item.partition, event.sequence
        if place in tokens:
            demand(_may(account, tokens[place], event.recorded_at), f"{event} is against the lock of {account}")
        if isinstance(event, AccountClosed):
            demand(not (account.expected or account.held), f"I6: {event}, and batches have been promised {account}")
        changed = accounts[event.account_id] = evolve(account, event)
        after[event.account_id, changed.version] = changed
    _check_refusals(found, after)


def _may(account: Account, token: int | None, recorded_at: int) -> bool:
    is_locked = account.locked_until > recorded_at
    return not is_locked if token is None else is_locked and token == account.lock_token


def _tokens(found: Evidence) -> dict[Place, int | None]:
    """Return under which lock each change of an account was asked for, by partition and sequence."""
    tokens: dict[Place, int | None] = {}
    for item in found.events:
        event, p = item.event, item.partition
        match event:
            case CommandRejected() if event.code in _BEFORE_LOCKS or event.command_type == UnlockAccount.__name__:
                pass
            case BatchPosted():
                command = found.commands.get((p, event.command_offset))
                for leg, entry in enumerate(event.entries):
                    tokens.setdefault(
                        (entry.partition, entry.sequence), _token_of_leg(command, leg, entry.account_id)
                    )
            case EntryReserved():
                tokens[p, event.sequence] = _reserved_under(found, p, event)
            case _ if isinstance(event, AccountAnswer):
                tokens[p, event.sequence] = _token(found.commands[p, event.command_offset])
            case _:
                pass
    promised = {
        (item.partition, item.event.sequence)
        for item in found.events
        if isinstance(item.event, BatchEntryPosted) and item.event.reserved
    }
    return {place: token for place, token in tokens.items() if place not in promised}


def _token_of_leg(command: Command | None, leg: int, account_id: str) -> int | None:
    match command:
        case PostBatch():
            return command.entries[leg].lock_token
        case ReverseBatch():
            return dict(command.locks).get(account_id)
        case _:
            return None


def _reserved_under(found: Evidence, partition: int, event: EntryReserved) -> int | None:
    slot = found.ledger.cluster.kept_at(TOPICS.commands, partition, event.command_offset)
    step = CODECS.commands.decode(slot.value)
    demand(isinstance(step, ReserveBatch), f"I6: {event} comes of {step}")
    return next(entry.lock_token for entry in step.entries if entry.leg == event.leg)  # type: ignore[union-attr]


def _token(command: Command) -> int | None:
    match command:
        case UnlockAccount():
            return command.token
        case PostBatch() | ReverseBatch():
            return None
        case _:
            return command.lock_token


def _check_refusals(found: Evidence, after: Mapping[tuple[str, int], Account]) -> None:
    for command in found.commands.values():
        for outcome, _ in found.told.get(command.reply_key or "", ()):
            event = outcome.event
            if isinstance(event, CommandRejected) and passes(event):
                account = after.get((event.account_id, event.version), NEW_ACCOUNT)
                right = not _may(account, _token(command), event.recorded_at)
                demand(right, f"{command} is told {event}, and {account} is not locked so")
