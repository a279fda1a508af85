"""The invariants of the ledger, recomputed from the log alone.

Each event is checked when it passes; nothing is believed that the log says of itself: balances, what is held and
versions are computed anew. Memory grows with accounts, open holds and command ids, not with what they hold.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import assert_never

from events.account import NEW_ACCOUNT, Account, Hold, evolve, evolve_hold
from events.batch import PASSING
from events.follow import StoredEvent
from events.money import to_text
from events.types import (
    Answer,
    BatchCommitted,
    BatchEntryPosted,
    BatchEvent,
    BatchPosted,
    BatchRejected,
    BatchReserved,
    BatchSettled,
    BatchStarted,
    CommandRejected,
    Entry,
    EntryPosted,
    EntryReleased,
    EntryReserved,
    EntryType,
    HoldEvent,
    HoldPlaced,
    HoldReleased,
    HoldSettled,
    LockEvent,
    PartitionOpened,
    Promise,
    StatusEvent,
)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found: how many records it looked at, and the first that breaks it, in words."""

    name: str
    title: str
    ok: bool
    checked: int
    detail: str | None


@dataclass(slots=True)
class BatchAudit:
    """Sees that batches are all or nothing. Memory grows with batches."""

    posted: dict[str, dict[int, tuple[int, int]]] = field(default_factory=dict)
    """By batch and number of the entry: partition and sequence."""
    promised: dict[tuple[str, int], EntryReserved] = field(default_factory=dict)
    """By batch and number of the entry: what an account promises now."""
    answers: dict[str, BatchPosted | None] = field(default_factory=dict)
    """By batch; None for one that was rejected."""
    started: set[str] = field(default_factory=set)
    _fault: str | None = None

    def take_entry(self, partition: int, event: Promise | BatchEntryPosted) -> None:
        """Take in what an account has promised, released or posted."""
        match event:
            case EntryReserved():
                if (event.batch_id, event.leg) in self.promised:
                    self._fault = self._fault or f"entry {event.leg} of batch {event.batch_id} is promised twice"
                self.promised[event.batch_id, event.leg] = event
            case EntryReleased():
                self._keep(event)
            case BatchEntryPosted():
                if event.reserved:
                    self._keep(event)
                places = self.posted.setdefault(event.batch_id, {})
                if event.leg in places:
                    self._fault = self._fault or f"entry {event.leg} of batch {event.batch_id} is posted twice"
                places[event.leg] = partition, event.sequence
            case _ as unreachable:
                assert_never(unreachable)

    def _keep(self, event: EntryReleased | BatchEntryPosted) -> None:
        if self.promised.pop((event.batch_id, event.leg), None) is None:
            self._fault = self._fault or f"entry {event.leg} of batch {event.batch_id} was not promised"

    def take(self, event: BatchEvent) -> None:
        """Take in an event of a batch in its own partition."""
        match event:
            case BatchStarted():
                self.started.add(event.command_id)
            case BatchPosted():
                self.answers[event.command_id] = event
            case BatchRejected():
                self.answers.setdefault(event.command_id, None)
            case _:
                pass

    def unanswered(self) -> set[str]:
        """Return the batches that something is known of, and that have no answer: in flight, or stuck."""
        return {*self.posted, *self.started, *(batch_id for batch_id, _ in self.promised)} - self.answers.keys()

    def fault(self, in_flight: Collection[str] = ()) -> str | None:
        """Return what is wrong with the first batch with which something is; nothing is with those `in_flight`."""
        if self._fault:
            return self._fault
        promised = Counter(batch_id for batch_id, _ in self.promised)
        for batch_id in sorted({*self.answers, *self.unanswered()} - {*in_flight}):
            places, answer = self.posted.get(batch_id, {}), self.answers.get(batch_id)
            if batch_id not in self.answers:
                return f"batch {batch_id} has no answer"
            told = {leg: (e.partition, e.sequence) for leg, e in enumerate(answer.entries)} if answer else {}
            if places != told:
                return f"batch {batch_id} has {len(places)} entries posted, {len(told)} of its answer's"
            if promised[batch_id]:
                return f"batch {batch_id} has {promised[batch_id]} promises left"
        return None


def _reserved_before(event: HoldEvent) -> int:
    """Return what a hold must have reserved before this event."""
    match event:
        case HoldPlaced():
            return 0
        case HoldSettled():
            return event.amount + event.remaining
        case HoldReleased():
            return event.amount
        case _ as unreachable:
            assert_never(unreachable)


@dataclass(slots=True)
class LogAudit:
    """Takes every event of a ledger, in the order of its partitions, and says what holds.

    `answered` counts events by (partition, account id, command id, payload hash), since a command that came to the
    wrong partition is refused there and may be sent again to the right one; the account id of a batch is empty.
    `accounts` is the state of every account, `holds` every open hold by account id and hold id.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    holds: dict[tuple[str, str], Hold] = field(default_factory=dict)
    answered: Counter[tuple[int, str, str, bytes]] = field(default_factory=Counter)
    next_sequences: dict[int, int] = field(default_factory=dict)
    events: int = 0
    changes: int = 0
    batches: BatchAudit = field(default_factory=BatchAudit)
    _posted: set[tuple[str, str, int | None]] = field(default_factory=set)
    _flows: Counter[str] = field(default_factory=Counter)
    _faults: dict[str, str] = field(default_factory=dict)

    def take(self, stored: StoredEvent) -> None:
        """Check one event and take it in."""
        event = stored.event
        self.events += 1
        if event.sequence != self.next_sequences.get(stored.partition, 0):
            self._fault("I5", stored, f"sequence {event.sequence} is not the next")
        self.next_sequences[stored.partition] = event.sequence + 1
        match event:
            case PartitionOpened():
                return
            case CommandRejected():
                self._answer(stored, event.account_id, event)
            case EntryReserved() | EntryReleased() | BatchEntryPosted():
                self._change(stored, event)
                self.batches.take_entry(stored.partition, event)
            case BatchPosted() | BatchRejected():
                self._answer(stored, "", event)
                self.batches.take(event)
            case BatchStarted() | BatchReserved() | BatchCommitted() | BatchSettled():
                self.batches.take(event)
            case _:
                self._change(stored, event)
                self._answer(stored, event.account_id, event)

    def _change(self, stored: StoredEvent, event: Entry | HoldEvent | StatusEvent | LockEvent | Promise) -> None:
        before = self.accounts.get(event.account_id, NEW_ACCOUNT)
        account = self.accounts[event.account_id] = evolve(before, event)
        self.changes += 1
        if account.version != event.version:
            self._fault("I1", stored, f"version {event.version}, computed {account.version}")
        if isinstance(event, Entry):
            self._flows[event.asset] += event.change
            self._once(stored, event)
        if isinstance(event, HoldEvent):
            self._hold(stored, event)
        if not isinstance(event, StatusEvent | LockEvent):
            self._amounts(stored, account, event)
            self._floor(stored, before, account, event)

    def _once(self, stored: StoredEvent, event: Entry) -> None:
        """See that no command has a second entry, under another payload or in another partition."""
        entry = event.account_id, event.command_id, event.leg if isinstance(event, BatchEntryPosted) else None
        if entry in self._posted:
            self._fault("I3", stored, f"command {event.command_id} of {event.account_id} has a second entry")
        self._posted.add(entry)

    def _amounts(self, stored: StoredEvent, account: Account, event: Entry | HoldEvent | Promise) -> None:
        """Compare what the event says is there after it with what is computed."""
        asset = event.asset
        balance = event.running_balance if isinstance(event, Entry) else event.balance
        held = account.held.get(asset, 0) if isinstance(event, EntryPosted) else event.held
        if (account.balance(asset), account.held.get(asset, 0)) != (balance, held):
            self._fault(
                "I1",
                stored,
                f"balance {to_text(balance)}, held {to_text(held)}; computed {to_text(account.balance(asset))}, "
                f"{to_text(account.held.get(asset, 0))}",
            )

    def _floor(
        self, stored: StoredEvent, before: Account, after: Account, event: Entry | HoldEvent | Promise
    ) -> None:
        """See that nothing took the account below its floor; a reversal that was forced may."""
        left, was = after.available(event.asset), before.available(event.asset)
        forced = isinstance(event, BatchEntryPosted | EntryReserved) and event.forced
        if left is not None and left < 0 and (was is None or left < was) and not forced:
            self._fault("I4", stored, f"{to_text(-left)} {event.asset} too little is left above the floor")

    def _hold(self, stored: StoredEvent, event: HoldEvent) -> None:
        key = event.account_id, event.hold_id
        before = self.holds.pop(key, None)
        after = evolve_hold(before, event)
        if (before.amount if before else 0) != _reserved_before(event):
            self._fault("I6", stored, f"hold {event.hold_id} of {event.account_id} was {before} before this")
        if after is not None:
            self.holds[key] = after

    def _answer(self, stored: StoredEvent, account_id: str, event: Answer) -> None:
        if isinstance(event, BatchRejected) and event.code in PASSING:
            return  # it did not use up the id
        question = stored.partition, account_id, event.command_id, event.payload_hash
        self.answered[question] += 1
        if self.answered[question] > 1:
            self._fault("I3", stored, f"command {event.command_id} of {account_id or 'a batch'} is answered again")

    def _fault(self, invariant: str, stored: StoredEvent, what: str) -> None:
        self._faults.setdefault(invariant, f"partition {stored.partition}, offset {stored.offset}: {what}")

    def results(self, in_flight: Collection[str] = ()) -> list[CheckResult]:
        """Return what holds of I1, I3, I4, I5 and I6, when all batches but those `in_flight` are over."""
        self._sum()
        if fault := self.batches.fault(in_flight):
            self._faults.setdefault("I6", fault)
        return [
            self._result("I1", "balances sum up to credits less debits", self.changes),
            self._result("I3", "no command is answered twice", self.answered.total()),
            self._result("I4", "no balance below its floor", self.changes),
            self._result("I5", "sequences are contiguous", self.events),
            self._result("I6", "batches are whole, and what is held is what open holds reserve", self.changes),
        ]

    def _sum(self) -> None:
        totals: Counter[str] = Counter()
        for account in self.accounts.values():
            totals.update(account.balances)
        for asset, flow in self._flows.items():
            if totals[asset] != flow:
                self._faults.setdefault("I1", f"{asset}: balances {to_text(totals[asset])}, entries {to_text(flow)}")
        self._sum_up_promises()

    def _sum_up_promises(self) -> None:
        """See that what accounts hold and expect is what open holds and promises say."""
        held: Counter[tuple[str, str]] = Counter()
        expected: Counter[tuple[str, str]] = Counter()
        for (account_id, _), hold in self.holds.items():
            held[account_id, hold.asset] += hold.amount
        for promise in self.batches.promised.values():
            sums = held if promise.entry_type is EntryType.DEBIT else expected
            sums[promise.account_id, promise.asset] += promise.amount
        there = {(a, asset): units for a, account in self.accounts.items() for asset, units in account.held.items()}
        if there != held:
            account_id, asset = min(dict(there.items() ^ held.items()))
            self._faults.setdefault(
                "I6", f"account {account_id} holds another amount of {asset} than its holds and promises"
            )
        due = {(a, asset): units for a, account in self.accounts.items() for asset, units in account.expected.items()}
        if due != expected:
            account_id, asset = min(dict(due.items() ^ expected.items()))
            self._faults.setdefault("I6", f"account {account_id} expects credits of {asset} that nobody has promised")

    def _result(self, invariant: str, rule: str, checked: int) -> CheckResult:
        fault = self._faults.get(invariant)
        return CheckResult(invariant, rule, fault is None, checked, fault)
