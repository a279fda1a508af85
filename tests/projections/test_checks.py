"""The checks on a real PostgreSQL: they pass on what the service wrote, and name what was tampered with."""

import asyncio
from collections.abc import Iterator

import pytest

from events.codec import EventCodec
from events.types import AccountFrozen
from projections.checks import check_all, checks_within
from projections.migrate import upgrade
from projections.queries import ReadModel
from tests.projections.conftest import projecting
from tests.projections.log import NOON, UNIT, TestLedger, account_in
from tests.support.stack import Stack

A, B = account_in(0, 4), account_in(1, 4)


async def write(ledger: TestLedger) -> None:
    """Sequences 1 to 4 of partition 0 are +5 USD, +1 EUR, a rejection, -2 USD of A.

    In partition 1, B is opened with a floor of -9; 8 USD are held, of which 3 are settled; another hold is released;
    it is frozen.
    """
    writer = ledger.writer
    ledger.append(
        [
            writer.post(A, 5 * UNIT),
            writer.post(A, UNIT, asset="EUR"),
            writer.reject(A),
            writer.post(A, -2 * UNIT),
            writer.open_account(B, floor=-9 * UNIT, assets=("USD",), account_type="credit"),
            writer.place(B, "h-1", 8 * UNIT, expires_at=NOON, reference="till"),
            writer.settle(B, "h-1", 3 * UNIT, remaining=5 * UNIT),
            writer.place(B, "h-2", UNIT),
            writer.release(B, "h-2", UNIT),
            writer.make(AccountFrozen, B, reason="audit"),
        ]
    )
    async with ReadModel(ledger.database) as reader, projecting(ledger):
        await reader.wait_for(ledger.wanted(), 30)


@pytest.fixture(scope="module")
def honest(stack: Stack, codec: EventCodec) -> Iterator[TestLedger]:
    """One ledger for all these tests: what is tampered with is never committed."""
    ledger = TestLedger.create(stack.addresses, codec)
    with asyncio.Runner() as runner:
        runner.run(upgrade(ledger.database))
        runner.run(write(ledger))
        yield ledger
        runner.run(ledger.drop())


async def test_an_empty_read_model_passes(ledger: TestLedger) -> None:
    results = await check_all(ledger.database)
    assert [(result.name, result.detail) for result in results if not result.ok] == []


async def test_an_honest_read_model_passes(honest: TestLedger) -> None:
    results = await check_all(honest.database)
    assert [(result.name, result.detail) for result in results if not result.ok] == []
    assert {result.name: result.checked for result in results} == {
        "I1": 2,
        "I3": 9,
        "I4": 7,
        "I5": 14,
        "I6 held": 3,
        "I6 batches": 0,
        "I6 promises": 0,
        "I7 batches": 0,
        "I7 entries": 4,
        "I7 versions": 2,
        "I7 balances": 3,
        "I7 accounts": 2,
        "I7 holds": 2,
        "I7 snapshot balances": 0,
        "I7 snapshot corrections": 0,
        "I7 snapshot totals": 0,
        "I7 snapshot accounts": 0,
    }


@pytest.mark.parametrize(
    ("tampering", "broken", "named"),
    [
        ("UPDATE entries SET amount = 6 WHERE entry_id = '0-1'", {"I1", "I7 entries"}, "0-1"),
        ("UPDATE entries SET running_balance = 4 WHERE entry_id = '0-1'", {"I7 entries"}, "0-1"),
        ("UPDATE entries SET running_balance = -1 WHERE entry_id = '0-1'", {"I7 entries"}, "0-1"),
        ("UPDATE entries SET amount = 60 WHERE entry_id = '0-4'", {"I1", "I4", "I7 entries"}, "0-4 of account"),
        ("UPDATE entries SET version = 9 WHERE entry_id = '0-4'", {"I7 versions", "I7 balances"}, A),
        ("UPDATE entries SET command_id = 'c-0' WHERE account_id = '{A}'", {"I3"}, "c-0: 3 entries"),
        ("DELETE FROM entries WHERE entry_id = '0-2'", {"I1", "I5", "I7 versions", "I7 balances"}, "3 comes after 1"),
        ("DELETE FROM entries WHERE entry_id = '0-4'", {"I1", "I5", "I7 balances"}, "5 comes after 3"),
        ("DELETE FROM rejections", {"I5"}, "4 comes after 2"),
        ("UPDATE rejections SET sequence = 9", {"I5"}, "4 comes after 2"),
        ("UPDATE balances SET balance = 4 WHERE account_id = '{A}' AND asset = 'USD'", {"I1", "I7 balances"}, A),
        ("UPDATE balances SET balance = -1 WHERE asset = 'EUR'", {"I1", "I7 balances"}, "balance -1"),
        ("DELETE FROM balances WHERE asset = 'EUR'", {"I1", "I7 balances"}, A),
        ("UPDATE positions SET next_sequence = 4 WHERE partition = 0", {"I5"}, "partition 0"),
        ("UPDATE balances SET held = 6 WHERE account_id = '{B}'", {"I6 held"}, "6.0"),
        ("UPDATE balances SET held = 7 WHERE account_id = '{B}'", {"I6 held"}, "holds and batches reserve"),
        ("UPDATE balances SET version = 3 WHERE account_id = '{B}'", {"I7 balances"}, B),
        ("DELETE FROM balances WHERE account_id = '{B}'", {"I1", "I6 held", "I7 balances"}, B),
        ("UPDATE accounts SET floor = 0 WHERE account_id = '{B}'", {"I4", "I7 accounts"}, "1-2 of account"),
        ("UPDATE accounts SET floor = NULL WHERE account_id = '{A}'", {"I7 accounts"}, A),
        ("UPDATE accounts SET status = 'OPEN'", {"I7 accounts"}, "its changes say FROZEN"),
        ("UPDATE accounts SET permanent = true WHERE account_id = '{A}'", {"I7 accounts"}, A),
        ("UPDATE accounts SET assets = '{{EUR}}' WHERE account_id = '{B}'", {"I7 accounts"}, B),
        ("UPDATE accounts SET updated_at = opened_at WHERE account_id = '{B}'", {"I7 accounts"}, B),
        ("DELETE FROM accounts WHERE account_id = '{A}'", {"I7 accounts"}, A),
        ("UPDATE holds SET remaining = 4 WHERE hold_id = 'h-1'", {"I6 held", "I7 holds"}, "h-1"),
        ("UPDATE holds SET amount = 9 WHERE hold_id = 'h-1'", {"I7 holds"}, "h-1"),
        ("UPDATE holds SET status = 'EXPIRED' WHERE hold_id = 'h-2'", {"I7 holds"}, "RELEASED"),
        ("UPDATE holds SET expires_at = NULL", {"I7 holds"}, "h-1"),
        ("UPDATE holds SET reference = 'x' WHERE hold_id = 'h-2'", {"I7 holds"}, "h-2"),
        ("DELETE FROM holds WHERE hold_id = 'h-1'", {"I6 held", "I7 holds"}, "h-1"),
        ("UPDATE entries SET hold_id = NULL", {"I4", "I7 holds"}, "h-1"),
        ("UPDATE changes SET amount = 7 WHERE command_id = 'h-1'", {"I7 holds"}, "h-1"),
        ("UPDATE changes SET command_id = 'h-1' WHERE change = 'HoldReleased'", {"I3"}, "the first is 1-2"),
        ("UPDATE changes SET version = 3 WHERE command_id = 'h-2'", {"I7 versions", "I7 holds"}, B),
        ("DELETE FROM changes WHERE change = 'AccountFrozen'", {"I5", "I7 accounts"}, "7 comes after 5"),
        ("DELETE FROM changes WHERE command_id = 'h-1'", {"I5", "I7 versions", "I7 holds"}, "3 comes after 1"),
    ],
)
async def test_tampering_is_found_and_named(honest: TestLedger, tampering: str, broken: set[str], named: str) -> None:
    connection = await honest.database.connect()
    try:
        await connection.execute(f"BEGIN; SET LOCAL search_path TO {honest.name}")
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(tampering.format(A=A, B=B))
        results = [result for result in await checks_within(connection, honest.name) if not result.ok]
    finally:
        await connection.close()
    assert {result.name for result in results} == broken
    assert any(named in str(result.detail) for result in results), results
