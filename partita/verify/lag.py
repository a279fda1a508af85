"""Lag (I9): what there was to do when a verification began must be done by its end, or soon after."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Final

from confluent_kafka import KafkaException, TopicPartition

from events.checks import CheckResult
from events.clients import unavailable
from events.follow import Ends, read_between
from partita.wiring import Wiring
from projections.errors import ReadModelBehind

_PAUSE: Final = 0.2
_ANSWER: Final = 10.0


async def projection_lag(
    wiring: Wiring, projections: Iterable[str], wanted: Mapping[int, int], patience: float
) -> list[CheckResult]:
    """Return for each projection whether it has taken the event at each sequence of `wanted`, within `patience`."""
    return [await _projection_lag(wiring, projection, wanted, patience) for projection in projections]


async def _projection_lag(wiring: Wiring, name: str, wanted: Mapping[int, int], patience: float) -> CheckResult:
    async with wiring.read_model(name) as positions:
        try:
            await positions.wait_for(wanted, patience)
            behind = None
        except ReadModelBehind as error:
            behind = error.message
    title = f"the projection {name} has all events that there were"
    return CheckResult(f"I9 {name}", title, behind is None, len(wanted), behind)


async def handler_lag(wiring: Wiring, ends: Mapping[int, int], patience: float) -> CheckResult:
    """Return whether handlers have taken all commands before the offsets in `ends`, within `patience`."""
    deadline = time.monotonic() + patience
    while True:
        left = await asyncio.to_thread(_left, wiring, ends)
        if not left or time.monotonic() > deadline:
            break
        await asyncio.sleep(_PAUSE)
    told = "; ".join(f"partition {p}: {count} from offset {first} on" for p, (first, count) in sorted(left.items()))
    title = "handlers have taken all commands that there were"
    return CheckResult("I9 handler", title, not left, len(ends), told[:500] or None)


def _left(wiring: Wiring, ends: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    """Return of partitions with commands that were not taken the first one's offset, and how many there are.

    Offsets alone don't tell: markers of transactions take some too, and are passed over now and then. Of those that
    were deleted meanwhile nobody knows what they were: they count.
    """
    committed = _committed(wiring, ends)
    behind = {p: max(committed.get(p, 0), 0) for p, end in ends.items() if committed.get(p, 0) < end}
    oldest = Ends(wiring.clients).oldest(wiring.topics.commands, behind, timeout=_ANSWER) if behind else {}
    left = {p: (at, oldest[p] - at) for p, at in behind.items() if oldest[p] > at}
    starts = {p: max(at, oldest[p]) for p, at in behind.items()}
    for records in read_between(wiring.clients, wiring.topics.commands, starts, {p: ends[p] for p in starts}):
        for record in records:
            first, count = left.get(record.partition, (record.offset, 0))
            left[record.partition] = first, count + 1
    return left


def _committed(wiring: Wiring, partitions: Iterable[int]) -> dict[int, int]:
    """Return the offsets that the group of the handlers has committed, be a transaction open that moves them.

    It asks as a consumer that never joins: the admin client's own call can end the process (docs/adr/0018).
    """
    wanted = [TopicPartition(wiring.topics.commands, p) for p in partitions]
    asking = wiring.clients.consumer(wiring.handler_group, isolation_level="read_uncommitted")
    try:
        found = asking.committed(wanted, _ANSWER)
    except KafkaException as error:
        raise unavailable(wiring.clients, error) from error
    finally:
        asking.close()
    return {tp.partition: tp.offset for tp in found if tp.error is None}
