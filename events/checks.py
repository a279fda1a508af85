"""The invariants of the ledger, recomputed from the log alone.

Each event is checked when it passes; nothing is believed that the log says of itself: running balances and versions
are computed anew. Memory grows with accounts and command ids, not with what they hold.
"""

from collections import Counter
from dataclasses import dataclass, field

from events.account import NEW_ACCOUNT, Account, evolve
from events.follow import StoredEvent
from events.money import to_text
from events.types import CommandRejected, EntryPosted, PartitionOpened


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found: how many records it looked at, and the first that breaks it, in words."""

    name: str
    title: str
    ok: bool
    checked: int
    detail: str | None


@dataclass(slots=True)
class LogAudit:
    """Takes every event of a ledger, in the order of its partitions, and says what holds.

    `answered` counts events by (partition, account id, command id, payload hash), since a command that came to the
    wrong partition is refused there and may be sent again to the right one; `accounts` is the state of every account.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    answered: Counter[tuple[int, str, str, bytes]] = field(default_factory=Counter)
    next_sequences: dict[int, int] = field(default_factory=dict)
    events: int = 0
    entries: int = 0
    _posted: set[tuple[str, str]] = field(default_factory=set)
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
                pass
            case EntryPosted():
                self._entry(stored, event)
        self._answer(stored, (stored.partition, event.account_id, event.command_id, event.payload_hash))

    def _entry(self, stored: StoredEvent, event: EntryPosted) -> None:
        before = self.accounts.get(event.account_id, NEW_ACCOUNT)
        after = self.accounts[event.account_id] = evolve(before, event)
        self.entries += 1
        self._flows[event.asset] += event.change
        if (event.account_id, event.command_id) in self._posted:  # under another payload, or in another partition
            self._fault("I3", stored, f"command {event.command_id} of {event.account_id} has a second entry")
        self._posted.add((event.account_id, event.command_id))
        if after.balance(event.asset) != event.running_balance or after.version != event.version:
            self._fault(
                "I1",
                stored,
                f"balance {to_text(event.running_balance)} at version {event.version}, computed "
                f"{to_text(after.balance(event.asset))} at {after.version}",
            )
        if after.balance(event.asset) < 0:
            self._fault("I4", stored, f"{event.account_id} falls to {to_text(after.balance(event.asset))}")

    def _answer(self, stored: StoredEvent, question: tuple[int, str, str, bytes]) -> None:
        self.answered[question] += 1
        if self.answered[question] > 1:
            self._fault("I3", stored, f"command {question[2]} of {question[1]} is answered again")

    def _fault(self, invariant: str, stored: StoredEvent, what: str) -> None:
        self._faults.setdefault(invariant, f"partition {stored.partition}, offset {stored.offset}: {what}")

    def results(self) -> list[CheckResult]:
        """Return what holds of I1, I3, I4 and I5."""
        self._sum()
        return [
            self._result("I1", "balances sum up to credits less debits", self.entries),
            self._result("I3", "no command is answered twice", self.answered.total()),
            self._result("I4", "no balance below its floor", self.entries),
            self._result("I5", "sequences are contiguous", self.events),
        ]

    def _sum(self) -> None:
        totals: Counter[str] = Counter()
        for account in self.accounts.values():
            totals.update(account.balances)
        for asset, flow in self._flows.items():
            if totals[asset] != flow:
                self._faults.setdefault("I1", f"{asset}: balances {to_text(totals[asset])}, entries {to_text(flow)}")

    def _result(self, invariant: str, rule: str, checked: int) -> CheckResult:
        fault = self._faults.get(invariant)
        return CheckResult(invariant, rule, fault is None, checked, fault)
