"""What is compared: a transfer that the chain has, and an entry that names one. Pure, integers only.

A transfer counts in its token's base units, an entry in the ledger's units of 10^-18. They are compared by
multiplication, so that nothing is rounded, also for tokens of more than 18 decimals.
"""

from dataclasses import dataclass
from decimal import Context, Decimal
from enum import StrEnum
from typing import Final, NamedTuple

from events.money import MAX_UNITS, SCALE
from events.types import EntryType
from reconciler.chains import NATIVE, Token
from reconciler.errors import AmountNotExact

NATIVE_INDEX: Final = -1
"""Stands for the log index of a native transfer, which has none: there is one for a transaction at most."""
_EXACT: Final = Context(prec=400)


class Transfer(NamedTuple):
    """One transfer that the chain has. `value` is in base units; `token` is the contract's address, or `native`.

    Named tuples, since there are many: a hundred thousand take a quarter of what objects would.
    """

    tx_hash: str
    log_index: int
    block_number: int
    block_hash: str
    token: str
    sender: str
    recipient: str
    value: int

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from every other one on the chain that it is on."""
        return self.tx_hash, self.log_index


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """An entry that names a transaction of a chain. What the entry does not say is None, and is not compared.

    `token` is an address, an asset's name or `native`, as the entry has it. `problem` says why it names none that can
    be. `recorded_at` is in microseconds since 1970.
    """

    entry_id: str
    recorded_at: int
    account_id: str
    entry_type: EntryType
    amount: int
    asset: str
    chain: str
    tx_hash: str
    token: str | None = None
    sender: str | None = None
    recipient: str | None = None
    log_index: int | None = None
    problem: str | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """When and where the entry was recorded. Of two entries for one transfer the first has it."""
        partition, _, sequence = self.entry_id.partition("-")
        return self.recorded_at, int(partition), int(sequence)


class Direction(StrEnum):
    """Which way a transfer goes, seen from the addresses that are ours."""

    IN = "in"
    OUT = "out"
    INTERNAL = "internal"
    FOREIGN = "foreign"


def direction(transfer: Transfer, ours: frozenset[str]) -> Direction:
    """Return which way `transfer` goes."""
    match transfer.sender in ours, transfer.recipient in ours:
        case False, True:
            return Direction.IN
        case True, False:
            return Direction.OUT
        case True, True:
            return Direction.INTERNAL
        case _:
            return Direction.FOREIGN


def excess(amount: int, value: int, decimals: int) -> tuple[int, int]:
    """Return what `amount` (ledger units) is more than `value` (base units), as numerator and denominator."""
    if decimals <= SCALE:
        return amount - value * 10 ** (SCALE - decimals), 1
    scale = int(10 ** (decimals - SCALE))
    return amount * scale - value, scale


def to_ledger_units(value: int, decimals: int) -> int:
    """Return `value` in base units of a token with `decimals` as units of the ledger.

    Raises:
        AmountNotExact: it has more than 18 decimals that are not zero, or more than 38 digits.
    """
    missing, scale = excess(0, value, decimals)
    units, rest = divmod(-missing, scale)
    if rest:
        raise AmountNotExact(f"{plain(value, decimals)} has more than {SCALE} decimals", value=str(value))
    if units > MAX_UNITS:
        raise AmountNotExact(f"{plain(value, decimals)} has more than 38 digits", value=str(value))
    return units


def plain(value: int, decimals: int) -> str:
    """Return base units as a plain decimal number of whole tokens, exactly: 2500000 with 6 decimals is "2.5"."""
    number = _EXACT.scaleb(Decimal(value), -decimals)
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def is_of(token: Token, named: str | None) -> bool:
    """Whether what an entry calls its token can be `token`: its address, its asset's name, `native`, or nothing."""
    if named is None:
        return True
    lowered = named.lower()
    return lowered == token.name or (lowered == token.asset.lower() and lowered != NATIVE)
