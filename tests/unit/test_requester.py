"""Asking, with the Kafka clients replaced: which call is told what when a command does not get through."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from commands.errors import OutcomeUnknown
from commands.payload import payload_hash
from commands.types import PostEntry
from events.clients import KafkaClients
from events.errors import BrokerUnavailable
from partita.requester import Requester
from tests.support.samples import CODECS, TOPICS, post, posted

Report = Callable[[KafkaError | None, Any], None]


class Producer:
    """Takes commands, and keeps the reports of their delivery for the test to call."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.fails: KafkaException | None = None

    def produce(self, topic: str, value: bytes, key: bytes, *, on_delivery: Report) -> None:
        if self.fails:
            raise self.fails
        self.reports.append(on_delivery)

    def poll(self, timeout: float) -> None:
        pass

    def flush(self, timeout: float) -> int:
        return 0


class Consumer:
    """Has nothing to say; outcomes are delivered by hand."""

    def poll(self, timeout: float) -> None:
        return None

    def close(self) -> None:
        pass


@pytest.fixture
async def requester(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Requester]:
    """A requester that is connected to nothing."""

    def connect(self: Any) -> None:
        self._producer, self._consumer = Producer(), Consumer()

    monkeypatch.setattr(Requester, "_connect", connect)
    clients = KafkaClients(bootstrap="nowhere:1")
    made = Requester(clients, TOPICS, CODECS.commands, CODECS.outcomes, connect_timeout=1, outcome_timeout=5)
    await made.start()
    yield made
    await made.close()


def producer_of(requester: Requester) -> Producer:
    return cast(Producer, requester._producer)


async def asked(requester: Requester, command: PostEntry, **options: Any) -> "asyncio.Task[Any]":
    """Ask, and return when the command is on its way."""
    call = asyncio.create_task(requester.ask(command, **options))
    await asyncio.sleep(0)
    return call


async def test_only_the_call_whose_command_never_left_is_told_so(requester: Requester) -> None:
    """Two calls ask the same. One command is refused; the other got through, and has its effect."""
    through, refused = [await asked(requester, post()) for _ in range(2)]
    producer_of(requester).reports[1](KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), None)
    with pytest.raises(BrokerUnavailable):
        await refused
    assert not through.done()
    event = posted(payload_hash=payload_hash(post()))
    data = CODECS.outcomes.encode(PostEntry, replayed=False, partition=0, event=CODECS.events.encode(event))
    requester._deliver([CODECS.outcomes.decode(data)])
    assert (await through).event == event
    assert not len(requester._waiting)


async def test_a_command_that_may_have_left_is_never_called_failed(requester: Requester) -> None:
    call = await asked(requester, post(), timeout=0.05)
    producer_of(requester).reports[0](KafkaError(KafkaError._MSG_TIMED_OUT), None)
    with pytest.raises(OutcomeUnknown):
        await call
    assert not len(requester._waiting)


async def test_a_producer_that_is_done_for_is_not_used_again(requester: Requester) -> None:
    """A new requester is made for the next call: this one would refuse everything for ever."""
    producer_of(requester).fails = KafkaException(KafkaError(KafkaError._FATAL, "out of order", fatal=True))
    with pytest.raises(BrokerUnavailable):
        await requester.ask(post())
    assert requester.broken


async def test_a_refusal_that_passes_does_not_break_the_requester(requester: Requester) -> None:
    producer_of(requester).fails = KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
    with pytest.raises(BrokerUnavailable, match="refuses"):
        await requester.ask(post())
    assert not requester.broken
