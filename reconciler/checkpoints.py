"""The newest checkpoint of each partition, from the end of their topic backwards: it is kept for ever, and long."""

from collections.abc import Collection
from typing import Final

from events.checkpoint import CheckpointInvalid, read
from events.clients import KafkaClients
from events.follow import Ends, read_between

_FIRST_WINDOW: Final = 2_000


def newest_checkpoints(
    clients: KafkaClients, topic: str, origins: Collection[str], *, timeout: float = 30.0
) -> dict[str, str]:
    """Return by origin the checkpoint with the most leaves, as a signed note; an origin that has none is left out.

    Raises:
        CheckpointInvalid: the topic has something under the key of one of the origins that is no checkpoint of it.
        BrokerUnavailable: Kafka does not answer.
    """
    ends = Ends(clients)
    oldest = ends.oldest(topic, [0], timeout=timeout)[0]
    end = ends.stable(topic, [0], timeout=timeout)[0]
    found: dict[str, str] = {}
    window = _FIRST_WINDOW
    while end > oldest and found.keys() < set(origins):
        begin = max(oldest, end - window)
        found = _in_window(clients, topic, origins, begin, end, timeout) | found
        end, window = begin, window * 4
    return found


def _in_window(
    clients: KafkaClients, topic: str, origins: Collection[str], begin: int, end: int, timeout: float
) -> dict[str, str]:
    found: dict[str, str] = {}
    for records in read_between(clients, topic, {0: begin}, {0: end}, idle_timeout=timeout):
        for record in records:
            origin = (record.key or b"").decode(errors="replace")
            if origin in origins:
                note = (record.value or b"").decode(errors="replace")
                if read(note).origin != origin:
                    raise CheckpointInvalid(f"offset {record.offset} of {topic} has a checkpoint of another log")
                found[origin] = note
    return found
