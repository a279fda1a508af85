"""Comparing a stretch of a chain with the entries that name its transactions: gather, decide, write.

A comparison is over whole transactions: all entries that name one, and all its transfers that could be meant. A range
of blocks says which transactions there are; an entry whose transaction is not among them has it looked up. What is
found is written when nothing that it rests on has changed meanwhile, and is compared anew when it has.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeVar

from reconciler.chains import Chain
from reconciler.errors import ChainUnavailable, ReconciliationConflict, ReorganisedTooDeep, TooManyAddresses
from reconciler.findings import Row
from reconciler.matching import Finding, Kind, Matching, State, Terms, Transaction, match
from reconciler.reading import ChainReader, Stretch
from reconciler.store import ChainStore, Cursor, Scope
from reconciler.transfers import Expectation, Transfer

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_CONFLICTS: Final = 20
PENDING_AT_ONCE: Final = 500
MOST_ADDRESSES: Final = 100_000


class _Changed(ChainUnavailable):
    """The chain is not what it was when the range was read."""


class Compared(NamedTuple):
    """What was found in one scope: the rows that hold now, and all that they are of."""

    rows: list[Row]
    expectations: Mapping[str, Expectation]
    transfers: Sequence[Transfer]
    internal: Sequence[Transfer]


@dataclass(slots=True)
class Reconciler:
    """Compares one chain with the ledger."""

    chain: Chain
    reader: ChainReader
    store: ChainStore
    terms: Terms
    settled: int = 0
    conflicts: int = field(default=0, init=False)
    _learned: int = field(default=0, init=False)

    async def learn_addresses(self) -> None:
        """Take for ours the addresses that entries name as ours, when nobody has said which they are.

        Raises:
            TooManyAddresses: there are more than can be looked for.
        """
        ours, learned = self.terms.ours, self._learned
        while (found := await self.store.ours(self.chain.names, learned))[1] > learned:
            ours, learned = ours | found[0], found[1]
            if len(ours) > MOST_ADDRESSES:
                raise TooManyAddresses(
                    f"entries name more than {MOST_ADDRESSES:,} addresses of {self.chain.name} as ours: say with "
                    "PARTITA_CHAIN_ADDRESSES which are",
                    most=MOST_ADDRESSES,
                )
        self.terms = replace(self.terms, ours=ours)
        self.reader.ours = ours
        self._learned = learned

    async def blocks(self, first: int, last: int, *, move: Cursor | None = None) -> tuple[Stretch, Compared]:
        """Compare the blocks from `first`, up to `last` or less far; with `move`, the cursor goes from it to the end.

        Raises:
            ReconciliationConflict: another process moves the cursor.
            ChainUnavailable, ProvidersDisagree: the chain can't be read.
        """
        return await self._until_the_same(lambda: self._blocks(first, last, move))

    async def _until_the_same(self, compare: Callable[[], Awaitable[T]]) -> T:
        said = ""
        for attempt in range(MOST_CONFLICTS):
            try:
                return await compare()
            except _Changed as changed:
                said = changed.message
                log.info("%s: %s; reading it again", self.chain.name, said)
                await self.reader.pause(attempt)
        raise ChainUnavailable(f"{self.chain.name} changes each time that it is read: {said}")

    async def _blocks(self, first: int, last: int, move: Cursor | None) -> tuple[Stretch, Compared]:
        stretch = await self.reader.read(first, last)
        groups: dict[str, list[Transfer]] = defaultdict(list)
        for transfer in stretch.transfers:
            groups[transfer.tx_hash].append(transfer)
        blocks = (first, stretch.last.number)
        to = Cursor(stretch.last.number, stretch.last.hash)
        compared = await self._until_written(
            lambda: self._compare(groups, blocks, None if move is None else (move, to)), is_moving=move is not None
        )
        return stretch, compared

    async def take_up(self) -> int:
        """Have all entries that are new among those that are open; return how many that were."""
        count = 0
        while found := await self.store.take_up(self.chain.names_of_entries, self.chain.chain_id):
            count += found
        return count

    async def pending(self, after: str = "", *, settled: bool) -> tuple[str, Compared] | None:
        """Look up the transactions of entries that are open, some at a time in the order of ids; None: no more.

        With `settled` also of those that are missing and that people have seen to.
        """
        names, chain_id = self.chain.names_of_entries, self.chain.chain_id
        some = await self.store.pending(names, chain_id, after, PENDING_AT_ONCE, settled=settled)
        if not some:
            return None
        tx_hashes = sorted({expectation.tx_hash for expectation in some})
        groups: dict[str, list[Transfer]] = {tx_hash: [] for tx_hash in tx_hashes}
        compared = await self._until_the_same(
            lambda: self._until_written(lambda: self._compare(groups, None, None)),
        )
        return some[-1].entry_id, compared

    async def _until_written(
        self, compare: Callable[[], Awaitable[Compared]], *, is_moving: bool = False
    ) -> Compared:
        for attempt in range(MOST_CONFLICTS):
            try:
                return await compare()
            except ReconciliationConflict:
                if attempt + 1 == MOST_CONFLICTS or is_moving:
                    raise
                self.conflicts += 1
        raise AssertionError("a try returns or raises")

    async def _compare(
        self,
        groups: Mapping[str, Sequence[Transfer]],
        blocks: tuple[int, int] | None,
        move: tuple[Cursor, Cursor] | None,
    ) -> Compared:
        names, chain_id = self.chain.names_of_entries, self.chain.chain_id
        before = await self.store.in_blocks(chain_id, *blocks) if blocks else []
        tx_hashes = [*dict.fromkeys([*groups, *(row.tx_hash for row in before if row.entry_id)])]
        expected: dict[str, list[Expectation]] = defaultdict(list)
        count = 0
        for expectation in await self.store.expected(names, tx_hashes):
            expected[expectation.tx_hash].append(expectation)
            count += 1
        matchings = await self._matchings(tx_hashes, expected, groups)
        await self._check_unknown(matchings)
        findings = [finding for matching in matchings for finding in matching.findings]
        scope = Scope(names=names, tx_hashes=tx_hashes, expected=count, blocks=blocks)
        rows = await self.store.write(chain_id, scope, findings, move=move)
        return Compared(
            rows,
            {e.entry_id: e for some in expected.values() for e in some},
            [t for transfers in groups.values() for t in transfers] or _transfers_of(findings),
            [transfer for matching in matchings for transfer in matching.internal],
        )

    async def _matchings(
        self,
        tx_hashes: Sequence[str],
        expected: Mapping[str, Sequence[Expectation]],
        groups: Mapping[str, Sequence[Transfer]],
    ) -> list[Matching]:
        """Compare transactions; a receipt is asked for only where transfers that are ours leave an entry open."""
        done = {tx: self._at_once(tx, expected.get(tx, ()), groups.get(tx, ())) for tx in tx_hashes}
        others = [tx for tx, matching in done.items() if matching is None]
        looked = await asyncio.gather(
            *(self._looked_up(tx, expected.get(tx, ()), groups.get(tx, ())) for tx in others)
        )
        return [*(matching for matching in done.values() if matching is not None), *looked]

    def _at_once(
        self, tx_hash: str, expected: Sequence[Expectation], transfers: Sequence[Transfer]
    ) -> Matching | None:
        if transfers:
            where = Transaction(tx_hash, State.DONE, transfers[0].block_number, transfers[0].block_hash)
            matching = match(where, expected, transfers, self.terms)
            is_open = any(finding.kind is not Kind.MATCHED and finding.expectation for finding in matching.findings)
            return None if is_open else matching
        if all(expectation.problem for expectation in expected):
            return match(Transaction(tx_hash, State.UNKNOWN), expected, transfers, self.terms)
        return None

    async def _looked_up(
        self, tx_hash: str, expected: Sequence[Expectation], transfers: Sequence[Transfer]
    ) -> Matching:
        transaction, found = await self.reader.lookup(tx_hash, self.settled)
        if transfers and transaction.block_hash != transfers[0].block_hash:
            raise _Changed(f"transaction {tx_hash} has left its block")
        return match(transaction, expected, {*found, *transfers}, self.terms)

    async def _check_unknown(self, matchings: Sequence[Matching]) -> None:
        """See that no transaction is said to be unknown whose block, where it was found before, is still there."""
        unknown = {
            finding.transaction.tx_hash
            for matching in matchings
            for finding in matching.findings
            if finding.transaction is not None and finding.transaction.state is State.UNKNOWN
        }
        places = await self.store.places(self.chain.chain_id, unknown) if unknown else {}
        for tx_hash, (number, block_hash) in places.items():
            if await self.reader.hash_at(number) == block_hash:
                raise _Changed(f"block {number} is what it was, but of its transaction {tx_hash} nothing is said")

    async def walk_back(self, cursor: Cursor) -> Cursor | None:
        """Return None if the cursor's block is still there; if not, go back to one that is, and return it.

        Raises:
            ChainUnavailable: the chain ends before the cursor, and nothing shows that it is another one.
            ReorganisedTooDeep: none of the blocks where the cursor has been is there any more.
        """
        found = await self.reader.hash_at(cursor.number)
        if found == cursor.hash:
            return None
        is_shorter = found is None
        for mark in await self.store.marks(self.chain.chain_id):
            if mark.number >= cursor.number or (found := await self.reader.hash_at(mark.number)) is None:
                continue
            if found == mark.hash:
                if is_shorter:
                    raise ChainUnavailable(
                        f"{self.chain.name}: there is no block {cursor.number} now, which was compared, and block "
                        f"{mark.number} is what it was: the node is behind"
                    )
                log.warning(
                    "%s: block %d is another one now: going back to %d", self.chain.name, cursor.number, mark.number
                )
                await self.store.rewind(self.chain.chain_id, cursor, mark)
                return mark
            is_shorter = False
        raise ReorganisedTooDeep(
            f"{self.chain.name}: no block that was compared is on the chain any more, as far back as they are kept",
            chain=self.chain.name,
            block=cursor.number,
        )


def _transfers_of(findings: Iterable[Finding]) -> list[Transfer]:
    return [*dict.fromkeys(finding.transfer for finding in findings if finding.transfer is not None)]
