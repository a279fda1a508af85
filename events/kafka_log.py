"""The log on Kafka, for a writer: one group member, one transactional producer (KIP-98, KIP-447).

librdkafka speaks transactions v1, without KIP-890's protection: so after anything but a plain refusal by the group
this log counts as lost, and the caller makes a new one, whose `init_transactions` fences this one's producer.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from events.clients import KafkaClients, is_fatal
from events.errors import CommandsExpired, Fenced
from events.follow import Ends, PartitionReader, Record, headers_of, place
from events.log import Aborted, LogLost, Outgoing, Polled
from events.membership import SESSION_TIMEOUT_MS, GroupProtocol, member_name, member_settings, prepare_group
from events.topics import Topics

log = logging.getLogger(__name__)

TRANSACTION_TIMEOUT_MS: Final = 6_000
"""As long as a session: who takes over from a dead member waits for its open transaction as well."""
_MARKERS: Final = 0.003
_LONGEST_CALL: Final = TRANSACTION_TIMEOUT_MS / 1000 + 2
_SHORT: Final = 1.0
_ANSWER: Final = 6.0
_REFUSALS: Final = frozenset(
    {KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS}
)
_UNRELEASED: Final = KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str()
_QUEUE_FULL_TRIES: Final = 600


class KafkaLog:
    """See `events.log.Log`.

    `instance` names the member: a process that comes back under the same name fences what is left of the one
    before, and takes its partitions (static membership, KIP-345): at once in the classic protocol of groups.
    """

    def __init__(
        self,
        clients: KafkaClients,
        topics: Topics,
        *,
        group: str,
        instance: str,
        timeout: float,
        protocol: GroupProtocol = GroupProtocol.CLASSIC,
    ) -> None:
        self._topics = topics
        self._member = member_name(group, instance)
        self._assigned: list[int] = []
        self._revoked: list[int] = []
        self._owned: set[int] = set()
        self._reading: set[int] = set()
        self._committed_at = 0.0
        prepare_group(clients, protocol, group, timeout=timeout)
        self._producer = _transactional(clients, self._member, timeout)
        self._ends = Ends(clients)
        self._reader = PartitionReader(clients, topics.events)
        self._consumer: Consumer = clients.consumer(
            group,
            **member_settings(protocol, self._member),
            queued_max_messages_kbytes=16 * 1024,
            enable_partition_eof=True,
        )
        self._consumer.subscribe(
            [topics.commands], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def poll(self, timeout: float, limit: int) -> Polled:
        """See `Log.poll`."""
        try:
            first = self._consumer.poll(timeout)
            messages = [] if first is None else [first, *self._consumer.consume(limit - 1, 0)]
        except KafkaException as error:
            raise _lost("poll", error) from error
        records, ends = [], []
        for message in messages:
            problem = message.error()
            if problem is None:
                partition, offset = place(message)
                if partition in self._owned:
                    headers = headers_of(message)
                    records.append(Record(partition, offset, message.key(), message.value(), headers=headers))
            elif problem.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # the client's own name
                ends.append(place(message))
            else:
                self._consumer_error(problem)
        revoked, self._revoked = self._revoked, []
        assigned, self._assigned = self._assigned, []
        return Polled(revoked, assigned, records, [(p, end) for p, end in ends if p in self._owned])

    def _consumer_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001  # the client's own name
            raise CommandsExpired(
                f"{self._topics.commands}: the next command was deleted before it was handled: {error.str()}; "
                "retention is too short, or no handler ran for too long",
                cause=error.str(),
            )
        if error.code() == KafkaError.FENCED_INSTANCE_ID:
            raise Fenced(f"another handler goes by the instance name {self._member}", instance=self._member)
        if _UNRELEASED in error.str():
            raise LogLost(
                f"the session of the last handler of the name {self._member} is not over. It ends by itself, "
                f"{SESSION_TIMEOUT_MS // 1000} s after that handler; if it lasts a minute: docs/operations.md, "
                "A group that lets nobody in",
                instance=self._member,
            )
        if is_fatal(error):
            raise _lost("poll", KafkaException(error))
        log.warning("commands: %s", error.str())

    def committed(self, partitions: Collection[int]) -> dict[int, int]:
        """See `Log.committed`. The broker withholds an offset that an open transaction moves (KIP-447)."""
        wanted = [TopicPartition(self._topics.commands, p) for p in partitions]
        try:
            found = self._consumer.committed(wanted, _SHORT)
        except KafkaException as error:
            log.info("committed offsets are not known yet: %s", error.args[0].str())
            return {}
        return {tp.partition: max(tp.offset, -1) for tp in found if tp.error is None}

    def oldest_commands(self, partitions: Collection[int]) -> dict[int, int]:
        """See `Log.oldest_commands`."""
        return self._ends.oldest(self._topics.commands, partitions, timeout=_ANSWER)

    def stable_ends(self, partitions: Collection[int]) -> dict[int, int]:
        """See `Log.stable_ends`. Markers reach partitions one by one, so the last stable offset can lag behind."""
        stable = self._ends.stable(self._topics.events, partitions, timeout=_ANSWER)
        high = self._ends.high(self._topics.events, partitions, timeout=_ANSWER)
        return {p: end for p, end in high.items() if stable[p] == end}

    def read(self, offsets: Mapping[int, int], timeout: float) -> list[Record]:
        """See `Log.read`."""
        self._reader.read_only(offsets)
        return self._reader.poll(timeout)

    def read_position(self, partition: int) -> int:
        """See `Log.read_position`."""
        return self._reader.position(partition)

    def start(self, partition: int, offset: int) -> None:
        """See `Log.start`."""
        where = TopicPartition(self._topics.commands, partition, offset)

        def move() -> None:
            if partition in self._reading:
                self._consumer.incremental_unassign([where])
            self._consumer.incremental_assign([where])
            self._reading.add(partition)

        try:
            self._bounded("start", move)
        except KafkaException as error:
            raise _lost("start", error) from error

    def begin(self) -> None:
        """See `Log.begin`."""
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            raise _lost("begin", error) from error

    def append(self, messages: Sequence[Outgoing]) -> None:
        """See `Log.append`."""
        self._let_markers_be_written()
        produce = self._producer.produce
        for message in messages:
            topic, partition, key, value, headers = message
            try:
                produce(topic, value, key, -1 if partition is None else partition, headers=headers)
            except BufferError:
                self._append_when_there_is_room(message)
            except KafkaException as error:
                raise _lost("append", error) from error
        self._producer.poll(0)

    def _let_markers_be_written(self) -> None:
        """Keep a few milliseconds between a commit and the next transaction's first message.

        One that comes before the markers of the transaction before are written is refused at first, and librdkafka
        tries again after 20 ms. Under load the deciding takes longer than this, and nothing is waited for.
        """
        left = self._committed_at + _MARKERS - time.monotonic()
        if left > 0:
            time.sleep(left)

    def _append_when_there_is_room(self, message: Outgoing) -> None:
        for _ in range(_QUEUE_FULL_TRIES):
            self._producer.poll(0.1)
            try:
                return self._producer.produce(
                    message.topic,
                    message.value,
                    message.key,
                    -1 if message.partition is None else message.partition,
                    headers=message.headers,
                )
            except BufferError:
                continue
        raise LogLost("append: the producer's queue stays full: the brokers take nothing")

    def commit(self, consumed: Mapping[int, int]) -> None:
        """See `Log.commit`. The calls get no time-outs: `transaction.timeout.ms` bounds what they do."""
        offsets = [TopicPartition(self._topics.commands, p, offset) for p, offset in consumed.items()]
        try:
            if offsets:
                # Taken now, so that a member of an old generation is fenced.
                generation = self._consumer.consumer_group_metadata()
                self._bounded("send offsets", lambda: self._producer.send_offsets_to_transaction(offsets, generation))
        except KafkaException as error:
            if error.args[0].code() in _REFUSALS:
                self.abort()
                raise Aborted(f"commit: {error.args[0].str()}") from error
            raise _lost("commit", error) from error
        try:
            self._bounded("commit", self._producer.commit_transaction)
            self._committed_at = time.monotonic()
        except KafkaException as error:
            raise _lost("commit", error) from error

    def abort(self) -> None:
        """See `Log.abort`."""
        try:
            self._bounded("abort", self._producer.abort_transaction)
        except KafkaException as error:
            raise _lost("abort", error) from error

    def _bounded(self, what: str, call: Callable[[], object]) -> None:
        """Make a call that may never return: after a broker's restart librdkafka can wait in it for ever.

        It is not given a time-out (one that passes would leave the transaction in a state of its own) but left
        behind, in its thread, with its producer; the next log's `init_transactions` fences both.

        Raises:
            LogLost: it did not return within the transaction's time-out and some.
        """
        done: Future[None] = Future()

        def run() -> None:
            try:
                call()
            except Exception as error:  # noqa: BLE001  # handed over to the caller
                done.set_exception(error)
            else:
                done.set_result(None)

        threading.Thread(target=run, name=f"partita-{what}", daemon=True).start()
        try:
            done.result(_LONGEST_CALL)
        except FutureTimeout:
            raise LogLost(f"{what}: no answer within {_LONGEST_CALL:.0f} s") from None

    def close(self) -> None:
        """See `Log.close`. Bounded as well; what does not end is left behind."""
        for close in (self._reader.close, self._leave_group):
            try:
                self._bounded("close", close)
            except LogLost as error:
                log.warning("%s", error)

    def _leave_group(self) -> None:
        """Let the consumer be destroyed, which calls nothing back; a member with a name never says good-bye anyway.

        `close()` would have the partitions given up in a callback, and librdkafka does not answer that one when the
        broker has fenced the member meanwhile: a wait without end, with the interpreter's lock held.
        """
        with suppress(AttributeError, KafkaException):  # closed before; a fenced consumer polls no more
            self._consumer.poll(0)  # a partition that was just given must be taken, or the end waits for that
        with suppress(AttributeError):
            del self._consumer

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Where to start is known only when a partition is restored, and until then it is not fetched. Never held at a
        # logical offset: librdkafka may ask for that one again later, and go there from wherever it is by then.
        consumer.incremental_assign([])
        self._owned.update(p.partition for p in partitions)
        self._assigned.extend(p.partition for p in partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {p.partition for p in partitions}
        consumer.incremental_unassign([p for p in partitions if p.partition in self._reading])
        self._owned -= gone
        self._reading -= gone
        self._assigned = [p for p in self._assigned if p not in gone]
        self._revoked.extend(gone)


def _transactional(clients: KafkaClients, transactional_id: str, timeout: float) -> Producer:
    """Return a producer that has fenced every earlier one of the same id and ended its transaction."""
    producer = clients.producer(
        transactional_id=transactional_id,
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        linger_ms=1,  # a commit flushes at once; until then let batches fill
        # The coordinator answers CONCURRENT_TRANSACTIONS until the markers of the transaction before are written: a
        # matter of milliseconds, for which the default back-off of 100 ms is most of a small transaction's time.
        retry_backoff_ms=2,
        retry_backoff_max_ms=100,
        batch_num_messages=10_000,
        queue_buffering_max_messages=200_000,
    )
    try:
        producer.init_transactions(timeout)
    except KafkaException as error:
        raise _lost("init_transactions", error) from error
    return producer


def _lost(doing: str, error: KafkaException) -> LogLost:
    return LogLost(f"{doing}: {error.args[0].str()}", code_name=error.args[0].name())
