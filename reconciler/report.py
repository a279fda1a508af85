"""What a reconciliation tells: how much was matched, every discrepancy, and sums by asset. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from events.money import to_decimal
from events.types import EntryType
from reconciler.chains import Token
from reconciler.findings import Row
from reconciler.matching import Kind
from reconciler.transfers import Expectation, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSide:
    """The entry, and what it says of the chain. `amount` is in whole units."""

    entry_id: str
    account_id: str
    entry_type: EntryType
    amount: Decimal
    asset: str
    token: str | None
    sender: str | None
    recipient: str | None
    log_index: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSide:
    """The transfer. `amount` is in whole tokens, None for a token that is not configured; `value` in base units."""

    transaction_hash: str
    log_index: int | None
    block_number: int | None
    block_hash: str | None
    token: str
    asset: str | None
    sender: str
    recipient: str
    value: int
    amount: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """Something that ledger and chain don't say alike. `discrepancy_id` is the same each time that it is found.

    `state` is what was last said of it: open, explained, ignored, resolved, reopened.
    """

    discrepancy_id: str
    type: Kind
    description: str
    transaction_hash: str
    ledger: LedgerSide | None
    chain: ChainSide | None
    state: str = "open"

    @property
    def ledger_amount(self) -> Decimal | None:
        """What the ledger says, in whole units."""
        return self.ledger.amount if self.ledger else None

    @property
    def chain_amount(self) -> Decimal | None:
        """What the chain says, in whole tokens."""
        return self.chain.amount if self.chain else None

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: amounts as plain decimals."""
        fields: dict[str, Any] = _plain(asdict(self))
        return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetTotals:
    """Sums of one asset over the range, in whole units: what came in and went out, by the chain and by the ledger."""

    asset: str
    chain_in: Decimal = Decimal(0)
    chain_out: Decimal = Decimal(0)
    ledger_in: Decimal = Decimal(0)
    ledger_out: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of comparing blocks `start_block` to `end_block` of a chain.

    `end_block` is the last that was read: the one that was asked for, or the last that counted as settled by the
    rule `finality`. `discrepancies` are those that nobody has seen to, `MOST_LISTED` of them if there are more;
    `discrepancy_count` counts all of them, `settled_count` those that were explained, ignored or resolved.
    `internal_count` counts transfers between addresses that are both ours, which need no entry.
    """

    chain: str
    chain_id: int
    start_block: int
    end_block: int
    asked_end_block: int | None
    settled_block: int
    finality: str
    matched_count: int
    internal_count: int
    discrepancy_count: int
    settled_count: int
    discrepancies: Sequence[Discrepancy]
    totals: Sequence[AssetTotals]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: amounts as plain decimals."""
        fields: dict[str, Any] = _plain(asdict(self))
        return fields


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return f"{value:f}"
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case str():
            return str(value)
        case _:
            return value


def discrepancy(row: Row, expectation: Expectation | None, tokens: Mapping[str, Token], state: str) -> Discrepancy:
    """Return a finding that is none that matches as what is told of it."""
    assert row.discrepancy_id is not None
    return Discrepancy(
        discrepancy_id=row.discrepancy_id,
        type=Kind(row.kind),
        description=row.description,
        transaction_hash=row.tx_hash,
        ledger=None if expectation is None else _ledger_side(expectation),
        chain=None if row.token is None else _chain_side(row, tokens),
        state=state,
    )


def _ledger_side(expectation: Expectation) -> LedgerSide:
    return LedgerSide(
        entry_id=expectation.entry_id,
        account_id=expectation.account_id,
        entry_type=expectation.entry_type,
        amount=to_decimal(expectation.amount),
        asset=expectation.asset,
        token=expectation.token,
        sender=expectation.sender,
        recipient=expectation.recipient,
        log_index=expectation.log_index,
    )


def _chain_side(row: Row, tokens: Mapping[str, Token]) -> ChainSide:
    assert row.token is not None
    assert row.value is not None
    token = tokens.get(row.token)
    return ChainSide(
        transaction_hash=row.tx_hash,
        log_index=None if row.log_index is None or row.log_index < 0 else row.log_index,
        block_number=row.block_number,
        block_hash=row.block_hash,
        token=row.token,
        asset=token.asset if token else None,
        sender=row.sender or "",
        recipient=row.recipient or "",
        value=row.value,
        amount=Decimal(plain(row.value, token.decimals)) if token else None,
    )
