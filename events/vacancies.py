"""Partitions of a group that are nobody's, and how they come to be shared out again.

In the classic protocol a partition moves in two rounds: a member gives it up and joins again at once, and only then
is it given to another (KIP-429). A static member that ends between the two and comes back within its session takes
its place without a rebalance (KIP-345). Then there is no second round: the partition stays nobody's for as long as
the members stay the same, and all of them are well. So each member looks, and if need be has all of them share anew.
"""

import logging
import struct
import threading
import time
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
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
_SUFFIX: Final = 37
"""Characters that Kafka puts behind the name of a static member to make its id."""


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
                if self.due(time.monotonic()):
                    self._have_all_join(stop)
                self._trouble = ""
            except Exception as error:  # noqa: BLE001  # said once; it is looked at again
                self._since = {}
                if str(error) != self._trouble:
                    log.warning("group %s can't be looked at: %s", self._group, error)
                self._trouble = str(error)

    def due(self, now: float) -> bool:
        """Whether it is this member's turn to do something about partitions that are nobody's.

        `list_groups` is deprecated, but librdkafka (2.16) ends the process when a request of its successor has timed
        out and the group's coordinator comes back: it answers a request that is no more.
        """
        described: list[Any] = self._admin.list_groups(self._group, timeout=_ANSWER)
        known = [found for found in described if found.error is None]  # by its coordinator, of all brokers
        if described and not known:
            raise KafkaException(described[0].error)
        group = next((found for found in known if found.state == "Stable"), None)
        members = sorted(member.id[:-_SUFFIX] for member in group.members) if group else []
        if group is None or self._member not in members:
            self._since = {}
            return False
        owned = {p for member in group.members for p in assigned(member.assignment, self._topics.commands)}
        self._since = {p: self._since.get(p, now) for p in range(self._partition_count) if p not in owned}
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


def assigned(assignment: bytes, topic: str) -> set[int]:
    """Return the partitions of `topic` in a member's assignment (Kafka's ConsumerProtocolAssignment).

    Raises:
        struct.error: it is none.
    """
    if not assignment:
        return set()
    _, topics = struct.unpack_from(">hi", assignment)
    at, found = 6, set[int]()
    for _ in range(topics):
        (length,) = struct.unpack_from(">h", assignment, at)
        name = assignment[at + 2 : at + 2 + length]
        (count,) = struct.unpack_from(">i", assignment, at + 2 + length)
        at += 6 + length
        if name == topic.encode("utf-8"):
            found.update(struct.unpack_from(f">{count}i", assignment, at))
        at += 4 * count
    return found
