"""The order in which a ledger is verified: which ends are asked for first, what is read once, and by whom.

The ledger may be in use. One moment of the tables is taken first, then the ends of outcomes and checkpoints, then the
end of the events: so whatever the first ones speak of is among the events that are read.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from events.checkpoint import Verifier
from events.checks import CheckResult, LogAudit
from events.errors import LogCorrupt
from events.follow import Ends, SequenceCheck, StoredEvent, read_between
from events.tree_audit import TreeAudit
from events.types import BatchPosted, BatchRejected
from partita.results import to_micros
from partita.verify.lag import handler_lag, projection_lag
from partita.verify.mirrored import MirrorAudit
from partita.verify.outcomes import MOST_OUTCOMES, OutcomeAudit
from partita.wiring import Wiring
from projections.balances import BALANCES
from projections.checks import checks_within
from projections.comparison import Comparison, Difference
from projections.mirror import MIRROR
from projections.proofs.audit import TileAudit
from projections.proofs.projection import PROOFS
from projections.roles import Access

ANSWER: Final = 30.0
"""Seconds for one answer of Kafka, and for batches in flight to be answered."""

_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found, by the place that was looked at; a `detail` names the first record that breaks a check."""

    ledger: str
    found: Mapping[str, Sequence[CheckResult]]
    events: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return all(result.ok for results in self.found.values() for result in results)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        checks = [{"place": place, **asdict(result)} for place, results in self.found.items() for result in results]
        return {
            "ledger": self.ledger,
            "ok": self.ok,
            "events": self.events,
            "seconds": round(self.seconds, 2),
            "checks": checks,
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of the records that the ledger has have been read."""

    done: int
    total: int


async def verify(
    wiring: Wiring,
    *,
    verifiers: Sequence[Verifier] = (),
    since: datetime | None = None,
    patience: float = ANSWER,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Verification:
    """Look for everything that must always hold in the log, in what was told and signed, and in the tables.

    Checkpoints may be signed by `verifiers`; when there are none, by the keys that are known here. The log is always
    read whole, since what must hold of it needs all of it; with `since`, only what was recorded from then on is held
    against tables and mirror. Who lags behind gets `patience` seconds to catch up.

    Raises:
        BrokerUnavailable, RegistryUnavailable, ReadModelUnavailable, TopicMissing: it could not be looked at.
    """
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        comparison = await stack.enter_async_context(Comparison(wiring.database(Access.READ)))
        keys = verifiers or wiring.settings.signing_keys.verifiers()
        partitions = await asyncio.to_thread(wiring.partition_count)
        begin = to_micros(since) if since else 0
        tiles = TileAudit(comparison.fetch, await comparison.next_sequences(PROOFS), begin)
        run = _Run(wiring, comparison, partitions, keys, tiles, begin, patience, on_progress)
        if mirrored := await comparison.next_sequences(MIRROR):
            mirror = wiring.mirror()
            stack.callback(mirror.database.close)
            run.mirror = MirrorAudit(mirror, mirrored)
        found = await run.found()
    seconds = time.monotonic() - began
    return Verification(ledger=wiring.settings.ledger, found=found, events=run.log.events, seconds=seconds)


@dataclass(slots=True)
class _Run:
    wiring: Wiring
    comparison: Comparison
    partitions: int
    verifiers: Sequence[Verifier]
    tiles: TileAudit
    since: int
    """Microseconds since 1970."""
    patience: float
    on_progress: Callable[[Progress], None]
    log: LogAudit = field(default_factory=LogAudit)
    shown: Mapping[int, int] = field(default_factory=dict)
    """By partition, the sequence that the tables show next."""
    compared: int = 0
    difference: Difference | None = None
    mirror: MirrorAudit | None = None
    checks: dict[int, SequenceCheck] = field(default_factory=dict)
    corrupt: dict[int, LogCorrupt] = field(default_factory=dict)

    async def found(self) -> dict[str, Sequence[CheckResult]]:
        self.shown = await self.comparison.next_sequences(BALANCES)
        asked = await asyncio.to_thread(self._settled_ends, self.wiring.topics.commands, range(self.partitions))
        outcomes = await asyncio.to_thread(self._outcomes)
        open_from = await asyncio.to_thread(self._settled_ends, self.wiring.topics.checkpoints, [0])
        ends = await asyncio.to_thread(self._settled_ends, self.wiring.topics.events, range(self.partitions))
        trees = await asyncio.to_thread(self._trees, open_from[0])
        await self._read((self.log, outcomes, trees), ends)
        in_flight = await asyncio.to_thread(self._in_flight, ends)
        tables = await checks_within(self.comparison.connection, self.wiring.settings.postgres_schema)
        found: dict[str, Sequence[CheckResult]] = {
            "log": [*self._of_the_log(in_flight), outcomes.result()],
            "checkpoints": [trees.result()],
            "tables": [self._of_the_rows(), await self.tiles.result(), *tables],
        }
        if self.mirror is not None:
            found["mirror"] = [self.mirror.result()]
        found["lag"] = await self._lag(asked)
        return found

    async def _lag(self, asked: Mapping[int, int]) -> list[CheckResult]:
        last = {partition: following - 1 for partition, following in self.log.next_sequences.items()}
        projections = await self.comparison.projections()
        handler = await handler_lag(self.wiring, asked, self.patience)
        halted = await self.comparison.halted()
        stopped = CheckResult(
            "I9 halted",
            "no partition of a projection has stopped",
            not halted,
            len(projections),
            "; ".join(halted) or None,
        )
        return [handler, stopped, *await projection_lag(self.wiring, projections, last, self.patience)]

    def _outcomes(self) -> OutcomeAudit:
        """Read the last outcomes of each partition."""
        clients, topic, partitions = self.wiring.clients, self.wiring.topics.outcomes, range(self.partitions)
        ends = Ends(clients)
        oldest = ends.oldest(topic, partitions, timeout=ANSWER)
        stable = ends.stable(topic, partitions, timeout=ANSWER)
        starts = {p: max(oldest[p], stable[p] - MOST_OUTCOMES) for p in partitions}
        firsts: dict[int, int] = {}
        audit = OutcomeAudit(self.wiring.outcome_codec)
        for records in read_between(clients, topic, starts, stable, idle_timeout=ANSWER):
            for record in records:
                firsts.setdefault(record.partition, record.timestamp * 1000)
                audit.take_outcome(record)
        cut_short = [firsts[p] for p, start in starts.items() if start and p in firsts]
        audit.complete_from = max(cut_short, default=0)
        return audit

    def _trees(self, open_from: int) -> TreeAudit:
        """Read all checkpoints."""
        topic = self.wiring.topics.checkpoints
        audit = TreeAudit(self.wiring.settings.origin, self.partitions, self.verifiers, open_from)
        end = self._settled_ends(topic, [0])
        for records in read_between(self.wiring.clients, topic, {0: 0}, end, idle_timeout=ANSWER):
            for record in records:
                audit.take_checkpoint(record)
        return audit

    def _settled_ends(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """Return where partitions of a topic end, once every transaction that is begun now is over."""
        ends = Ends(self.wiring.clients)
        high = ends.high(topic, partitions, timeout=ANSWER)
        deadline = time.monotonic() + ANSWER
        while True:
            stable = ends.stable(topic, partitions, timeout=ANSWER)
            if all(stable[p] >= end for p, end in high.items()) or time.monotonic() > deadline:
                return stable
            time.sleep(_PAUSE)

    async def _read(self, audits: Sequence[LogAudit | OutcomeAudit | TreeAudit], ends: Mapping[int, int]) -> None:
        total = sum(ends.values())
        stretches = self._stretches(dict.fromkeys(ends, 0), ends)
        while (stretch := await asyncio.to_thread(next, stretches, None)) is not None:
            for stored in stretch:
                for audit in audits:
                    audit.take(stored)
            recent = [stored for stored in stretch if stored.event.recorded_at >= self.since]
            await self._compare(recent)
            await self.tiles.take(stretch)
            if self.mirror is not None:
                await asyncio.to_thread(self.mirror.take, recent)
            self.on_progress(Progress(self.log.events, max(total, self.log.events)))

    def _stretches(self, starts: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[list[StoredEvent]]:
        """Yield the events from `starts`, which come next, to `ends`; a partition ends at what can't be its next."""
        topic, codec = self.wiring.topics.events, self.wiring.event_codec
        for records in read_between(self.wiring.clients, topic, starts, ends, idle_timeout=ANSWER):
            stretch = []
            for record in records:
                if record.partition in self.corrupt:
                    continue
                try:
                    check = self.checks.setdefault(record.partition, SequenceCheck(record.partition))
                    stretch.append(check.decode(codec, record))
                except LogCorrupt as error:
                    self.corrupt[record.partition] = error
            yield stretch

    async def _compare(self, stretch: list[StoredEvent]) -> None:
        """Hold a stretch against the tables, as far as they have come; nothing more after the first difference."""
        shown = [stored for stored in stretch if stored.event.sequence < self.shown.get(stored.partition, 0)]
        if shown and self.difference is None:
            self.compared += len(shown)
            self.difference = await self.comparison.first_difference(shown)

    def _in_flight(self, ends: Mapping[int, int]) -> Collection[str]:
        """Return the batches that had no answer, and got one while this waited: they were only in flight."""
        waiting = self.log.batches.unanswered()
        deadline = time.monotonic() + ANSWER
        answered: set[str] = set()
        starts = dict(ends)
        while waiting - answered and not self.corrupt and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            now = self._settled_ends(self.wiring.topics.events, range(self.partitions))
            for stretch in self._stretches(starts, now):
                events = (stored.event for stored in stretch)
                answered |= {event.command_id for event in events if isinstance(event, BatchPosted | BatchRejected)}
            starts = now
        return waiting & answered

    def _of_the_log(self, in_flight: Collection[str]) -> list[CheckResult]:
        results = self.log.results(in_flight)
        if self.corrupt:
            first = self.corrupt[min(self.corrupt)]
            title = "every record of the log is the next event of its partition"
            results.insert(0, CheckResult("I5 log", title, False, self.log.events, first.message))
        return results

    def _of_the_rows(self) -> CheckResult:
        found = None if self.difference is None else str(self.difference)
        return CheckResult(
            "I7 rows", "every event has its row, which says the same", found is None, self.compared, found
        )
