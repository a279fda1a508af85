"""What must hold when a story is over: I1 to I7 and I9, from the log, the disks and what requesters were told.

A check finds what is there by itself where it can, and names the invariant that is broken. A new kind of command is
checked as the others are; a new invariant is one more function in `check`. Of batches and locks alone are those in
`batch_checks`, and `one_handler` decides all again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from commands.decide import NOWHERE, TRIED
from commands.records import POSITION_KEY, Position, flight_key, promise_key, read_position, read_promises
from commands.state import PartitionState
from commands.types import AccountCommand, Command
from events.checks import LogAudit
from events.follow import StoredEvent
from events.types import AccountAnswer, AccountEvent, Answer
from tests.simulation.batch_checks import check_batches, check_locks
from tests.simulation.evidence import Asked, Evidence, Place, Question, answers, demand, gather, passes, question
from tests.simulation.one_handler import OneHandler
from tests.simulation.process import Circumstances, Process
from tests.support.fake_ledger import FakeLedger
from tests.support.memory_store import MemoryStores
from tests.support.samples import CODECS, TOPICS


def check(ledger: FakeLedger, asked: Asked, processes: Sequence[Process], circumstances: Circumstances) -> None:
    """See that all invariants hold; raises `Broken`."""
    found = gather(ledger, asked, circumstances)
    _check_log(found.events)
    _check_trees(ledger)
    _check_writers(ledger)
    one_handler = OneHandler(found)
    one_handler.decide_again()
    _check_answers(found)
    check_batches(found, one_handler.waiting)
    check_locks(found)
    _check_dead_letters(ledger, asked)
    for p in range(ledger.partitions):
        _check_owner(p, [item for item in found.events if item.partition == p], processes)
    _check_lag(ledger)


def _check_log(events: Sequence[StoredEvent]) -> None:
    """I1, I3, I4, I5, I6 as every auditor of the log checks them, and that recorded time does not fall."""
    audit = LogAudit()
    recorded: dict[int, int] = {}
    for item in events:
        audit.take(item)
        demand(item.event.recorded_at >= recorded.get(item.partition, 0), f"I5: recorded time falls at {item}")
        recorded[item.partition] = item.event.recorded_at
    for result in audit.results():
        demand(result.ok, f"{result.name}: {result.detail}")


def _check_trees(ledger: FakeLedger) -> None:
    """I5, I8: every checkpoint is a head of the log's tree, and requesters were told of nothing else."""
    fault = ledger.tree_fault()
    demand(fault is None, f"I5: {fault}")


def _check_writers(ledger: FakeLedger) -> None:
    """I5: what is committed under one epoch is of one writer."""
    writers: dict[tuple[int, int], object] = {}
    for p in range(ledger.partitions):
        for slot in ledger.cluster._slots[TOPICS.events, p]:
            if slot.value is not None and slot.transaction is not None and slot.transaction.committed:
                epoch, writer = CODECS.events.decode(slot.value).writer_epoch, slot.transaction.owner
                demand(writers.setdefault((p, epoch), writer) is writer, f"I5: two writers of epoch {epoch} on {p}")


def _check_answers(found: Evidence) -> None:
    """I2, I3: every command on an account has one outcome, which is what the log says; only the first is no repeat.

    The log answers whatever was asked, where it was asked first and not refused for a lock, in that order.
    """
    by_question = {q: event for q, event in answers(found.events) if isinstance(event, AccountAnswer)}
    first: dict[Question, Place] = {}
    for place, command in found.commands.items():
        if isinstance(command, get_args(AccountCommand)) and not _is_refused(found, place, command, by_question):
            first.setdefault(question(place, command), place)
    answered = [(q, event.command_offset) for q, event in by_question.items()]
    wanted = [(q, offset) for q, (_, offset) in first.items()]
    demand(answered == wanted, f"I2: answered {_apart(answered, wanted)}, asked {_apart(wanted, answered)}")


def _is_refused(found: Evidence, place: Place, command: Command, by_question: Mapping[Question, Answer]) -> bool:
    """See that the command is told what the log says; return whether it is told of something that is not in it."""
    outcome, answer = found.outcome(command), by_question.get(question(place, command))
    repeats = answer is not None and answer.command_offset < place[1]
    demand((outcome.partition, outcome.replayed) == (place[0], repeats), f"I3: {outcome} of {command} at {place}")
    if repeats or not (command.dry_run or passes(outcome.event)):
        demand(outcome.event == answer, f"I2: {command} is told {outcome}, but the log has {answer}")
        return False
    demand(outcome.event.sequence == (TRIED if command.dry_run else NOWHERE), f"I2: {command} is told of {outcome}")
    return True


def _apart(these: Sequence[object], others: Sequence[object]) -> str:
    """Return the first of these that is not where it is among the others."""
    return next(
        (str(a) for a, b in zip(these, [*others, *[None] * len(these)], strict=False) if a != b), "nothing more"
    )


def _check_dead_letters(ledger: FakeLedger, asked: Asked) -> None:
    """I2: what can't be read is in the dead letter, once."""
    headers = [dict(letter.headers or ()) for letter in ledger.cluster.visible(TOPICS.deadletter, 0)]
    found = Counter((int(h["source-partition"] or 0), int(h["source-offset"] or 0)) for h in headers)
    wanted = Counter(place for place, command in asked.items() if command is None)
    demand(found == wanted, f"I2: dead letters of {found}, not of {wanted}")


def _check_owner(partition: int, events: Sequence[StoredEvent], processes: Sequence[Process]) -> None:
    """I7: one handler has the partition; in memory and on its disk it has what a replay of the log gives."""
    owners = [process for process in processes if partition in process.member.handler._ready]
    demand(len(owners) == 1, f"I9: partition {partition} is served by {[owner.name for owner in owners]}")
    (owner,) = owners
    state, kept = owner.member.handler._ready[partition], dict(owner.disk.kept.get(partition, {}))
    stores = MemoryStores()
    replayed = PartitionState(partition, stores.open(partition))
    replayed.replay(events)
    _check_position("memory", state.position, replayed.position)
    _check_position("disk", read_position(kept.pop(POSITION_KEY, b"")), replayed.position)
    del stores.kept[partition][POSITION_KEY]
    differing = dict(kept.items() ^ stores.kept[partition].items())
    demand(not differing, f"I7: a replay has other records than {owner.name}'s disk: {differing}")
    for account_id in {item.event.account_id for item in events if isinstance(item.event, AccountEvent)}:
        demand(state.account(account_id) == replayed.account(account_id), f"I7: account {account_id} differs")
    _check_nothing_is_open(partition, kept)


def _check_nothing_is_open(partition: int, kept: Mapping[bytes, bytes]) -> None:
    """I6: no batch is in flight, and what is left of promises says only that they are over."""
    flights = [key for key, value in kept.items() if value and key.startswith(flight_key(""))]
    promised = [key for key in kept if key.startswith(promise_key("")) and read_promises(kept[key]).entries]
    demand(not flights and not promised, f"I6: partition {partition} has in flight {flights}, promised {promised}")


def _check_position(where: str, position: Position | None, replayed: Position) -> None:
    """What may differ leaves no event: a look at the clock, a command that was answered before; and the offset of the
    last event, which is known to be no later.
    """
    same = position is not None and replayed._replace(
        recorded_at=max(position.recorded_at, replayed.recorded_at),
        next_command_offset=max(position.next_command_offset, replayed.next_command_offset),
        event_offset=min(position.event_offset, replayed.event_offset),
    )
    demand(position == same, f"I7: {where} is at {position}, a replay at {replayed}")


def _check_lag(ledger: FakeLedger) -> None:
    """I9: everything was taken, and no transaction is open."""
    cluster = ledger.cluster
    for p in range(ledger.partitions):
        end, committed = cluster.high_end(TOPICS.commands, p), cluster.committed_offset(p)
        demand(committed == end, f"I9: partition {p} has come to {committed} of {end}")
        stable, high = cluster.stable_end(TOPICS.events, p), cluster.high_end(TOPICS.events, p)
        demand(stable == high, f"I9: a transaction on the events of partition {p} is still open")
