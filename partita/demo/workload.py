"""What the demo asks: a seeded stream of commands, with what must come of each as far as one can know it before."""

import random
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from commands.types import PostEntry
from events.money import UNITS_PER_WHOLE
from events.types import EntryType

CENT: Final = UNITS_PER_WHOLE // 100
_REMEMBERED: Final = 1000


class Kind(StrEnum):
    """What a command is meant to show."""

    ENTRY = "entry"
    OVERDRAFT = "overdraft"
    REPEAT = "repeat"
    CONFLICT = "conflict"


class Ask(NamedTuple):
    """A command of the demo."""

    kind: Kind
    command: PostEntry


def asks(count: int, accounts: int, *, reply_key: str, run: str, seed: int) -> Iterator[Ask]:
    """Yield `count` commands over `accounts` accounts: mostly entries, some overdrafts, repeats and conflicts.

    `run` makes ids differ from those of other runs on the same ledger.
    """
    rng = random.Random(seed)  # noqa: S311  # a demo's, to be repeatable
    recent: list[PostEntry] = []
    for number in range(count):
        kind = rng.choices(_KINDS, _WEIGHTS)[0] if number >= accounts else Kind.ENTRY
        if kind in (Kind.REPEAT, Kind.CONFLICT) and recent:
            earlier = rng.choice(recent)
            amount = earlier.amount if kind is Kind.REPEAT else earlier.amount + CENT
            yield Ask(kind, earlier._replace(amount=amount))
            continue
        account = number if number < accounts else rng.randrange(accounts)
        command = PostEntry(
            command_id=f"{run}-{number}",
            reply_key=reply_key,
            account_id=f"demo-{account:05d}",
            entry_type=_entry_type(kind, number < accounts, rng),
            amount=10**9 * UNITS_PER_WHOLE if kind is Kind.OVERDRAFT else rng.randint(1, 10_000) * CENT,
            asset="USD",
            reference=f"{kind}-{number}",
        )
        if kind is Kind.ENTRY:
            recent.append(command)
            del recent[:-_REMEMBERED]
        yield Ask(kind, command)


_KINDS: Final = (Kind.ENTRY, Kind.OVERDRAFT, Kind.REPEAT, Kind.CONFLICT)
_WEIGHTS: Final = (90, 4, 4, 2)


def _entry_type(kind: Kind, first: bool, rng: random.Random) -> EntryType:
    if kind is Kind.OVERDRAFT:
        return EntryType.DEBIT
    return EntryType.CREDIT if first or rng.random() < 0.6 else EntryType.DEBIT
