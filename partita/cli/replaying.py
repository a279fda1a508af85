"""`partita replay`: a stretch of the log for one's own consumers."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer
from confluent_kafka import KafkaError, Message, Producer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from events.errors import BrokerUnavailable
from partita.cli.output import Json, err, errors_told, print_json
from partita.replay import Replayed, Stretch, place_of, replay, stretch_of
from partita.settings import Settings
from partita.wiring import Wiring

_FLUSH: Final = 60.0
_POLL_EVERY: Final = 1000
_LINE_EVERY: Final = 5.0

Taken = Callable[[KafkaError | None, Message], None]


def replay_command(
    begin: Annotated[
        str,
        typer.Option("--from", help="earliest, an ISO 8601 time with zone, or partition:offset,partition:offset,..."),
    ] = "earliest",
    end: Annotated[
        str, typer.Option("--to", help="Stop before: latest (the end as it is now), or as --from.")
    ] = "latest",
    to_json: Annotated[
        str | None, typer.Option(help="A file for the events, one JSON object a line; - is stdout.")
    ] = None,
    to_topic: Annotated[
        str | None, typer.Option(help="A topic of your own for the events, as JSON; it must exist.")
    ] = None,
    json: Json = False,
) -> None:
    """Give the events of a stretch of the log to your own consumers, decoded, as JSON. The ledger may be in use.

    Amounts are text, times are ISO 8601. The order is that of each partition; a topic gets the keys of the log, so
    that the events of an account stay in their order. Nothing of the ledger is changed.
    """
    if (to_json is None) == (to_topic is None):
        raise typer.BadParameter("give one of --to-json and --to-topic")
    if json and to_json == "-":
        raise typer.BadParameter("--json prints the result on stdout, where --to-json - writes the events")
    if begin == "latest" or end == "earliest":
        raise typer.BadParameter("there is nothing from the latest on, or before the earliest")
    with errors_told(as_json=json), closing(Wiring(Settings())) as wiring:
        if to_topic in wiring.topics.settings():
            raise typer.BadParameter(f"{to_topic} is a topic of the ledger itself")
        stretch = stretch_of(wiring, place_of(begin), place_of(end))
        began = time.monotonic()
        count = _to_topic(wiring, stretch, to_topic) if to_topic else _to_json(wiring, stretch, to_json or "-")
        seconds = time.monotonic() - began
    if json:
        print_json({"events": count, "from": _told(stretch.starts), "to": _told(stretch.ends)})
    else:
        err.print(f"{count:,} events in {seconds:.1f} s, {count / max(seconds, 0.001):,.0f}/s")


def _told(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(partition): offset for partition, offset in offsets.items()}


def _to_json(wiring: Wiring, stretch: Stretch, name: str) -> int:
    with _output(name) as file:
        count = 0
        for event in _read(wiring, stretch):
            file.write(event.line() + b"\n")
            count += 1
    return count


@contextmanager
def _output(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with Path(name).open("wb") as file:
            yield file


def _to_topic(wiring: Wiring, stretch: Stretch, topic: str) -> int:
    """Produce the events; raises `BrokerUnavailable` unless Kafka has taken every one of them."""
    producer = wiring.clients.producer(linger_ms=20)
    refused: list[KafkaError] = []

    def taken(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            refused.append(error)

    count = 0
    for event in _read(wiring, stretch):
        _produce(producer, topic, event, taken)
        count += 1
        if count % _POLL_EVERY == 0:
            producer.poll(0)
        if refused:
            break
    left = producer.flush(_FLUSH)
    if refused or left:
        why = str(refused[0]) if refused else f"{left} of them were not taken within {_FLUSH:.0f} s"
        raise BrokerUnavailable(f"the events are not all in {topic}: {why}", topic=topic, cause=why)
    return count


def _produce(producer: Producer, topic: str, event: Replayed, taken: Taken) -> None:
    deadline = time.monotonic() + _FLUSH
    while True:
        try:
            producer.produce(topic, event.line(), key=event.key, on_delivery=taken)
        except BufferError:  # full: wait until Kafka has taken some
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"{topic}: Kafka takes no more", topic=topic, cause="queue full") from None
            producer.poll(0.1)
        else:
            return


def _read(wiring: Wiring, stretch: Stretch) -> Iterator[Replayed]:
    """Yield the events, and say on stderr how far they are: a bar on a terminal, else a line now and then."""
    counts = TextColumn("{task.completed:,.0f} of {task.total:,.0f} records")
    columns = (TextColumn("replaying"), BarColumn(), counts, TimeRemainingColumn())
    told_at = time.monotonic()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=stretch.total)

        def reached(done: int, total: int) -> None:
            nonlocal told_at
            bar.update(task, completed=done)
            if not err.is_terminal and time.monotonic() - told_at >= _LINE_EVERY:
                told_at = time.monotonic()
                err.print(f"{done:,} of {total:,} records")

        yield from replay(wiring, stretch, reached)
