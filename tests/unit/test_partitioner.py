"""Keys go where the Java client puts them. The numbers are from Kafka's own test of `Utils.murmur2`."""

import pytest

from events.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_is_that_of_the_java_client(key: str, hashed: int) -> None:
    assert murmur2(key.encode()) == hashed % 2**32


@pytest.mark.parametrize("count", [1, 2, 3, 12, 1000])
def test_every_key_has_a_partition(count: int) -> None:
    keys = ["", "a", "ab", "abc", "abcd", "ключ", "鍵", *(f"account-{i}" for i in range(1000))]
    assert all(0 <= partition_of(key, count) < count for key in keys)
