"""Which partition a key belongs to: murmur2, as the Java client's default partitioner has it.

librdkafka's own default is CRC32, so every producer here is told `partitioner=murmur2_random`, and the handler
checks with this module that a command came to the partition of its account.
"""

from functools import lru_cache
from struct import unpack
from typing import Final

PARTITIONER: Final = "murmur2_random"
"""The librdkafka name of the Java client's partitioner."""

_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF
_SEED: Final = 0x9747B28C


def murmur2(data: bytes) -> int:
    """Return the 32-bit unsigned murmur2 of `data`, as `org.apache.kafka.common.utils.Utils.murmur2`."""
    length = len(data)
    h = _SEED ^ length
    *words, rest = unpack(f"<{length >> 2}I{length & 3}s", data)
    for word in words:
        k = word * _M & _MASK
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    if rest:
        h = ((h ^ int.from_bytes(rest, "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


def partition_of(key: str, partition_count: int) -> int:
    """Return the partition of `key`, from 0 to `partition_count` - 1."""
    return (murmur2(key.encode("utf-8")) & 0x7FFFFFFF) % partition_count


home_of: Final = lru_cache(maxsize=100_000)(partition_of)
"""`partition_of`, remembered for the keys that come most: those of accounts."""
