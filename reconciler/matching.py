"""Comparing the transfers of one transaction with the entries that name it. Pure: no clock, no I/O, integers only.

Whether an entry and a transfer agree is `differences`. Which entry has which transfer is a maximum matching of those
that agree, made in the order in which the entries were recorded: an entry that has its transfer keeps it, whatever
is recorded later, and the result is the same in whatever order things are given.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from events.money import SCALE, to_text
from events.types import EntryType
from reconciler.chains import Token
from reconciler.transfers import Direction, Expectation, Transfer, direction, excess, is_of, plain


class Kind(StrEnum):
    """What a finding says of an entry, a transfer, or both. All but `MATCHED` are discrepancies."""

    MATCHED = "matched"
    MISSING_ON_CHAIN = "missing_on_chain"
    MISSING_IN_LEDGER = "missing_in_ledger"
    AMOUNT_MISMATCH = "amount_mismatch"
    ASSET_MISMATCH = "asset_mismatch"
    ADDRESS_MISMATCH = "address_mismatch"
    DIRECTION_MISMATCH = "direction_mismatch"
    DUPLICATE = "duplicate"
    REORGANISED = "reorganised"
    NOT_YET_FINAL = "not_yet_final"
    FAILED_TRANSACTION = "failed_transaction"


_GRAVEST_FIRST: Final = (Kind.DIRECTION_MISMATCH, Kind.ASSET_MISMATCH, Kind.ADDRESS_MISMATCH, Kind.AMOUNT_MISMATCH)


class State(StrEnum):
    """What the chain says of a transaction."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    """It is known, but in no block yet that counts as settled."""
    FAILED = "failed"
    DONE = "done"


class Transaction(NamedTuple):
    """A transaction as the chain has it; without a block it is in none."""

    tx_hash: str
    state: State
    block_number: int | None = None
    block_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is ours, by which tokens, and how much an amount may be off (ledger units by asset; 0 if not given)."""

    tokens: Mapping[str, Token]
    ours: frozenset[str]
    tolerances: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of an entry (`expectation`) and a transfer; one of them may not be there."""

    kind: Kind
    expectation: Expectation | None = None
    transfer: Transfer | None = None
    transaction: Transaction | None = None
    description: str = ""


@dataclass(slots=True)
class Matching:
    """Where every entry and every transfer went: into one finding, or to those that need no entry."""

    findings: list[Finding] = field(default_factory=list)
    internal: list[Transfer] = field(default_factory=list)
    """Between addresses that are both ours: they need no entry, though they may have a credit and a debit."""
    foreign: list[Transfer] = field(default_factory=list)
    """Of nobody's that is ours: they came along in a transaction that an entry names."""


class _Slot(NamedTuple):
    """A transfer as one entry may have it; `side` is what that entry must be, None: the transfer is none of ours."""

    transfer: Transfer
    side: EntryType | None


def differences(
    expectation: Expectation, transfer: Transfer, side: EntryType | None, terms: Terms
) -> tuple[Kind, ...]:
    """Return in what an entry and a transfer differ, the gravest first; nothing when they agree."""
    found = set()
    if side is not None and side is not expectation.entry_type:
        found.add(Kind.DIRECTION_MISMATCH)
    token = terms.tokens.get(transfer.token)
    if token is None or token.asset != expectation.asset or not is_of(token, expectation.token):
        found.add(Kind.ASSET_MISMATCH)
    if side is None or not _same_addresses(expectation, transfer):
        found.add(Kind.ADDRESS_MISMATCH)
    if token is not None and not _same_amount(expectation, transfer, token, terms):
        found.add(Kind.AMOUNT_MISMATCH)
    return tuple(kind for kind in _GRAVEST_FIRST if kind in found)


def _same_addresses(expectation: Expectation, transfer: Transfer) -> bool:
    return expectation.sender in (None, transfer.sender) and expectation.recipient in (None, transfer.recipient)


def _same_amount(expectation: Expectation, transfer: Transfer, token: Token, terms: Terms) -> bool:
    more, scale = excess(expectation.amount, transfer.value, token.decimals)
    return abs(more) <= terms.tolerances.get(token.asset, 0) * scale


def match(
    transaction: Transaction, expectations: Iterable[Expectation], transfers: Iterable[Transfer], terms: Terms
) -> Matching:
    """Compare the entries that name `transaction` with its transfers.

    The transfers are those that are ours, or all. Each is given once; a transfer that is given twice is one.
    """
    result = Matching()
    named = sorted(expectations, key=lambda expectation: expectation.order)
    slots = _slots(transfers, terms)
    able = [expectation for expectation in named if _may_match(expectation, transaction, result)]
    taken = _assigned(able, slots, terms)
    for number, place in taken.items():
        result.findings.append(_finding(Kind.MATCHED, transaction, able[number], slots[place].transfer))
    rest = [expectation for number, expectation in enumerate(able) if number not in taken]
    used = {place: able[number] for number, place in taken.items()}
    rest = _duplicates(rest, slots, used, transaction, terms, result)
    _mismatches(rest, slots, used, transaction, terms, result)
    _leftovers(slots, used, transaction, terms, result)
    return result


def _slots(transfers: Iterable[Transfer], terms: Terms) -> list[_Slot]:
    slots = []
    for transfer in sorted(set(transfers), key=lambda transfer: transfer.log_index):
        match direction(transfer, terms.ours):
            case Direction.IN:
                slots.append(_Slot(transfer, EntryType.CREDIT))
            case Direction.OUT:
                slots.append(_Slot(transfer, EntryType.DEBIT))
            case Direction.INTERNAL:
                slots += [_Slot(transfer, EntryType.CREDIT), _Slot(transfer, EntryType.DEBIT)]
            case Direction.FOREIGN:
                slots.append(_Slot(transfer, None))
    return slots


def _may_match(expectation: Expectation, transaction: Transaction, result: Matching) -> bool:
    """Whether the transaction is one in which a transfer can be looked for; if not, say so in `result`."""
    if expectation.problem is not None:
        kind, text = Kind.MISSING_ON_CHAIN, f"what the entry names can't be: {expectation.problem}"
    elif transaction.state is State.UNKNOWN:
        kind, text = Kind.MISSING_ON_CHAIN, "the chain has no such transaction"
    elif transaction.state is State.PENDING:
        kind, text = Kind.NOT_YET_FINAL, "the transaction is in no block yet that counts as settled"
    elif transaction.state is State.FAILED:
        kind, text = Kind.FAILED_TRANSACTION, "the transaction failed: nothing was transferred"
    else:
        return True
    result.findings.append(_finding(kind, transaction, expectation, None, text))
    return False


def _assigned(able: Sequence[Expectation], slots: Sequence[_Slot], terms: Terms) -> dict[int, int]:
    """Return which slot each entry has (by their numbers): as many as can be, the earlier entries first."""
    owner: dict[int, int] = {}
    fitting = [_fitting(expectation, slots, terms) for expectation in able]
    for number in range(len(able)):
        _augment(number, fitting, owner)
    return dict(sorted((number, place) for place, number in owner.items()))


def _fitting(expectation: Expectation, slots: Sequence[_Slot], terms: Terms) -> list[int]:
    return [
        place
        for place, slot in enumerate(slots)
        if _may_be(expectation, slot) and not differences(expectation, slot.transfer, slot.side, terms)
    ]


def _may_be(expectation: Expectation, slot: _Slot) -> bool:
    return expectation.log_index in (None, slot.transfer.log_index)


def _augment(number: int, fitting: Sequence[Sequence[int]], owner: dict[int, int]) -> None:
    """Give entry `number` a slot, moving others to another of theirs if need be (Kuhn's algorithm, breadth first)."""
    came_from: dict[int, int] = {}
    to_see = [number]
    while to_see:
        current = to_see.pop(0)
        for place in fitting[current]:
            if place in came_from:
                continue
            came_from[place] = current
            if place not in owner:
                _move(place, number, came_from, owner)
                return
            to_see.append(owner[place])


def _move(place: int, number: int, came_from: Mapping[int, int], owner: dict[int, int]) -> None:
    held = {entry: at for at, entry in owner.items()}
    while True:
        entry = came_from[place]
        owner[place] = entry
        if entry == number:
            return
        place = held[entry]


def _duplicates(
    rest: Sequence[Expectation],
    slots: Sequence[_Slot],
    used: Mapping[int, Expectation],
    transaction: Transaction,
    terms: Terms,
    result: Matching,
) -> list[Expectation]:
    """Report the entries whose transfer another entry has; return the others."""
    others = []
    for expectation in rest:
        fitting = _fitting(expectation, slots, terms)
        if not fitting:
            others.append(expectation)
            continue
        first = used[fitting[0]]
        text = f"entry {first.entry_id} has this transfer already"
        result.findings.append(_finding(Kind.DUPLICATE, transaction, expectation, slots[fitting[0]].transfer, text))
    return others


def _mismatches(
    rest: Sequence[Expectation],
    slots: Sequence[_Slot],
    used: dict[int, Expectation],
    transaction: Transaction,
    terms: Terms,
    result: Matching,
) -> None:
    """Report entries and transfers that can only mean each other though they differ; else the transfer is missing."""
    busy = {slots[place].transfer.key for place in used}
    pairs = sorted(
        (len(different), _GRAVEST_FIRST.index(different[0]), number, place)
        for number, expectation in enumerate(rest)
        for place, slot in enumerate(slots)
        if slot.transfer.key not in busy and _may_be(expectation, slot)
        if (different := differences(expectation, slot.transfer, slot.side, terms))
        and _plausible(expectation, slot, different, terms)
    )
    paired: set[int] = set()
    for _, _, number, place in pairs:
        transfer = slots[place].transfer
        if number in paired or transfer.key in busy:
            continue
        paired.add(number)
        busy.add(transfer.key)
        used[place] = rest[number]
        different = differences(rest[number], transfer, slots[place].side, terms)
        text = _told(rest[number], transfer, different, terms)
        result.findings.append(_finding(different[0], transaction, rest[number], transfer, text))
    for number, expectation in enumerate(rest):
        if number not in paired:
            at = "" if expectation.log_index is None else f" at log index {expectation.log_index}"
            text = f"the transaction is there, but has no transfer{at} that the entry could mean"
            result.findings.append(_finding(Kind.MISSING_ON_CHAIN, transaction, expectation, None, text))


def _plausible(expectation: Expectation, slot: _Slot, different: Sequence[Kind], terms: Terms) -> bool:
    """Whether the entry may mean the transfer: one of ours that nobody has, or a stranger's that agrees in most."""
    match direction(slot.transfer, terms.ours):
        case Direction.INTERNAL:
            return slot.side is expectation.entry_type
        case Direction.FOREIGN:
            agrees = slot.transfer.sender == expectation.sender or slot.transfer.recipient == expectation.recipient
            return Kind.ASSET_MISMATCH not in different and (Kind.AMOUNT_MISMATCH not in different or agrees)
        case _:
            return True


def _leftovers(
    slots: Sequence[_Slot],
    used: Mapping[int, Expectation],
    transaction: Transaction,
    terms: Terms,
    result: Matching,
) -> None:
    """Say where the transfers go that no entry has."""
    busy = {slots[place].transfer.key for place in used}
    for transfer in dict.fromkeys(slot.transfer for slot in slots):
        if transfer.key in busy:
            continue
        match direction(transfer, terms.ours):
            case Direction.INTERNAL:
                result.internal.append(transfer)
            case Direction.FOREIGN:
                result.foreign.append(transfer)
            case _:
                text = "no entry names this transfer"
                result.findings.append(_finding(Kind.MISSING_IN_LEDGER, transaction, None, transfer, text))


def _finding(
    kind: Kind, transaction: Transaction, expectation: Expectation | None, transfer: Transfer | None, text: str = ""
) -> Finding:
    return Finding(kind=kind, expectation=expectation, transfer=transfer, transaction=transaction, description=text)


def _told(expectation: Expectation, transfer: Transfer, different: Sequence[Kind], terms: Terms) -> str:
    """Return in words in what an entry and a transfer differ."""
    token = terms.tokens.get(transfer.token)
    said = {
        Kind.DIRECTION_MISMATCH: lambda: (
            f"the entry is a {expectation.entry_type.lower()}, but the transfer goes "
            f"{direction(transfer, terms.ours)}"
        ),
        Kind.ASSET_MISMATCH: lambda: (
            f"the entry is of {expectation.asset}"
            f"{f' ({expectation.token})' if expectation.token else ''}, the transfer of "
            f"{f'{token.asset} ({transfer.token})' if token else f'another token, {transfer.token}'}"
        ),
        Kind.ADDRESS_MISMATCH: lambda: (
            f"the entry says from {expectation.sender or 'anyone'} to {expectation.recipient or 'anyone'}, "
            f"the transfer is from {transfer.sender} to {transfer.recipient}"
        ),
        Kind.AMOUNT_MISMATCH: lambda: (
            f"the entry is over {to_text(expectation.amount)}, the transfer over "
            f"{plain(transfer.value, token.decimals if token else SCALE)}"
        ),
    }
    return "; ".join(said[kind]() for kind in different)
