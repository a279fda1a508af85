"""How every Kafka client of the project is set up: one place for the settings that must not differ.

Owns client construction. Which topics they work on, and what for, is the callers' business.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from events.errors import BrokerUnavailable
from events.partitioner import PARTITIONER

log = logging.getLogger(__name__)

OPTIONS_FOR_ALL: Final = {"log.connection.close": False, "reconnect.backoff.max.ms": 1000}
MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024
"""For all producers. A dead letter carries a whole command and its reason; other topics take less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaClients:
    """Makes producers, consumers and admin clients for one cluster.

    `options` are librdkafka settings for every client: security, tuning of one's own.
    """

    bootstrap: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def _conf(self, **settings: Any) -> dict[str, Any]:
        named = {key.replace("_", "."): value for key, value in settings.items()}
        return {"bootstrap.servers": self.bootstrap, **OPTIONS_FOR_ALL, **named, **self.options}

    def admin(self) -> AdminClient:
        """Return an admin client."""
        return AdminClient(self._conf(logger=log))

    def producer(self, **settings: Any) -> Producer:
        """Return an idempotent producer that partitions as the Java client does."""
        return Producer(
            self._conf(
                partitioner=PARTITIONER,
                enable_idempotence=True,
                acks="all",
                message_max_bytes=MAX_MESSAGE_BYTES,
                logger=log,
                **settings,
            )
        )

    def consumer(self, group: str, **settings: Any) -> Consumer:
        """Return a consumer that sees committed records only and never moves or commits an offset by itself."""
        settings = {"isolation_level": "read_committed", **settings}
        return Consumer(
            self._conf(
                group_id=group,
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                auto_offset_reset="error",
                fetch_wait_max_ms=100,
                fetch_error_backoff_ms=50,
                logger=log,
                **settings,
            )
        )


def check_broker(clients: KafkaClients, *, timeout: float) -> None:
    """Return when the cluster answers.

    Raises:
        BrokerUnavailable: it does not within `timeout` seconds.
    """
    try:
        clients.admin().list_topics(timeout=timeout)
    except Exception as error:
        raise unavailable(clients, error) from error


def unavailable(clients: KafkaClients, error: Exception) -> BrokerUnavailable:
    """Return the error that says where Kafka was looked for, and what it said if it answered."""
    if isinstance(error, KafkaException) and error.args[0].code() > 0:  # librdkafka's own errors are negative
        said = f"Kafka at {clients.bootstrap} refuses: {error.args[0].str()} ({error.args[0].name()})"
    else:
        said = (
            f"Kafka does not answer at {clients.bootstrap} ({error}): is it up? `partita stack up` starts a local one"
        )
    return BrokerUnavailable(said, bootstrap=clients.bootstrap, cause=str(error))


def is_fatal(error: KafkaError) -> bool:
    """Whether a consumer's error ends it; the others are news that librdkafka recovers from by itself."""
    return bool(error.fatal()) or error.code() in _ENDING


_ENDING: Final = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001  # the client's own names for its local errors
        KafkaError._FATAL,  # noqa: SLF001
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.FENCED_INSTANCE_ID,
    }
)
