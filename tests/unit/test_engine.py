"""The engine's own part: what it waits for, and its end."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from partita import EntryNotFound, LedgerEngine

NOWHERE = "127.0.0.1:1"


class Reader:
    """A read model that notes what it is asked to wait for."""

    def __init__(self) -> None:
        self.waited: list[Mapping[int, int]] = []

    async def wait_for(self, wanted: Mapping[int, int], timeout: float) -> None:
        self.waited.append(wanted)

    async def entry(self, entry_id: str) -> Any:
        raise EntryNotFound(entry_id)

    async def close(self) -> None:
        pass


def engine() -> LedgerEngine:
    return LedgerEngine(
        kafka_bootstrap=NOWHERE, schema_registry_url=f"http://{NOWHERE}", postgres_url=f"postgresql://u:p@{NOWHERE}/d"
    )


async def test_an_entry_waits_for_its_own_partition_only() -> None:
    """Another one may have halted: that is no reason to withhold this entry."""
    reader = Reader()
    async with engine() as ledger:
        ledger._read_model = cast(Any, reader)
        ledger._written = {1: 7, 11: 3}
        for entry_id in ("1-5", "2-1", "nonsense"):
            with pytest.raises(EntryNotFound):
                await ledger.get_entry(entry_id)
    assert reader.waited == [{1: 7}]


async def test_an_engine_that_was_closed_connects_to_nothing_again() -> None:
    ledger = engine()
    await ledger.close()
    with pytest.raises(RuntimeError, match="closed"):
        await ledger.get_balance("alice")
    with pytest.raises(RuntimeError, match="closed"):
        await ledger.create_entry("alice", 1, "credit")
    assert ledger._read_model is None
