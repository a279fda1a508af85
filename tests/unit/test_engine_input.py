"""What a caller gives wrong is refused by name before anything is sent or connected to."""

import time
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import pytest

from partita import BrokerUnavailable, InvalidCommand, LedgerEngine, Settings

GOOD: dict[str, Any] = {"account_id": "alice", "amount": "1", "entry_type": "credit"}


@pytest.fixture
async def engine() -> AsyncIterator[LedgerEngine]:
    """An engine that would notice it if anything were sent."""
    nowhere = "127.0.0.1:1"
    url = f"postgresql://u:p@{nowhere}/d"
    async with LedgerEngine(
        kafka_bootstrap=nowhere, schema_registry_url=f"http://{nowhere}", postgres_url=url
    ) as engine:
        yield engine


def loop() -> dict[str, Any]:
    """Return metadata that holds itself."""
    metadata: dict[str, Any] = {}
    metadata["self"] = metadata
    return metadata


def nested(levels: int) -> dict[str, Any]:
    """Return metadata nested so deep."""
    metadata: dict[str, Any] = {}
    for _ in range(levels):
        metadata = {"a": metadata}
    return metadata


class NoZone(tzinfo):
    """A time zone that knows of none."""

    def utcoffset(self, _: datetime | None) -> timedelta | None:
        return None

    dst = utcoffset

    def tzname(self, _: datetime | None) -> str | None:
        return None


BAD: list[tuple[str, Any, str]] = [
    ("amount", 0.1, "InvalidAmount"),
    ("amount", float("nan"), "InvalidAmount"),
    ("amount", float("inf"), "InvalidAmount"),
    ("amount", Decimal("NaN"), "InvalidAmount"),
    ("amount", Decimal("-Infinity"), "InvalidAmount"),
    ("amount", Decimal("1E+999999"), "InvalidAmount"),
    ("amount", True, "InvalidAmount"),
    ("amount", None, "InvalidAmount"),
    ("amount", "1e3", "InvalidAmount"),
    ("amount", "", "InvalidAmount"),
    ("amount", "0", "InvalidAmount"),
    ("amount", "-1", "InvalidAmount"),
    ("amount", "0.0000000000000000001", "InvalidAmount"),
    ("amount", "1" + "0" * 20, "InvalidAmount"),
    ("amount", "9" * 39, "InvalidAmount"),
    ("entry_type", "transfer", "InvalidEntryType"),
    ("entry_type", "", "InvalidEntryType"),
    ("entry_type", None, "InvalidEntryType"),
    ("entry_type", 1, "InvalidEntryType"),
    ("account_id", "", "InvalidAccountId"),
    ("account_id", "a" * 10_000, "InvalidAccountId"),
    ("account_id", "a\0", "InvalidAccountId"),
    ("account_id", 7, "InvalidAccountId"),
    ("command_id", "", "InvalidCommandId"),
    ("command_id", "c" * 129, "InvalidCommandId"),
    ("command_id", 7, "InvalidCommandId"),
    ("asset", "", "InvalidAsset"),
    ("asset", "A" * 65, "InvalidAsset"),
    ("asset", 7, "InvalidAsset"),
    ("reference", "r" * 1025, "InvalidReference"),
    ("reference", 7, "InvalidReference"),
    ("reference", "\ud800", "InvalidReference"),
    ("metadata", {"blob": "x" * 1_000_000}, "InvalidMetadata"),
    ("metadata", {"a": float("nan")}, "InvalidMetadata"),
    ("metadata", {"a": Decimal(1)}, "InvalidMetadata"),
    ("metadata", {"a": {1, 2}}, "InvalidMetadata"),
    ("metadata", {"a": "\0"}, "InvalidMetadata"),
    ("metadata", {"a": "\ud800"}, "InvalidMetadata"),
    ("metadata", {(1, 2): "a"}, "InvalidMetadata"),
    ("metadata", loop(), "InvalidMetadata"),
    ("metadata", nested(65), "InvalidMetadata"),
    ("metadata", nested(5000), "InvalidMetadata"),
    ("metadata", [], "InvalidMetadata"),
    ("metadata", ["a"], "InvalidMetadata"),
    ("metadata", "{}", "InvalidMetadata"),
    ("metadata", 7, "InvalidMetadata"),
    ("effective_at", datetime(2026, 1, 1), "InvalidEffectiveTime"),  # noqa: DTZ001  # naive on purpose
    ("effective_at", datetime(2026, 1, 1, tzinfo=NoZone()), "InvalidEffectiveTime"),
    ("effective_at", datetime.fromisoformat("1969-12-31T23:59:59+00:00"), "InvalidEffectiveTime"),
    ("effective_at", date(2026, 1, 1), "InvalidEffectiveTime"),
    ("effective_at", "2026-01-01", "InvalidEffectiveTime"),
    ("expected_version", -1, "InvalidExpectedVersion"),
    ("expected_version", 10**30, "InvalidExpectedVersion"),
    ("expected_version", True, "InvalidExpectedVersion"),
    ("expected_version", "1", "InvalidExpectedVersion"),
]


@pytest.mark.parametrize(("field", "value", "code"), BAD, ids=[f"{field}-{i}" for i, (field, _, _) in enumerate(BAD)])
async def test_a_bad_argument_is_refused_by_name(engine: LedgerEngine, field: str, value: Any, code: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(InvalidCommand) as refused:
        await engine.create_entry(**GOOD | {field: value})
    assert refused.value.code == code
    assert len(refused.value.message) < 300
    assert time.perf_counter() - begun < 0.5


@pytest.mark.parametrize("account_id", ["", "a" * 10_000, "a\0", "\ud800", 7, None])
async def test_no_balance_is_told_of_an_account_that_can_not_be(engine: LedgerEngine, account_id: Any) -> None:
    for ask in (engine.get_balance, engine.list_entries):
        with pytest.raises(InvalidCommand) as refused:
            await ask(account_id)
        assert refused.value.code == "InvalidAccountId"


async def test_arguments_that_are_right_go_on_to_the_broker() -> None:
    """So the refusals above are not for want of a broker."""
    settings = Settings(kafka_bootstrap="127.0.0.1:1", schema_registry_url="http://127.0.0.1:1", connect_timeout=0.3)
    async with LedgerEngine(settings=settings) as engine:
        with pytest.raises(BrokerUnavailable):
            await engine.create_entry(**GOOD, effective_at=datetime.fromisoformat("2026-01-01T00:00:00+05:30"))
