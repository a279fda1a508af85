"""Replaying the log for one's own consumers: events of a stretch, decoded, as JSON.

Owns where a stretch begins and ends, and what an event is as JSON. Amounts are text, times are in ISO 8601. The order
is that of each partition; between partitions there is none.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from events.codec import EventCodec
from events.errors import LedgerError
from events.follow import Ends, Record, SequenceCheck, StoredEvent, decoded, read_between
from events.money import to_text
from partita.results import from_micros
from partita.wiring import Wiring

_ANSWER: Final = 30.0
_AMOUNTS: Final = frozenset({"amount", "running_balance", "balance", "held", "remaining", "floor"})
_TIMES: Final = frozenset({"recorded_at", "effective_at", "expires_at"})


class InvalidPlace(LedgerError):
    """What should say where a replay begins or ends does not."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"{text[:80]!r} is no place of the log: {reason}", place=text[:80], reason=reason)


Place = datetime | Mapping[int, int] | None
"""A time, or an offset by partition; None is the beginning or the end of the log."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets by partition: the first one to read, and the one to stop before."""

    starts: Mapping[int, int]
    ends: Mapping[int, int]

    @property
    def total(self) -> int:
        """How many records it has, markers of transactions included."""
        return sum(end - self.starts[partition] for partition, end in self.ends.items())


def place_of(text: str) -> Place:
    """Return the place that `text` names: earliest, latest, an ISO 8601 time with zone, or `0:1500,3:20`.

    Raises:
        InvalidPlace: it names none.
    """
    if text in ("earliest", "latest"):
        return None
    try:
        pairs = [part.split(":") for part in text.split(",")]
        if all(len(pair) == 2 and all(word.isascii() and word.isdigit() for word in pair) for pair in pairs):
            return {int(partition): int(offset) for partition, offset in pairs}
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidPlace(text, "give earliest, latest, a time, or partition:offset,...") from None
    if time.utcoffset() is None:
        raise InvalidPlace(text, "a time needs its zone")
    return time


def stretch_of(wiring: Wiring, begin: Place, end: Place) -> Stretch:
    """Return the stretch from `begin` up to `end`, both within what the log has now.

    A time is that of Kafka's records: the first of that time or later. Of partitions that a place by offsets does not
    name, nothing is read.

    Raises:
        InvalidPlace: it names a partition that is not there.
        BrokerUnavailable, TopicMissing: the log can't be looked at.
    """
    topic, partitions = wiring.topics.events, range(wiring.partition_count())
    ends = Ends(wiring.clients)
    oldest = ends.oldest(topic, partitions, timeout=_ANSWER)
    stable = ends.stable(topic, partitions, timeout=_ANSWER)

    def offsets(place: Place, otherwise: Mapping[int, int]) -> Mapping[int, int]:
        match place:
            case None:
                return otherwise
            case datetime():
                at = int(place.timestamp() * 1000)
                found = ends.since(topic, partitions, at, timeout=_ANSWER)
                return {p: stable[p] if offset < 0 else offset for p, offset in found.items()}
            case _:
                if strange := place.keys() - {*partitions}:
                    raise InvalidPlace(f"{min(strange)}:...", f"the ledger has {len(partitions)} partitions, from 0")
                return place

    first, last = offsets(begin, oldest), offsets(end, stable)
    starts = {p: max(first[p], oldest[p]) for p in first.keys() & last.keys()}
    stops = {p: min(last[p], stable[p]) for p in starts}
    chosen = sorted(p for p, start in starts.items() if start < stops[p])
    return Stretch({p: starts[p] for p in chosen}, {p: stops[p] for p in chosen})


@dataclass(frozen=True, slots=True)
class Replayed:
    """An event as JSON-ready data, and the key of its record."""

    key: bytes | None
    told: dict[str, Any]

    def line(self) -> bytes:
        """Return it as one line of JSON, without an end."""
        return json.dumps(self.told, ensure_ascii=False, separators=(",", ":")).encode()


def replay(
    wiring: Wiring, stretch: Stretch, on_progress: Callable[[int, int], None] = lambda *_: None
) -> Iterator[Replayed]:
    """Yield every event of `stretch`, checked; `on_progress` is told how much of how much is read. Memory is bounded.

    Raises:
        LogCorrupt: at the first event that breaks the order or is none.
        BrokerUnavailable, RegistryUnavailable: it could not be read to the end.
    """
    if not stretch.total:
        return
    codec, checks = wiring.event_codec, dict[int, SequenceCheck]()
    reached = dict(stretch.starts)
    for records in read_between(wiring.clients, wiring.topics.events, stretch.starts, stretch.ends):
        for record in records:
            yield Replayed(record.key, event_data(_checked(checks, codec, record)))
            reached[record.partition] = record.offset + 1
        on_progress(sum(reached[p] - start for p, start in stretch.starts.items()), stretch.total)


def _checked(checks: dict[int, SequenceCheck], codec: EventCodec, record: Record) -> StoredEvent:
    """Return the event; the first of a partition says with which sequence the stretch begins."""
    check = checks.get(record.partition)
    if check is None:
        first = decoded(codec, record).event
        check = checks[record.partition] = SequenceCheck(record.partition, first.sequence, first.writer_epoch)
    return check.decode(codec, record)


def event_data(stored: StoredEvent) -> dict[str, Any]:
    """Return an event as JSON-ready data: its place, its type, and its fields by name."""
    place = {"partition": stored.partition, "offset": stored.offset}
    return {**place, "type": type(stored.event).__name__, **_fields(stored.event)}


def _fields(record: Any) -> dict[str, Any]:
    return {name: _told(name, value) for name, value in record._asdict().items()}


def _told(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _AMOUNTS:
        return to_text(value)
    if name in _TIMES:
        return _time(value)
    if name == "metadata":
        return json.loads(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_fields(item) if hasattr(item, "_asdict") else item for item in value]
    return value


def _time(micros: int) -> str | int:
    """Return a time as text; one outside the years 1 to 9999, which a requester may choose, as microseconds."""
    try:
        return from_micros(micros).isoformat()
    except OverflowError:
        return micros
