"""A batch, as the partitions of its accounts see it: entries are promised, and then posted or released.

Funds that debits need are held, room for credits is kept; an account that has promised can neither be closed nor be
emptied by others. A debit must be covered by what was there before the batch: its credits do not pay for its debits,
in whatever order they come. So the answer is the same whether the batch is posted at once or promised first.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from commands.errors import IdempotencyConflict, Rejected, VersionConflict
from commands.outbox import Outbox
from commands.rejections import details_of
from commands.rules import Head, locked_out, no_room, not_covered, not_usable
from commands.state import Draft
from commands.types import Policy, ReleaseBatch, ReportReservation, ReportSettlement, ReserveBatch, SettleBatch
from events.account import Account, promised
from events.batch import Promises
from events.types import BatchEntryPosted, EntryReleased, EntryReserved, EntryResult, EntryType, PlacedEntry


class Refusal(NamedTuple):
    """The entry of a batch that breaks a rule, and the rule; None when it is not about one entry."""

    leg: int | None
    fault: Rejected


def refusal(
    entries: Sequence[PlacedEntry],
    account_of: Callable[[PlacedEntry], Account],
    policy: Policy,
    *,
    forced: bool,
    now: Callable[[PlacedEntry], int],
) -> Refusal | None:
    """Return why the accounts can't promise these entries together; None when they can. Pure.

    `now` is the time of the entry's partition: one may be ahead of another, and a lock ends by its own.
    """
    accounts: dict[str, Account] = {}
    last = len(entries) - 1
    for number, entry in enumerate(entries):
        account = accounts.get(entry.account_id) or account_of(entry)
        if fault := _broken_rule(account, entry, policy, forced=forced, now=now(entry)):
            return Refusal(entry.leg, fault)
        if number < last:  # for the entries to come
            accounts[entry.account_id] = promised(account, entry.entry_type, entry.asset, entry.amount)
    return None


def _broken_rule(account: Account, entry: PlacedEntry, policy: Policy, *, forced: bool, now: int) -> Rejected | None:
    may_be_locked = account.locked_until > now or entry.lock_token is not None
    if may_be_locked and (fault := locked_out(account, entry.account_id, entry.lock_token, now)):
        return fault
    if entry.expected_version is not None and entry.expected_version != account.version:
        return VersionConflict(entry.account_id, entry.expected_version, account.version)
    if fault := not_usable(account, entry.account_id, entry.asset, policy):
        return fault
    if entry.entry_type is EntryType.DEBIT:
        return not_covered(account, entry.account_id, entry.asset, entry.amount, forced=forced)
    return no_room(account, entry.account_id, entry.asset, entry.amount)


class Batch(NamedTuple):
    """What the entries of a batch have in common. `offset` is of the command that led to this, in its partition."""

    batch_id: str
    payload_hash: bytes
    legs: int
    forced: bool
    offset: int

    def head(self, draft: Draft, account_id: str, account: Account) -> Head:
        """Return the first fields of the next event of an account."""
        return (
            draft.next_sequence,
            draft.writer_epoch,
            draft.recorded_at,
            self.batch_id,
            self.offset,
            self.payload_hash,
            account_id,
            account.version + 1,
        )


def post(draft: Draft, batch: Batch, entry: PlacedEntry, out: Outbox, *, reserved: bool) -> EntryResult:
    """Post one entry of a batch that all its accounts can keep."""
    account = draft.account(entry.account_id)
    kept = promised(account, entry.entry_type, entry.asset, -entry.amount) if reserved else account
    change = entry.amount if entry.entry_type is EntryType.CREDIT else -entry.amount
    event = BatchEntryPosted(
        *batch.head(draft, entry.account_id, account),
        batch.batch_id,
        entry.leg,
        batch.legs,
        entry.entry_type,
        entry.amount,
        entry.asset,
        account.balance(entry.asset) + change,
        kept.held.get(entry.asset, 0),
        entry.reference,
        entry.metadata,
        entry.effective_at,
        reserved,
        batch.forced,
    )
    out.append(draft, event)
    return EntryResult(entry.leg, event.sequence, event.version, event.running_balance)


def reserve(draft: Draft, offset: int, step: ReserveBatch, policy: Policy, out: Outbox) -> None:
    """Promise all entries of the step or none, and report which. A step that came before is not done again."""
    before = draft.promises(step.batch_id)
    is_other = before is not None and before.home != step.home
    if before is not None and not is_other:
        if before.attempt >= step.attempt:
            return
        # The coordinator only makes another attempt when the one before is over.
        _release(draft, _batch(step.batch_id, before, offset), before, out)
    if refused := _refused(draft, step, policy, is_other=is_other):
        report = ReportReservation(
            step.batch_id,
            step.attempt,
            draft.partition,
            refused.leg,
            refused.fault.code,
            refused.fault.message,
            details_of(refused.fault),
        )
        out.send(report, step.home)
        return
    batch = Batch(step.batch_id, step.payload_hash, step.legs, step.forced, offset)
    for entry in step.entries:
        account = draft.account(entry.account_id)
        after = promised(account, entry.entry_type, entry.asset, entry.amount)
        event = EntryReserved(
            *batch.head(draft, entry.account_id, account),
            step.batch_id,
            entry.leg,
            step.legs,
            step.home,
            step.attempt,
            entry.entry_type,
            entry.amount,
            entry.asset,
            account.balance(entry.asset),
            after.held.get(entry.asset, 0),
            entry.reference,
            entry.metadata,
            entry.effective_at,
            step.forced,
        )
        out.append(draft, event)
    out.send(ReportReservation(step.batch_id, step.attempt, draft.partition), step.home)


def _refused(draft: Draft, step: ReserveBatch, policy: Policy, *, is_other: bool) -> Refusal | None:
    """Return why the entries can't be promised; `is_other`: the id is that of a batch of another partition."""
    if is_other:
        return Refusal(None, IdempotencyConflict("", step.batch_id))
    return refusal(
        step.entries,
        lambda entry: draft.account(entry.account_id),
        policy,
        forced=step.forced,
        now=lambda _: draft.recorded_at,
    )


def settle(draft: Draft, offset: int, step: SettleBatch, out: Outbox) -> None:
    """Post what was promised, and report where it is. Nothing when all of it is over."""
    promises = _promised_for(draft, step)
    if promises is None or not promises.entries:
        return
    batch = _batch(step.batch_id, promises, offset)
    results = [post(draft, batch, entry, out, reserved=True) for entry in promises.entries]
    out.send(ReportSettlement(step.batch_id, step.attempt, draft.partition, results), promises.home)


def release(draft: Draft, offset: int, step: ReleaseBatch, out: Outbox) -> None:
    """Make what was promised available again. Nothing when all of it is over."""
    promises = _promised_for(draft, step)
    if promises is None:
        return
    _release(draft, _batch(step.batch_id, promises, offset), promises, out)


def _release(draft: Draft, batch: Batch, promises: Promises, out: Outbox) -> None:
    for entry in promises.entries:
        account = draft.account(entry.account_id)
        after = promised(account, entry.entry_type, entry.asset, -entry.amount)
        event = EntryReleased(
            *batch.head(draft, entry.account_id, account),
            batch.batch_id,
            entry.leg,
            entry.entry_type,
            entry.amount,
            entry.asset,
            account.balance(entry.asset),
            after.held.get(entry.asset, 0),
        )
        out.append(draft, event)


def _promised_for(draft: Draft, step: SettleBatch | ReleaseBatch) -> Promises | None:
    """Return what was promised for this very attempt; one of a batch of another partition may have its number."""
    promises = draft.promises(step.batch_id)
    return promises if promises and (promises.home, promises.attempt) == (step.home, step.attempt) else None


def _batch(batch_id: str, promises: Promises, offset: int) -> Batch:
    return Batch(batch_id, promises.payload_hash, promises.legs, promises.forced, offset)
