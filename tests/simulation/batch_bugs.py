"""Bugs of batches, of what accounts promise for them, and of locks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, get_args
from unittest.mock import patch

from commands import batches, decide, group, promises, rules, state
from commands.batches import Batches
from commands.errors import Rejected
from commands.outbox import Outbox
from commands.promises import _release
from commands.records import batch_key, conflict_key
from commands.rules import locked_out
from commands.state import Draft
from commands.types import BatchCommand, CloseAccount, ReleaseBatch, ReportReservation, ReportSettlement
from events.account import Account
from events.batch import Promises, evolve_promises
from events.log import Outgoing
from events.types import (
    AccountClosed,
    BatchEntryPosted,
    BatchEvent,
    BatchRejected,
    EntryResult,
    Promise,
)
from tests.simulation.planted import Bugs
from tests.support.fake_log import FakeLog
from tests.support.samples import TOPICS

BUGS = Bugs()


# What accounts promise.


@BUGS.plant
def a_batch_is_settled_twice() -> AbstractContextManager[object]:
    """What was posted is still promised, and is posted again when it comes again."""

    def evolved(before: Promises | None, partition: int, event: Promise | BatchEntryPosted) -> Promises | None:
        return before if isinstance(event, BatchEntryPosted) else evolve_promises(before, partition, event)

    return patch.object(state, "evolve_promises", evolved)


@BUGS.plant
def promises_of_a_rejected_batch_are_kept() -> AbstractContextManager[object]:
    """The word to release is ignored."""
    return patch.object(group, "release", lambda *_: None)


@BUGS.plant
def any_attempt_releases_what_is_promised() -> AbstractContextManager[object]:
    """A word to release that comes again ends the promises of the next attempt."""

    def release(draft: Draft, offset: int, step: ReleaseBatch, out: Outbox) -> None:
        if kept := draft.promises(step.batch_id):
            _release(draft, promises._batch(step.batch_id, kept, offset), kept, out)

    return patch.object(group, "release", release)


@BUGS.plant
def promises_of_an_attempt_that_is_over_are_lost() -> AbstractContextManager[object]:
    """The next attempt takes their place, and what they hold stays held."""
    original = promises.reserve

    def reserve(*given: Any) -> None:
        with patch.object(promises, "_release", lambda *_: None):
            original(*given)

    return patch.object(group, "reserve", reserve)


@BUGS.plant
def what_is_over_is_forgotten() -> AbstractContextManager[object]:
    """Nothing is left of promises that were kept, so a step that comes again promises again."""

    def evolved(before: Promises | None, partition: int, event: Promise | BatchEntryPosted) -> Promises | None:
        after = evolve_promises(before, partition, event)
        return after if after and after.entries else None

    return patch.object(state, "evolve_promises", evolved)


@BUGS.plant
def a_batch_spends_what_is_held() -> AbstractContextManager[object]:
    """Neither holds nor promises count when a batch is promised."""

    def not_covered(account: Account, *rest: Any, **named: Any) -> Rejected | None:
        return rules.not_covered(account._replace(held={}), *rest, **named)

    return patch.object(promises, "not_covered", not_covered)


@BUGS.plant
def an_account_closes_on_a_credit_that_was_promised() -> AbstractContextManager[object]:
    """Only what is there and what is held counts."""
    original = rules.close_account

    def close_account(account: Account, command: CloseAccount, head: Any) -> AccountClosed | Rejected:
        return original(account._replace(expected={}), command, head)

    return patch.object(decide, "close_account", close_account)


# What the batch's own partition decides.


@BUGS.plant
def steps_are_sent_before_the_commit() -> AbstractContextManager[object]:
    """They are not in the transaction of the event that causes them."""
    original = FakeLog.append

    def append(self: FakeLog, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            if message.topic == TOPICS.commands:
                self._cluster.produce(message.topic, message.key, message.value, message.partition)
        original(self, [message for message in messages if message.topic != TOPICS.commands])

    return patch.object(FakeLog, "append", append)


@BUGS.plant
def a_batch_is_answered_before_all_have_posted() -> AbstractContextManager[object]:
    """The first partition that has posted is taken for the last."""
    original = Batches.settlement

    def settlement(self: Batches, home: Draft, offset: int, report: ReportSettlement, out: Outbox) -> None:
        flight = home.flight(report.batch_id)
        known = {result.leg for result in report.entries} | set(flight.results if flight else ())
        legs = range(len(flight.entries)) if flight else ()
        rest = [EntryResult(leg, 0, 0, 0) for leg in legs if leg not in known]
        original(self, home, offset, report._replace(entries=[*report.entries, *rest]), out)

    return patch.object(Batches, "settlement", settlement)


@BUGS.plant
def one_promise_is_taken_for_all() -> AbstractContextManager[object]:
    """A batch is committed when the first partition has promised."""
    original = Batches.reservation

    def reservation(self: Batches, home: Draft, offset: int, report: ReportReservation, out: Outbox) -> None:
        flight = home.flight(report.batch_id)
        if flight is not None and not report.code:
            home._flights[report.batch_id] = flight._replace(reserved=flight.partitions - {report.partition})
        original(self, home, offset, report, out)

    return patch.object(Batches, "reservation", reservation)


@BUGS.plant
def a_late_promise_is_kept() -> AbstractContextManager[object]:
    """A partition that promises when the batch is over is not told so."""
    original = Batches.reservation

    def reservation(self: Batches, home: Draft, offset: int, report: ReportReservation, out: Outbox) -> None:
        if home.flight(report.batch_id) is not None:
            original(self, home, offset, report, out)

    return patch.object(Batches, "reservation", reservation)


@BUGS.plant
def a_conflict_ends_the_batch_in_flight() -> AbstractContextManager[object]:
    """A rejection of another payload under its id is taken for its own."""
    original = Draft._record_batch

    def record_batch(self: Draft, event: BatchEvent, data: bytes) -> None:
        original(self, event, data)
        if isinstance(event, BatchRejected):
            self._flights[event.command_id] = None

    return patch.object(Draft, "_record_batch", record_batch)


@BUGS.plant
def a_conflict_with_a_batch_that_was_refused_is_forgotten() -> AbstractContextManager[object]:
    """Whoever had it is answered anew when that batch has not used up the id."""
    original = Batches.answer

    def answer(self: Batches, drafts: Any, home: Draft, command: Any, offset: int, out: Outbox) -> None:
        in_use = home.flight(command.command_id) or home.answer(batch_key(command.command_id))
        key = conflict_key if in_use else lambda *_: b"none"
        with patch.object(batches, "conflict_key", key):
            original(self, drafts, home, command, offset, out)

    return patch.object(Batches, "answer", answer)


@BUGS.plant
def a_refusal_that_passes_uses_up_the_id() -> AbstractContextManager[object]:
    """A batch that met a lock is answered so for ever."""
    return patch.object(state, "PASSING", frozenset())


@BUGS.plant
def a_batch_is_reversed_twice() -> AbstractContextManager[object]:
    """Each id that asks for a reversal gets one."""
    return patch.object(batches, "_reversal", lambda *_: (None, None))


@BUGS.plant
def who_waits_for_a_batch_is_told_that_it_is_the_first() -> AbstractContextManager[object]:
    """The outcome of a repeat is not marked as one."""
    original = Outbox.tell

    def tell(self: Outbox, command: type[Any], *rest: Any, replayed: bool) -> None:
        original(self, command, *rest, replayed=replayed and command not in get_args(BatchCommand))

    return patch.object(Outbox, "tell", tell)


# Locks.


_LockedOut = Callable[[Account, str, int | None, int], Rejected | None]


def _locked_out(instead: _LockedOut) -> AbstractContextManager[object]:
    @contextmanager
    def everywhere() -> Iterator[None]:
        with (
            patch.object(decide, "locked_out", instead),
            patch.object(promises, "locked_out", instead),
            patch.object(rules, "locked_out", instead),
        ):
            yield

    return everywhere()


@BUGS.plant
def locks_are_not_looked_at() -> AbstractContextManager[object]:
    """Whoever has no token is let in."""
    return _locked_out(lambda account, name, token, at: (token and locked_out(account, name, token, at)) or None)


@BUGS.plant
def any_token_opens_a_lock() -> AbstractContextManager[object]:
    """The holder of a lock that was lost writes under the next one."""

    def instead(account: Account, name: str, token: int | None, at: int) -> Rejected | None:
        return locked_out(account, name, token if token is None else account.lock_token, at)

    return _locked_out(instead)


@BUGS.plant
def a_lock_that_is_over_still_counts() -> AbstractContextManager[object]:
    """Its holder writes on."""

    def instead(account: Account, name: str, token: int | None, at: int) -> Rejected | None:
        return None if token == account.lock_token else locked_out(account, name, token, at)

    return _locked_out(instead)


@BUGS.plant
def locks_go_by_the_time_of_an_earlier_turn() -> AbstractContextManager[object]:
    """Not by the time at which the event is recorded."""
    seen = [0]

    def instead(account: Account, name: str, token: int | None, at: int) -> Rejected | None:
        before, seen[0] = seen[0], at
        return locked_out(account, name, token, before)

    return _locked_out(instead)


@BUGS.plant
def batches_do_not_look_at_locks() -> AbstractContextManager[object]:
    """Only commands on one account do."""
    return patch.object(promises, "locked_out", lambda *_: None)
