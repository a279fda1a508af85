"""How a handler is a member of its group: all in which Kafka's two group protocols differ is here.

In the *classic* protocol the members choose an assignor and their own session; one that comes back under its name
takes its place at once. In the *consumer* protocol (KIP-848) the broker assigns; the session is a setting of the
group, kept on the broker; one that comes back waits until its old session has ended (docs/adr/0018).
"""

from enum import StrEnum
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, if not by name
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from events.clients import KafkaClients, unavailable
from events.errors import GroupSettingsRefused

SESSION_TIMEOUT_MS: Final = 6_000
HEARTBEAT_INTERVAL_MS: Final = SESSION_TIMEOUT_MS // 4
MAX_POLL_INTERVAL_MS: Final = 60_000

_REFUSED: Final = frozenset(
    {
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_REQUEST,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_VERSION,
    }
)


_CLASSIC: Final = {
    "partition_assignment_strategy": "cooperative-sticky",
    "session_timeout_ms": SESSION_TIMEOUT_MS,
    "heartbeat_interval_ms": HEARTBEAT_INTERVAL_MS,
}


class GroupProtocol(StrEnum):
    """The protocol by which a group shares partitions."""

    CLASSIC = "classic"
    CONSUMER = "consumer"


def prepare_group(clients: KafkaClients, protocol: GroupProtocol, group: str, *, timeout: float) -> None:
    """Set on the broker what the group's members can't set themselves. Doing it again changes nothing.

    Raises:
        GroupSettingsRefused: the broker does not allow it; waiting does not mend that.
        BrokerUnavailable: Kafka does not answer within `timeout` seconds.
    """
    if protocol is GroupProtocol.CLASSIC:
        return
    wanted = {
        "consumer.session.timeout.ms": str(SESSION_TIMEOUT_MS),
        "consumer.heartbeat.interval.ms": str(HEARTBEAT_INTERVAL_MS),
    }
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in wanted.items()
    ]
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    admin = clients.admin()
    try:
        for altered in admin.incremental_alter_configs([resource], request_timeout=timeout).values():
            altered.result()
    except KafkaException as error:
        if error.args[0].code() in _REFUSED:
            raise GroupSettingsRefused(
                f"Kafka refuses the settings of group {group} ({error.args[0].str()}): lower the broker's "
                f"group.consumer.min.session.timeout.ms to {SESSION_TIMEOUT_MS} and "
                f"group.consumer.min.heartbeat.interval.ms to {HEARTBEAT_INTERVAL_MS}, allow AlterConfigs on the "
                "group, or set PARTITA_GROUP_PROTOCOL=classic",
                group=group,
                cause=error.args[0].str(),
            ) from error
        raise unavailable(clients, error) from error


def member_name(group: str, instance: str) -> str:
    """Return the name by which a handler is a static member of its group, and a transactional producer."""
    return f"{group}-{instance}"


def member_settings(protocol: GroupProtocol, member: str) -> dict[str, Any]:
    """Return the settings of a member's consumer: static, cooperative, and missed after `SESSION_TIMEOUT_MS`."""
    common = {"group_instance_id": member, "max_poll_interval_ms": MAX_POLL_INTERVAL_MS}
    if protocol is GroupProtocol.CONSUMER:
        return {**common, "group_protocol": "consumer", "group_remote_assignor": "uniform"}
    return {
        **common,
        "group_protocol": "classic",
        **_CLASSIC,
    }


def passing_settings() -> dict[str, Any]:
    """Return the settings of a consumer that only passes through a classic group, with no name to come back under."""
    return {"group_protocol": "classic", "max_poll_interval_ms": MAX_POLL_INTERVAL_MS, **_CLASSIC}
