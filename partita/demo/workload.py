"""What the demo asks: a seeded stream of commands, with what must come of each as far as one can know it before."""

import random
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from commands.types import PlaceHold, PostBatch, PostEntry, ReleaseHold, SettleHold
from events.money import UNITS_PER_WHOLE
from events.types import BatchEntry, EntryType

CENT: Final = UNITS_PER_WHOLE // 100
_REMEMBERED: Final = 1000

Asked = PostEntry | PostBatch | PlaceHold | SettleHold | ReleaseHold
"""A command that the demo sends."""


class Kind(StrEnum):
    """What a command is meant to show."""

    ENTRY = "entry"
    TRANSFER = "transfer"
    HOLD = "hold"
    END_OF_HOLD = "end of hold"
    OVERDRAFT = "overdraft"
    REPEAT = "repeat"
    CONFLICT = "conflict"


Mix = Mapping[Kind, int]
"""How often each kind comes, in relation to the others."""

EVERYTHING: Final[Mix] = {
    Kind.ENTRY: 72,
    Kind.TRANSFER: 14,
    Kind.HOLD: 3,
    Kind.END_OF_HOLD: 2,
    Kind.OVERDRAFT: 4,
    Kind.REPEAT: 3,
    Kind.CONFLICT: 2,
}
ENTRIES: Final[Mix] = {Kind.ENTRY: 90, Kind.OVERDRAFT: 4, Kind.REPEAT: 4, Kind.CONFLICT: 2}


class Ask(NamedTuple):
    """A command of the demo."""

    kind: Kind
    command: Asked


def asks(count: int, accounts: int, *, reply_key: str, run: str, seed: int, mix: Mix = EVERYTHING) -> Iterator[Ask]:
    """Yield `count` commands over `accounts` accounts, each of which begins with a credit.

    `run` makes ids differ from those of other runs on the same ledger.
    """
    workload = _Workload(accounts, reply_key, run, random.Random(seed))  # noqa: S311  # a demo's, to be repeatable
    kinds, weights = list(mix), list(mix.values())
    for number in range(count):
        if number < accounts:
            yield workload.first(number)
        else:
            yield workload.next(number, workload.rng.choices(kinds, weights)[0])


class _Workload:
    """Makes one command after the other. `recent` may be asked again, `holds` be ended."""

    def __init__(self, accounts: int, reply_key: str, run: str, rng: random.Random) -> None:
        self._accounts = accounts
        self._reply_key = reply_key
        self._run = run
        self.rng = rng
        self._recent: list[PostEntry | PostBatch] = []
        self._holds: list[PlaceHold] = []

    def first(self, number: int) -> Ask:
        """Return the credit that opens an account."""
        return Ask(Kind.ENTRY, self._remembered(self._entry(number, Kind.ENTRY, _name(number), EntryType.CREDIT)))

    def next(self, number: int, kind: Kind) -> Ask:
        """Return a command of this kind, or an entry as long as there is nothing to repeat or to end."""
        match kind:
            case Kind.TRANSFER if self._accounts > 1:
                return Ask(kind, self._remembered(self._transfer(number)))
            case Kind.HOLD:
                return Ask(kind, self._hold(number))
            case Kind.END_OF_HOLD if self._holds:
                return Ask(kind, self._end_of_hold(number))
            case Kind.REPEAT if self._recent:
                return Ask(kind, self.rng.choice(self._recent))
            case Kind.CONFLICT if self._recent:
                return Ask(kind, _with_more(self.rng.choice(self._recent)))
            case Kind.OVERDRAFT:
                return Ask(kind, self._entry(number, kind, self._some_account(), EntryType.DEBIT))
            case _:
                entry_type = EntryType.CREDIT if self.rng.random() < 0.6 else EntryType.DEBIT
                entry = self._entry(number, Kind.ENTRY, self._some_account(), entry_type)
                return Ask(Kind.ENTRY, self._remembered(entry))

    def _some_account(self) -> str:
        return _name(self.rng.randrange(self._accounts))

    def _remembered(self, command: PostEntry | PostBatch) -> PostEntry | PostBatch:
        self._recent.append(command)
        del self._recent[:-_REMEMBERED]
        return command

    def _entry(self, number: int, kind: Kind, account: str, entry_type: EntryType) -> PostEntry:
        return PostEntry(
            command_id=f"{self._run}-{number}",
            reply_key=self._reply_key,
            account_id=account,
            entry_type=entry_type,
            amount=10**9 * UNITS_PER_WHOLE if kind is Kind.OVERDRAFT else self.rng.randint(1, 10_000) * CENT,
            asset="USD",
            reference=f"{kind}-{number}",
        )

    def _transfer(self, number: int) -> PostBatch:
        source, target = self.rng.sample(range(self._accounts), 2)
        amount = self.rng.randint(1, 1000) * CENT
        entries = (
            BatchEntry(_name(source), EntryType.DEBIT, amount, "USD"),
            BatchEntry(_name(target), EntryType.CREDIT, amount, "USD"),
        )
        reference = f"transfer-{number}"
        return PostBatch(f"{self._run}-{number}", self._reply_key, entries, balanced=True, reference=reference)

    def _hold(self, number: int) -> PlaceHold:
        amount = self.rng.randint(1, 100) * CENT
        hold = PlaceHold(f"{self._run}-{number}", self._reply_key, self._some_account(), amount, "USD")
        self._holds.append(hold)
        return hold

    def _end_of_hold(self, number: int) -> SettleHold | ReleaseHold:
        hold = self._holds.pop(self.rng.randrange(len(self._holds)))
        ending = SettleHold if self.rng.random() < 0.7 else ReleaseHold
        return ending(f"{self._run}-{number}", self._reply_key, hold.account_id, hold.command_id)


def _name(number: int) -> str:
    return f"demo-{number:05d}"


def _with_more(command: PostEntry | PostBatch) -> PostEntry | PostBatch:
    """Return the command with other amounts, which makes it another one under the same id."""
    if isinstance(command, PostEntry):
        return command._replace(amount=command.amount + CENT)
    return command._replace(entries=[entry._replace(amount=entry.amount + CENT) for entry in command.entries])
