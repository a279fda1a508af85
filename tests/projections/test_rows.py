"""Events to rows, without a database: COPY text is read back here as PostgreSQL reads it."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.follow import StoredEvent
from events.money import to_scaled, to_units
from events.types import AccountClosed, AccountFrozen, AccountReopened, AccountUnfrozen, Event, StatusEvent
from projections.changes import (
    ACCOUNT_COLUMNS,
    CHANGE_COLUMNS,
    HOLD_COLUMNS,
    STATUS_COLUMNS,
    TAKEN_COLUMNS,
    Row,
)
from projections.rows import BALANCE_COLUMNS, ENTRY_COLUMNS, REJECTION_COLUMNS, rows_of
from projections.store import advances_of
from tests.projections.log import NOON, UNIT, Writer, account_in

_UNESCAPED = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


def stored(*events: tuple[int, Event]) -> list[StoredEvent]:
    return [StoredEvent(partition, event.sequence, b"", event) for partition, event in events]


def read_back(line: str) -> dict[str, Any]:
    assert line.endswith("\n")
    fields = line[:-1].split("\t")
    values = [None if f == "\\N" else re.sub(r"\\.", lambda m: _UNESCAPED[m[0]], f, flags=re.DOTALL) for f in fields]
    return dict(zip(ENTRY_COLUMNS, values, strict=True))


def as_dicts(columns: Sequence[str], rows: list[Row]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_an_entry_becomes_a_line_with_every_column() -> None:
    writer = Writer(partitions=1)
    fields: dict[str, Any] = {"reference": "order 7", "metadata": '{"a":"\\n"}', "effective_at": NOON - 1}
    [line] = rows_of(stored(writer.post("alice", 5 * UNIT // 2, **fields))).entries
    assert read_back(line) == {
        "entry_id": "0-0",
        "partition": "0",
        "sequence": "0",
        "account_id": "alice",
        "version": "1",
        "entry_type": "CREDIT",
        "amount": "2500000000000000000e-18",
        "asset": "USD",
        "running_balance": "2500000000000000000e-18",
        "command_id": "c-0",
        "reference": "order 7",
        "metadata": '{"a":"\\n"}',
        "effective_at": "2026-09-21T14:13:19.999999+00",
        "recorded_at": "2026-09-21T14:13:20.000001+00",
        "writer_epoch": "1",
        **dict.fromkeys(("hold_id", "batch_id", "leg", "legs", "forced")),
    }


@pytest.mark.parametrize("text", ["\t", "\n", "\r\n", "\\", "\\N", "\\.", "a\\tb", "é\u2028", "", "x\\", "日本\x7f"])
def test_a_text_comes_through_copy_as_it_is(text: str) -> None:
    event = Writer(partitions=1).post("a", account_id=text, asset=text, command_id=text, reference=text)
    [line] = rows_of(stored(event)).entries
    back = read_back(line)
    assert {back[name] for name in ("account_id", "asset", "command_id", "reference")} == {text}


def test_an_absent_reference_is_null_and_one_that_looks_like_it_is_not() -> None:
    writer = Writer(partitions=1)
    rows = rows_of(stored(writer.post("a"), writer.post("a", reference="\\N"), writer.post("a", reference="None")))
    assert [read_back(line)["reference"] for line in rows.entries] == [None, "\\N", "None"]


@pytest.mark.parametrize(
    ("micros", "expected"),
    [(-(2**63), "0001-01-01T00:00:00.000000+00"), (2**63 - 1, "9999-12-31T23:59:59.999999+00"), (-1, None)],
)
def test_an_effective_time_out_of_range_is_clipped(micros: int, expected: str | None) -> None:
    [line] = rows_of(stored(Writer(partitions=1).post("a", effective_at=micros))).entries
    assert read_back(line)["effective_at"] == (expected or "1969-12-31T23:59:59.999999+00")


def test_a_recorded_time_out_of_range_is_refused() -> None:
    with pytest.raises(OverflowError):
        rows_of(stored(Writer(partitions=1).post("a", recorded_at=2**62)))


def test_the_last_entry_of_an_account_and_asset_makes_its_balance() -> None:
    writer = Writer(partitions=1)
    rows = rows_of(stored(writer.post("a", 3), writer.post("a", 5, asset="EUR"), writer.post("a", -1)))
    balances = [dict(zip(BALANCE_COLUMNS, row, strict=True)) for row in rows.balances]
    assert [(b["asset"], b["balance"], b["version"], b["sequence"]) for b in balances] == [
        ("USD", Decimal("2E-18"), 3, 2),
        ("EUR", Decimal("5E-18"), 2, 1),
    ]


def test_a_rejection_becomes_a_row_and_moves_no_balance() -> None:
    rows = rows_of(stored(Writer(partitions=1).reject("a", details={"b": "2", "a": "1"})))
    [rejection] = (dict(zip(REJECTION_COLUMNS, row, strict=True)) for row in rows.rejections)
    assert rejection["code"] == "InsufficientFunds"
    assert json.loads(rejection["details"]) == {"a": "1", "b": "2"}
    assert (rows.entries, rows.balances) == ([], [])


def test_a_settlement_is_a_debit_that_names_its_hold() -> None:
    writer = Writer(partitions=1)
    rows = rows_of(
        stored(writer.post("a", 5), writer.place("a", "h\t1", 3), writer.settle("a", "h\t1", 2, remaining=1))
    )
    settled = read_back(rows.entries[1])
    assert (settled["entry_id"], settled["entry_type"], settled["version"]) == ("0-2", "DEBIT", "3")
    assert (settled["amount"], settled["running_balance"], settled["hold_id"]) == ("2e-18", "3e-18", "h\t1")


def test_an_account_that_a_command_opens_has_the_rules_of_that_command() -> None:
    writer = Writer(partitions=1)
    opened = writer.open_account("b", floor=-5, assets=("USD",), account_type="credit", reference="r", metadata="{}")
    [account] = as_dicts(ACCOUNT_COLUMNS, rows_of(stored(opened, writer.post("b"))).accounts)
    assert (account["status"], account["version"]) == ("OPEN", 1)
    assert account["opened_at"] == account["updated_at"]
    assert (account["floor"], account["assets"], account["account_type"]) == (Decimal("-5E-18"), ["USD"], "credit")
    [account] = as_dicts(ACCOUNT_COLUMNS, rows_of(stored(writer.open_account("world", floor=None))).accounts)
    assert account["floor"] is None


@pytest.mark.parametrize(
    ("kinds", "status", "permanent"),
    [
        ([AccountFrozen], "FROZEN", False),
        ([AccountFrozen, AccountUnfrozen], "OPEN", False),
        ([AccountFrozen, AccountClosed], "CLOSED", True),
        ([AccountClosed, AccountReopened], "OPEN", False),
    ],
)
def test_the_last_change_of_status_is_the_accounts(
    kinds: list[type[StatusEvent]], status: str, permanent: bool
) -> None:
    writer = Writer(partitions=1)
    told: dict[type[StatusEvent], dict[str, Any]] = {AccountClosed: {"permanent": True}}
    events: list[tuple[int, Event]] = []
    events += (writer.make(kind, "a", reason="why", **told.get(kind, {})) for kind in kinds)
    rows = rows_of(stored(*events))
    [row] = as_dicts(STATUS_COLUMNS, rows.statuses)
    assert (row["status"], row["permanent"], row["version"]) == (status, permanent, len(kinds))
    changes = as_dicts(CHANGE_COLUMNS, rows.changes)
    assert [(change["change"], change["reason"]) for change in changes] == [(kind.__name__, "why") for kind in kinds]
    assert (rows.balances, rows.held) == ([], [])


@pytest.mark.parametrize(
    ("ends", "remaining", "status"),
    [
        ([("settle", 2, 3)], 3, "PLACED"),
        ([("settle", 2, 3), ("settle", 3, 0)], 0, "SETTLED"),
        ([("settle", 2, 3), ("release", 3, False)], 0, "RELEASED"),
        ([("release", 5, True)], 0, "EXPIRED"),
    ],
)
def test_a_hold_is_placed_and_taken(ends: list[tuple[str, int, Any]], remaining: int, status: str) -> None:
    writer = Writer(partitions=1)
    events: list[tuple[int, Event]] = [
        writer.post("a", 9),
        writer.place("a", "h", 5, expires_at=NOON, reference="r", metadata='{"k":1}'),
    ]
    for what, units, rest in ends:
        told = {"remaining": rest} if what == "settle" else {"expired": rest}
        events.append(getattr(writer, what)("a", "h", units, **told))
    rows = rows_of(stored(*events))
    [placed], [taken] = as_dicts(HOLD_COLUMNS, rows.holds), as_dicts(TAKEN_COLUMNS, rows.taken)
    assert (placed["amount"], placed["remaining"], placed["status"]) == (to_scaled(5), to_scaled(5), "PLACED")
    assert (placed["version"], placed["placed_version"], placed["reference"]) == (2, 2, "r")
    assert (taken["remaining"], taken["status"], taken["version"]) == (to_scaled(remaining), status, len(events))
    assert (taken["ended_at"] is None) == (status == "PLACED")
    assert rows.held == [("a", "USD", to_scaled(remaining))]
    [balance] = as_dicts(BALANCE_COLUMNS, rows.balances)
    assert (balance["balance"], balance["version"]) == (to_scaled(writer.balances["a", "USD"]), len(events))


def test_a_hold_before_any_entry_makes_a_balance_of_nothing() -> None:
    writer = Writer(partitions=1)
    rows = rows_of(stored(writer.open_account("world", floor=None), writer.place("world", "h", 5)))
    assert [row[:4] for row in rows.balances] == [("world", "USD", 0, 2)]
    assert rows.held == [("world", "USD", to_scaled(5))]


def test_a_change_says_what_only_its_type_has() -> None:
    writer = Writer(partitions=1)
    rows = rows_of(
        stored(
            writer.open_account("a", floor=-UNIT // 2, assets=("EUR", "USD"), account_type="credit"),
            writer.place("a", "h", 5, expires_at=2**62),
            writer.release("a", "h", 5, expired=True, reason="late"),
            writer.make(AccountClosed, "a", permanent=False),
        )
    )
    opened, placed, released, closed = as_dicts(CHANGE_COLUMNS, rows.changes)
    assert json.loads(opened["details"]) == {"floor": "-0.5", "assets": ["EUR", "USD"], "account_type": "credit"}
    assert json.loads(placed["details"]) == {"expires_at": "9999-12-31T23:59:59.999999+00:00"}
    assert (placed["hold_id"], placed["command_id"], placed["amount"]) == ("h", "h", to_scaled(5))
    assert (json.loads(released["details"]), released["reason"], released["held"]) == ({"expired": True}, "late", 0)
    assert json.loads(closed["details"]) == {"permanent": False}
    assert [change["version"] for change in (opened, placed, released, closed)] == [1, 2, 3, 4]


def test_each_partition_advances_to_behind_its_last_event() -> None:
    writer = Writer(partitions=2)
    first, second = account_in(0, 2), account_in(1, 2)
    events = [*writer.opened(), writer.post(first), writer.post(second), writer.post(first)]
    advances = {a.partition: a for a in advances_of(stored(*events))}
    assert {p: (a.next_offset, a.next_sequence, a.writer_epoch) for p, a in advances.items()} == {
        0: (3, 3, 1),
        1: (2, 2, 1),
    }


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_times_are_exact(micros: int) -> None:
    [line] = rows_of(stored(Writer(partitions=1).post("a", recorded_at=micros))).entries
    text = read_back(line)["recorded_at"]
    whole = datetime.fromisoformat(text.removesuffix("+00")).replace(tzinfo=UTC)
    assert (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == micros


MOVES = st.lists(
    st.tuples(
        st.sampled_from("abcdef"), st.integers(-(10**30), 10**30).filter(bool), st.sampled_from(["USD", "EUR"])
    ),
    max_size=60,
)


@given(MOVES, st.integers(1, 20))
def test_balances_over_any_batches_are_the_fold_of_the_events(moves: list[tuple[str, int, str]], size: int) -> None:
    writer = Writer(partitions=3)
    events = stored(*(writer.post(account, units, asset=asset) for account, units, asset in moves))
    table: dict[tuple[str, str], Decimal] = {}
    lines = []
    for start in range(0, len(events), size):
        rows = rows_of(events[start : start + size])
        table |= {(row[0], row[1]): row[2] for row in rows.balances}
        lines += [read_back(line) for line in rows.entries]
    assert {key: to_units(balance) for key, balance in table.items()} == writer.balances
    changes = {"CREDIT": 1, "DEBIT": -1}
    for account, asset in table:
        of = [line for line in lines if (line["account_id"], line["asset"]) == (account, asset)]
        total = sum(changes[line["entry_type"]] * int(line["amount"].removesuffix("e-18")) for line in of)
        assert total == writer.balances[account, asset]
