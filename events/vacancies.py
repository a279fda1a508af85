"""Partitions of a group that are nobody's, and how they come to be shared out again.

In the classic protocol a partition moves in two rounds: a member gives it up and joins again at once, and only then
is it given to another (KIP-429). A static member that ends between the two and comes back within its session takes
its place without a rebalance (KIP-345). Then there is no second round: the partition stays nobody's for as long as
the members stay the same, and all of them are well. So each member looks, and if need be has all of them share anew.
"""

import logging
import threading
import time
from collections.abc import Collection
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Final

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from events.clients import KafkaClients
from events.membership import passing_settings
from events.topics import Topics

log = logging.getLogger(__name__)

PATIENCE: Final = 6.0
"""Seconds for which a partition may be nobody's while it moves; the next member waits as long again."""
_LOOK_EVERY: Final = 2.0
_ANSWER: Final = 5.0
_LONGEST_JOIN: Final = 30.0
_POLL: Final = 0.1


class Vacancies:
    """Looks after the partitions of `topics.commands` for `member`, one of the static members of `group`."""

    def __init__(
        self, clients: KafkaClients, topics: Topics, *, group: str, member: str, partition_count: int
    ) -> None:
        self._clients = clients
        self._topics = topics
        self._group = group
        self._member = member
        self._partition_count = partition_count
        self._admin: AdminClient = clients.admin()
        self._since: dict[int, float] = {}
        self._trouble = ""

    def watch(self, stop: threading.Event) -> None:
        """Look again and again until `stop` is set. Never raises: handlers do their work without it."""
        while not stop.wait(_LOOK_EVERY):
            try:
                if self._due(time.monotonic()):
                    self._have_all_join(stop)
                self._trouble = ""
            except (KafkaException, FutureTimeout) as error:
                if str(error) != self._trouble:
                    log.info("group %s can't be looked at: %s", self._group, error)
                self._trouble = str(error)

    def _due(self, now: float) -> bool:
        """Whether it is this member's turn to do something about partitions that are nobody's."""
        futures = self._admin.describe_consumer_groups([self._group], request_timeout=_ANSWER)
        found = futures[self._group].result(2 * _ANSWER)
        members = sorted(member.group_instance_id or "" for member in found.members)
        if found.state is not ConsumerGroupState.STABLE or self._member not in members:
            self._since = {}
            return False
        empty = vacant(found.members, self._topics.commands, self._partition_count)
        self._since = {p: self._since.get(p, now) for p in empty}
        longest = max((now - since for since in self._since.values()), default=0.0)
        return longest > PATIENCE * (1 + members.index(self._member))

    def _have_all_join(self, stop: threading.Event) -> None:
        """Join for a moment, as a member without a name: that makes all members join again and share anew.

        It subscribes to another topic, so that none of the partitions is given to it.
        """
        log.warning("partitions %s are nobody's: having the group share them out again", sorted(self._since))
        self._since = {}
        joined = threading.Event()

        def on_assign(consumer: Consumer, _: list[TopicPartition]) -> None:
            consumer.incremental_assign([])
            joined.set()

        consumer = self._clients.consumer(self._group, **passing_settings())
        try:
            consumer.subscribe([self._topics.deadletter], on_assign=on_assign)
            deadline = time.monotonic() + _LONGEST_JOIN
            while not (joined.is_set() or stop.is_set() or time.monotonic() > deadline):
                consumer.poll(_POLL)
        finally:
            consumer.close()


def vacant(members: Collection[Any], topic: str, partition_count: int) -> set[int]:
    """Return the partitions of `topic` that no member has; `members` are as Kafka describes them."""
    owned = {tp.partition for member in members for tp in member.assignment.topic_partitions if tp.topic == topic}
    return set(range(partition_count)) - owned
