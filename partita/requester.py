"""Asking: a command goes out on one topic, its outcome comes back on another, and a future joins them.

One producer, one consumer and one thread serve every call of an engine, however many are awaited at once.
"""

import asyncio
import logging
import threading
import uuid
from collections import deque
from contextlib import suppress
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from commands.codec import CommandCodec, Outcome, OutcomeCodec
from commands.errors import OutcomeUnknown
from commands.payload import payload_hash
from commands.types import PostEntry
from events.clients import KafkaClients, is_fatal, unavailable
from events.codec import Undecodable
from events.follow import Ends
from events.partitioner import partition_of
from events.topics import Topics, check_partition_count

log = logging.getLogger(__name__)

_POLL: Final = 0.1
_BATCH: Final = 2000
_CLOSING: Final = 5.0
_ROOM: Final = 0.005


class _Question(NamedTuple):
    """What an outcome must answer: the ids, and the payload, since an id may wrongly have two."""

    account_id: str
    command_id: str
    payload_hash: bytes


class Requester:
    """Produces commands and awaits their outcomes. Made, used and closed in one event loop."""

    def __init__(
        self,
        clients: KafkaClients,
        topics: Topics,
        commands: CommandCodec,
        outcomes: OutcomeCodec,
        *,
        connect_timeout: float,
        outcome_timeout: float,
    ) -> None:
        self._clients = clients
        self._topics = topics
        self._commands = commands
        self._outcomes = outcomes
        self._connect_timeout = connect_timeout
        self._outcome_timeout = outcome_timeout
        self.reply_key = f"engine-{uuid.uuid4()}"
        self.partition_count = 0
        self.broken = False
        self._waiting: dict[_Question, deque[asyncio.Future[Outcome]]] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Connect; from here on no outcome is missed.

        Raises:
            BrokerUnavailable: Kafka does not answer in time.
            TopicMissing: there is no such ledger yet.
        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._connect)
        self._thread = threading.Thread(target=self._receive, name="partita-outcomes", daemon=True)
        self._thread.start()

    def _connect(self) -> None:
        self.partition_count = check_partition_count(self._clients, self._topics, timeout=self._connect_timeout)
        partition = partition_of(self.reply_key, self.partition_count)
        ends = Ends(self._clients).high(self._topics.outcomes, [partition], timeout=self._connect_timeout)
        self._consumer: Consumer = self._clients.consumer(self.reply_key)
        self._consumer.assign([TopicPartition(self._topics.outcomes, partition, ends[partition])])
        self._producer: Producer = self._clients.producer(
            linger_ms=1,
            message_timeout_ms=int(self._outcome_timeout * 1000),
            delivery_report_only_error=True,
        )

    async def ask(self, command: PostEntry, *, timeout: float | None = None) -> Outcome:
        """Produce `command`, which must carry this requester's `reply_key`, and return its outcome.

        Raises:
            OutcomeUnknown: none came within `timeout` seconds.
            BrokerUnavailable: the command was refused by Kafka or never left, so it has no effect.
        """
        deadline = self._outcome_timeout if timeout is None else timeout
        question = _Question(command.account_id, command.command_id, payload_hash(command))
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._waiting.setdefault(question, deque()).append(future)
        try:
            async with asyncio.timeout(deadline):
                await self._produce(command, future)
                return await future
        except TimeoutError:
            raise OutcomeUnknown(command.account_id, command.command_id, deadline) from None
        finally:
            self._forget(question, future)

    async def _produce(self, command: PostEntry, future: asyncio.Future[Outcome]) -> None:
        value = self._commands.encode(command)

        def report(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                log.warning("command %s was not delivered: %s", command.command_id, error.str())
                self._loop.call_soon_threadsafe(self._undelivered, future, error)

        while True:
            try:
                return self._producer.produce(
                    self._topics.commands, value, command.account_id.encode("utf-8"), on_delivery=report
                )
            except BufferError:  # the queue is full: its messages leave in the background
                await asyncio.sleep(_ROOM)
            except KafkaException as error:
                self.broken = self.broken or error.args[0].fatal()  # this producer will take nothing any more
                raise unavailable(self._clients, error) from error

    def _undelivered(self, future: asyncio.Future[Outcome], error: KafkaError) -> None:
        """Fail the call whose command never left; another that asks the same may have got through."""
        if error.code() in _NEVER_LEFT and not future.done():
            future.set_exception(unavailable(self._clients, KafkaException(error)))

    def _receive(self) -> None:
        """Run in the thread, until closed or broken."""
        try:
            while not self._closing.is_set():
                self._receive_some()
        except Exception:
            log.exception("outcomes can't be received any more; the next call connects anew")
            self.broken = True
            with suppress(RuntimeError):  # the event loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._give_up)

    def _receive_some(self) -> None:
        """Hand outcomes to the event loop, many at a time."""
        self._producer.poll(0)
        first = self._consumer.poll(_POLL)
        if first is None:
            return
        outcomes = []
        for message in (first, *self._consumer.consume(_BATCH, 0)):
            if (problem := message.error()) is not None:
                if is_fatal(problem):
                    raise KafkaException(problem)
                log.warning("outcomes: %s", problem.str())
            elif message.key() == self.reply_key.encode():
                outcomes.append(self._decode(message))
        self._loop.call_soon_threadsafe(self._deliver, [outcome for outcome in outcomes if outcome is not None])

    def _give_up(self) -> None:
        """End the calls that wait: whatever comes of their commands, it will not be heard here."""
        for question, waiting in self._waiting.items():
            for future in waiting:
                if not future.done():
                    future.set_exception(OutcomeUnknown(question.account_id, question.command_id, 0.0))

    def _decode(self, message: Message) -> Outcome | None:
        try:
            return self._outcomes.decode(message.value() or b"")
        except Undecodable as error:
            log.warning("outcome at offset %s can't be read: %s", message.offset(), error.reason)
            return None

    def _deliver(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            event = outcome.event
            waiting = self._waiting.get(_Question(event.account_id, event.command_id, event.payload_hash))
            while waiting:
                future = waiting.popleft()
                if not future.done():
                    future.set_result(outcome)
                    break

    def _forget(self, question: _Question, future: asyncio.Future[Outcome]) -> None:
        waiting = self._waiting.get(question)
        if waiting is not None:
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                del self._waiting[question]

    async def close(self) -> None:
        """Stop receiving. Calls still waiting end with `OutcomeUnknown` at their deadline."""
        if self._thread is None:
            return
        self._closing.set()
        await asyncio.to_thread(self._thread.join, _CLOSING)
        await asyncio.to_thread(self._producer.flush, _CLOSING)
        self._consumer.close()
        self._thread = None


_NEVER_LEFT: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.INVALID_RECORD,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001  # the client's own names for its local errors
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
