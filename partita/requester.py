"""Asking: commands go out on one topic, their outcomes come back on another, and here they are joined.

One producer, one consumer and one thread serve every call of an engine, however many are awaited at once. A call
waits for one future, however many commands it asks.
"""

import asyncio
import logging
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from commands.codec import CommandCodec, Outcome, OutcomeCodec
from commands.types import Command, key_of
from events.clients import KafkaClients, is_fatal, unavailable
from events.codec import Undecodable
from events.errors import LedgerError
from events.follow import Ends
from events.partitioner import partition_of
from events.topics import Topics, check_partition_count
from partita.waiting import Answer, Call, Question, Waiting

log = logging.getLogger(__name__)

_POLL: Final = 0.1
_BATCH: Final = 2000
_CLOSING: Final = 5.0
_ROOM: Final = 0.005
_WINDOW: Final = 5000
_BREATH: Final = 100


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
        self._waiting = Waiting()
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

    async def ask(self, command: Command, *, timeout: float | None = None) -> Outcome:
        """Produce `command` and return its outcome.

        Raises:
            OutcomeUnknown: none came within `timeout` seconds.
            BrokerUnavailable: the command was refused by Kafka or never left, so it has no effect.
        """
        (answer,) = await self.ask_all([command], timeout=timeout)
        if isinstance(answer, LedgerError):
            raise answer
        return answer

    async def ask_all(self, commands: Sequence[Command], *, timeout: float | None = None) -> list[Answer]:
        """Produce `commands` and return, in their order, the outcome of each or why there is none (see `ask`).

        At most 5,000 are unanswered at a time. Those of one account are handled in their order. The call gives up
        when nothing has been answered for `timeout` seconds.
        """
        call = Call(commands, self._outcome_timeout if timeout is None else timeout)
        asked: list[Question] = []
        try:
            for at, command in enumerate(commands):
                if self.broken:
                    break
                asked.append(Question.of(command))
                await self._send(command, asked[at], call, at)
                await call.fewer_than(_WINDOW)
                if at % _BREATH == _BREATH - 1:
                    await asyncio.sleep(0)  # others in the event loop have their turn
            await call.fewer_than(1)
        except TimeoutError:
            log.info("%d of %d commands are unanswered", call.unanswered, len(commands))
        finally:
            self._waiting.forget(call, asked)
        return call.answers()

    async def _send(self, command: Command, question: Question, call: Call, at: int) -> None:
        key = key_of(command).encode("utf-8")
        value = self._commands.encode(command._replace(reply_key=self.reply_key))

        def report(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                self._loop.call_soon_threadsafe(self._undelivered, error, question, call, at)

        while self._loop.time() < call.gives_up_at:
            try:
                self._producer.produce(self._topics.commands, value, key, on_delivery=report)
                return self._waiting.add(question, call, at)
            except BufferError:  # the queue is full: its messages leave in the background
                await asyncio.sleep(_ROOM)
            except KafkaException as error:
                self.broken = self.broken or error.args[0].fatal()  # this producer will take nothing any more
                return call.refuse(at, unavailable(self._clients, error))
        raise TimeoutError

    def _undelivered(self, error: KafkaError, question: Question, call: Call, at: int) -> None:
        log.warning("command %s was not delivered: %s", question.command_id, error.str())
        if error.code() in _NEVER_LEFT:
            self._waiting.fail(question, call, at, unavailable(self._clients, KafkaException(error)))

    def _receive(self) -> None:
        """Run in the thread, until closed or broken."""
        try:
            while not self._closing.is_set():
                self._receive_some()
        except Exception:
            log.exception("outcomes can't be received any more; the next call connects anew")
            self.broken = True
            with suppress(RuntimeError):  # the event loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._waiting.give_up)

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

    def _decode(self, message: Message) -> Outcome | None:
        try:
            return self._outcomes.decode(message.value() or b"")
        except Undecodable as error:
            log.warning("outcome at offset %s can't be read: %s", message.offset(), error.reason)
            return None

    def _deliver(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._waiting.tell(outcome)

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
