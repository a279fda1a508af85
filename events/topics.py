"""The topics: their names, their settings, their creation, and the partition count that never changes."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]  # exported, if not by name

from events.clients import KafkaClients, unavailable
from events.errors import PartitionCountMismatch, TopicMissing, UnsafeTopic

_METADATA_LAG: Final = 0.05
_DAY_MS: Final = 24 * 60 * 60 * 1000
_FOR_EVER: Final = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The names of one ledger's topics; `prefix` is the ledger's name."""

    prefix: str = "ledger"

    @property
    def commands(self) -> str:
        """Where requesters produce commands, keyed by account."""
        return f"{self.prefix}.commands"

    @property
    def events(self) -> str:
        """The record, keyed by account."""
        return f"{self.prefix}.events"

    @property
    def outcomes(self) -> str:
        """What requesters are told, keyed by reply key."""
        return f"{self.prefix}.outcomes"

    @property
    def checkpoints(self) -> str:
        """Signed tree heads, keyed by log origin."""
        return f"{self.prefix}.checkpoints"

    @property
    def deadletter(self) -> str:
        """Commands that could not be read, with the reason in headers."""
        return f"{self.prefix}.deadletter"

    @property
    def reconciliation(self) -> str:
        """What was said of discrepancies between ledger and chain, keyed by discrepancy."""
        return f"{self.prefix}.reconciliation"

    def settings(self) -> Mapping[str, Mapping[str, str]]:
        """Return each topic's settings, by topic name."""
        return {
            self.commands: {"cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS)},
            self.events: _FOR_EVER,
            self.outcomes: {"cleanup.policy": "delete", "retention.ms": str(_DAY_MS)},
            self.checkpoints: _FOR_EVER,
            self.reconciliation: _FOR_EVER,
            self.deadletter: {
                "cleanup.policy": "delete",
                "retention.ms": str(28 * _DAY_MS),
                "max.message.bytes": str(2 * 1024 * 1024),
            },
        }


def ensure_topics(
    clients: KafkaClients, topics: Topics, *, partitions: int, replication: int, timeout: float = 30.0
) -> int:
    """Create the topics that are missing, and return the ledger's partition count.

    Raises:
        PartitionCountMismatch: the topics exist with another count than `partitions`.
        UnsafeTopic: a topic that is to be kept for ever exists with settings that delete from it.
        BrokerUnavailable: Kafka does not answer within `timeout` seconds.
    """
    admin = clients.admin()
    try:
        existing = set(admin.list_topics(timeout=timeout).topics)
        _create(admin, _missing(topics, existing, partitions, replication), timeout)
    except KafkaException as error:
        raise unavailable(clients, error) from error
    count = _count_when_known(clients, topics, partitions, timeout)
    _check_kept_for_ever(clients, admin, (topics.events, topics.checkpoints, topics.reconciliation), timeout)
    return count


def _check_kept_for_ever(clients: KafkaClients, admin: AdminClient, names: Collection[str], timeout: float) -> None:
    """See that topics which somebody else may have made lose nothing either."""
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    try:
        described = {
            r.name: f.result() for r, f in admin.describe_configs(resources, request_timeout=timeout).items()
        }
    except KafkaException as error:
        raise unavailable(clients, error) from error
    for name, found in described.items():
        for setting, wanted in _FOR_EVER.items():
            if found[setting].value != wanted:
                value = found[setting].value
                raise UnsafeTopic(
                    f"{name} has {setting}={value}, but it must be kept for ever: set {setting}={wanted}",
                    topic=name,
                    setting=setting,
                    value=value,
                )


def _count_when_known(clients: KafkaClients, topics: Topics, expected: int, timeout: float) -> int:
    """Wait until brokers tell of topics that were just created: their metadata lags behind."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return check_partition_count(clients, topics, expected=expected, timeout=timeout)
        except TopicMissing:
            if time.monotonic() > deadline:
                raise
            time.sleep(_METADATA_LAG)


def _missing(topics: Topics, existing: set[str], partitions: int, replication: int) -> list[NewTopic]:
    in_sync = str(replication // 2 + 1)  # a majority: an acknowledged record outlives the loss of a broker
    counts = {topics.checkpoints: 1, topics.reconciliation: 1, topics.deadletter: 1}
    return [
        NewTopic(
            name,
            num_partitions=counts.get(name, partitions),
            replication_factor=replication,
            config={**config, "min.insync.replicas": in_sync},
        )
        for name, config in topics.settings().items()
        if name not in existing
    ]


def _create(admin: AdminClient, missing: list[NewTopic], timeout: float) -> None:
    if not missing:
        return
    for created in admin.create_topics(missing, operation_timeout=timeout, request_timeout=timeout).values():
        try:
            created.result()
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # another process was quicker
                raise


def check_partition_count(
    clients: KafkaClients, topics: Topics, *, expected: int | None = None, timeout: float = 10.0
) -> int:
    """Return the partition count of the ledger's topics.

    Raises:
        TopicMissing: commands, events or outcomes do not exist.
        PartitionCountMismatch: commands, events and outcomes differ, or are not `expected`.
        BrokerUnavailable: Kafka does not answer within `timeout` seconds.
    """
    try:
        found = clients.admin().list_topics(timeout=timeout).topics
    except KafkaException as error:
        raise unavailable(clients, error) from error
    for name in (topics.commands, topics.events, topics.outcomes):
        if name not in found or not found[name].partitions:
            raise TopicMissing(f"there is no topic {name}: has a handler been started?", topic=name)
    commands, events, outcomes = (
        len(found[name].partitions) for name in (topics.commands, topics.events, topics.outcomes)
    )
    if not commands == events == outcomes:
        raise PartitionCountMismatch(
            f"{topics.commands} has {commands} partitions, {topics.events} {events}, {topics.outcomes} {outcomes}: "
            "they must be equal",
            commands=commands,
            events=events,
            outcomes=outcomes,
        )
    if expected is not None and events != expected:
        raise mismatch(expected=expected, found=events)
    return events


def mismatch(*, expected: int, found: int) -> PartitionCountMismatch:
    """Return the error that says why a ledger's partition count can't be changed."""
    return PartitionCountMismatch(
        f"the ledger has {found} partitions, but {expected} are configured or recorded: the count is fixed when a "
        "ledger is created, since it decides which partition an account's history is in",
        expected=expected,
        found=found,
    )
