"""What a caller gives wrong is refused by name before anything is sent or connected to."""

import time
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import pytest

from commands.types import OpenAccount, PlaceHold, SettleHold
from partita import BrokerUnavailable, InvalidCommand, LedgerEngine, Settings
from partita.input import command, entry_fields
from tests.support.samples import UNIT

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


CALLS: list[tuple[str, dict[str, Any], str]] = [
    ("open_account", {"floor": 0.5}, "InvalidFloor"),
    ("open_account", {"floor": "1"}, "InvalidFloor"),
    ("open_account", {"floor": True}, "InvalidFloor"),
    ("open_account", {"floor": "-1" + "0" * 20}, "InvalidFloor"),
    ("open_account", {"assets": "USD"}, "InvalidAsset"),
    ("open_account", {"assets": ["USD", "USD"]}, "InvalidAsset"),
    ("open_account", {"assets": [["USD"]]}, "InvalidAsset"),
    ("open_account", {"assets": None}, "InvalidAsset"),
    ("open_account", {"assets": 7}, "InvalidAsset"),
    ("open_account", {"account_type": ""}, "InvalidAccountType"),
    ("open_account", {"account_type": 7}, "InvalidAccountType"),
    ("open_account", {"metadata": []}, "InvalidMetadata"),
    ("open_account", {"dry_run": "no"}, "InvalidCommand"),
    ("open_account", {"dry_run": None}, "InvalidCommand"),
    ("freeze_account", {"reason": 7}, "InvalidReason"),
    ("freeze_account", {"reason": "r" * 1025}, "InvalidReason"),
    ("freeze_account", {"account_id": ""}, "InvalidAccountId"),
    ("unfreeze_account", {"expected_version": "1"}, "InvalidExpectedVersion"),
    ("close_account", {"permanent": 1}, "InvalidCommand"),
    ("reopen_account", {"command_id": ""}, "InvalidCommandId"),
    ("place_hold", {"amount": 0.1}, "InvalidAmount"),
    ("place_hold", {"amount": None}, "InvalidAmount"),
    ("place_hold", {"amount": 1, "expires_at": datetime(2026, 1, 1)}, "InvalidExpiry"),  # noqa: DTZ001  # naive
    ("place_hold", {"amount": 1, "expires_at": "2026-01-01"}, "InvalidExpiry"),
    ("place_hold", {"amount": 1, "asset": ""}, "InvalidAsset"),
    ("settle_hold", {"hold_id": ""}, "InvalidHoldId"),
    ("settle_hold", {"hold_id": "h", "amount": 0.1}, "InvalidAmount"),
    ("settle_hold", {"hold_id": "h", "effective_at": 7}, "InvalidEffectiveTime"),
    ("release_hold", {"hold_id": None}, "InvalidHoldId"),
    ("release_hold", {"hold_id": "h", "reason": "\0"}, "InvalidReason"),
    ("expire_hold", {"hold_id": 7}, "InvalidHoldId"),
]


@pytest.mark.parametrize(("name", "arguments", "code"), CALLS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(CALLS)])
async def test_so_it_is_with_every_call_that_writes(
    engine: LedgerEngine, name: str, arguments: dict[str, Any], code: str
) -> None:
    with pytest.raises(InvalidCommand) as refused:
        await getattr(engine, name)(**{"account_id": "alice"} | arguments)
    assert refused.value.code == code


async def test_an_argument_that_there_is_not_is_an_error_of_the_program(engine: LedgerEngine) -> None:
    with pytest.raises(TypeError, match="commandid"):
        await engine.freeze_account("alice", commandid="c-1")  # type: ignore[call-arg]  # it is what is tested


async def test_each_of_many_entries_is_refused_by_itself(engine: LedgerEngine) -> None:
    """Nothing is right, so nothing is sent, and the broker that is not there is not missed."""
    given: list[Any] = [
        GOOD | {"amount": 0.1},
        GOOD | {"ammount": "1"},
        {"account_id": "alice", "amount": "1"},
        GOOD | {"reply_key": "mine"},
        None,
    ]
    refused = await engine.create_entries(given)
    assert [error.code for error in refused if isinstance(error, InvalidCommand)] == [
        "InvalidAmount",
        *["InvalidCommand"] * 4,
    ]
    assert "'ammount'" in str(refused[1])
    assert "entry_type" in str(refused[2])


def test_what_is_given_becomes_the_command() -> None:
    opened = command(OpenAccount, command_id="c", account_id="alice", floor="-500.50", assets=["USD"])
    assert opened == OpenAccount("c", None, "alice", -500 * UNIT - UNIT // 2, ("USD",))
    assert command(OpenAccount, command_id="c", account_id="world", floor=None).floor is None
    when = datetime.fromisoformat("1970-01-01T00:00:01+00:00")
    held = command(PlaceHold, command_id="c", account_id="alice", amount=1, asset="USD", expires_at=when)
    assert held == PlaceHold("c", None, "alice", UNIT, "USD", 1_000_000)
    all_of_it = command(SettleHold, command_id="c", account_id="alice", hold_id="h", amount=None, dry_run=True)
    assert all_of_it == SettleHold("c", None, "alice", "h", None, dry_run=True)


def test_an_entry_is_a_mapping_or_an_object_with_such_attributes() -> None:
    class Entry:
        account_id, amount, entry_type, reference, unrelated = "alice", "1", "credit", "r", 7

    assert entry_fields(Entry()) == GOOD | {"reference": "r"}
    assert entry_fields(GOOD) == GOOD


async def test_arguments_that_are_right_go_on_to_the_broker() -> None:
    """So the refusals above are not for want of a broker."""
    settings = Settings(kafka_bootstrap="127.0.0.1:1", schema_registry_url="http://127.0.0.1:1", connect_timeout=0.3)
    async with LedgerEngine(settings=settings) as engine:
        with pytest.raises(BrokerUnavailable):
            await engine.create_entry(**GOOD, effective_at=datetime.fromisoformat("2026-01-01T00:00:00+05:30"))
