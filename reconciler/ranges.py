"""Reconciling a range of blocks once, and reporting on it."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from events.money import to_decimal
from events.types import EntryType
from reconciler.chains import Finality
from reconciler.errors import InvalidChain
from reconciler.findings import WITHDRAWN, Row
from reconciler.matching import Kind
from reconciler.reconcile import Compared, Reconciler
from reconciler.report import AssetTotals, Discrepancy, Report, discrepancy
from reconciler.transfers import Direction, Expectation, Transfer, direction, plain

MOST_LISTED: Final = 10_000
SETTLED: Final = frozenset({"explained", "ignored", "resolved"})
"""What people can say of a discrepancy so that it is not told of again."""
_STATES_AT_ONCE: Final = 5_000


@dataclass(slots=True)
class _Sums:
    """Adds up what the report tells; all that grows with the range is a set of ids and the discrepancies."""

    reconciler: Reconciler
    first: int
    last: int
    matched: set[str] = field(default_factory=set)
    wrong: dict[str, tuple[Row, Expectation | None]] = field(default_factory=dict)
    internal: set[tuple[str, int]] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)
    amounts: dict[tuple[str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def add(self, compared: Compared) -> None:
        for row in compared.rows:
            if not self._is_told(row):
                continue
            expectation = compared.expectations.get(row.entry_id) if row.entry_id else None
            if row.kind == Kind.MATCHED:
                self.matched.add(row.finding_id)
                self.wrong.pop(row.finding_id, None)
            else:
                self.wrong[row.finding_id] = (row, expectation)
            if expectation is not None and expectation.entry_id not in self.counted:
                self.counted.add(expectation.entry_id)
                side = "ledger_in" if expectation.entry_type is EntryType.CREDIT else "ledger_out"
                self.amounts[expectation.asset, side] += to_decimal(expectation.amount)
        self.internal.update(transfer.key for transfer in compared.internal)

    def _is_told(self, row: Row) -> bool:
        """Whether it is of this range: of its blocks, or of no block that is settled."""
        at = row.block_number
        if row.kind == WITHDRAWN:
            return False
        return at is None or self.first <= at <= self.last or at > self.reconciler.settled

    def add_transfer(self, transfer: Transfer) -> None:
        token = self.reconciler.terms.tokens[transfer.token]
        way = direction(transfer, self.reconciler.terms.ours)
        if way in (Direction.IN, Direction.OUT):
            self.amounts[token.asset, f"chain_{way}"] += Decimal(plain(transfer.value, token.decimals))

    def totals(self) -> list[AssetTotals]:
        assets = sorted({asset for asset, _ in self.amounts})
        sides = ("chain_in", "chain_out", "ledger_in", "ledger_out")
        return [
            AssetTotals(asset=asset, **{side: self.amounts.get((asset, side), Decimal(0)) for side in sides})
            for asset in assets
        ]


async def reconcile_blocks(
    reconciler: Reconciler,
    first: int,
    last: int | None,
    *,
    finality: Finality,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Compare the blocks `first` to `last`, or to the newest that is settled, and report.

    `on_progress` is told the block that was reached and the last.

    Raises:
        InvalidChain: the range ends before it begins.
        ChainUnavailable, ProvidersDisagree: the chain can't be read; what was compared before is kept.
        ReconciliationConflict: other processes write all the time.
    """
    if first < 0 or (last is not None and last < first):
        raise InvalidChain(f"no range of blocks: {first} to {last}")
    settled = (await reconciler.reader.settled()).number
    reconciler.settled = settled
    end = settled if last is None else min(last, settled)
    sums = _Sums(reconciler, first, end)
    at = first
    while at <= end:
        stretch, compared = await reconciler.blocks(at, end)
        sums.add(compared)
        for transfer in stretch.transfers:
            sums.add_transfer(transfer)
        at = stretch.last.number + 1
        if on_progress is not None:
            on_progress(stretch.last.number, end)
    await _add_pending(reconciler, sums)
    listed, count, seen_to = await _listed(reconciler, sums)
    return Report(
        chain=reconciler.chain.name,
        chain_id=reconciler.chain.chain_id,
        start_block=first,
        end_block=end,
        asked_end_block=last,
        settled_block=settled,
        finality=str(finality) if isinstance(finality, str) else f"{finality} confirmations",
        matched_count=len(sums.matched),
        internal_count=len(sums.internal),
        discrepancy_count=count,
        settled_count=seen_to,
        discrepancies=listed,
        totals=sums.totals(),
    )


async def _add_pending(reconciler: Reconciler, sums: _Sums) -> None:
    await reconciler.take_up()
    after = ""
    while (page := await reconciler.pending(after, settled=True)) is not None:
        after, compared = page
        sums.add(compared)


async def _listed(reconciler: Reconciler, sums: _Sums) -> tuple[list[Discrepancy], int, int]:
    """Return the discrepancies that nobody has seen to, as many as are listed; how many those are, and the others."""
    wrong = sorted(sums.wrong.values(), key=lambda found: _order(found[0]))
    states: dict[str, str] = {}
    for begin in range(0, len(wrong), _STATES_AT_ONCE):
        ids = [row.discrepancy_id or "" for row, _ in wrong[begin : begin + _STATES_AT_ONCE]]
        states |= await reconciler.store.states(ids)
    still = [(row, named) for row, named in wrong if states.get(row.discrepancy_id or "") not in SETTLED]
    tokens = reconciler.terms.tokens
    listed = [
        discrepancy(row, named, tokens, states.get(row.discrepancy_id or "", "open"))
        for row, named in still[:MOST_LISTED]
    ]
    return listed, len(still), len(wrong) - len(still)


def _order(row: Row) -> tuple[int, str, int, str]:
    at = row.block_number if row.block_number is not None else 2**62
    return at, row.tx_hash, row.log_index if row.log_index is not None else -2, row.finding_id
