"""The checks on a real PostgreSQL: they pass on what the service wrote, and name what was tampered with."""

import pytest

from projections.checks import check_all
from projections.queries import ReadModel
from tests.projections.conftest import projecting
from tests.projections.log import UNIT, TestLedger, account_in

A, B = account_in(0, 4), account_in(1, 4)


async def written(ledger: TestLedger, reader: ReadModel) -> None:
    """Sequences 1 to 4 of partition 0 are +5 USD, +1 EUR, a rejection, -2 USD of A; B has one entry."""
    writer = ledger.writer
    ledger.append(
        [
            writer.post(A, 5 * UNIT),
            writer.post(A, UNIT, asset="EUR"),
            writer.reject(A),
            writer.post(A, -2 * UNIT),
            writer.post(B, UNIT),
        ]
    )
    async with projecting(ledger):
        await reader.wait_for(ledger.wanted(), 30)


async def test_an_honest_read_model_passes(ledger: TestLedger, reader: ReadModel) -> None:
    assert all(result.ok for result in await check_all(ledger.database)), "an empty one passes too"
    await written(ledger, reader)
    results = await check_all(ledger.database)
    assert [(result.name, result.detail) for result in results if not result.ok] == []
    assert {result.name: result.checked for result in results} == {
        "I1": 2,
        "I3": 4,
        "I4": 4,
        "I5": 9,
        "I7 entries": 4,
        "I7 versions": 2,
        "I7 balances": 3,
    }


@pytest.mark.parametrize(
    ("tampering", "broken", "named"),
    [
        ("UPDATE entries SET amount = 6 WHERE entry_id = '0-1'", {"I1", "I7 entries"}, "0-1"),
        ("UPDATE entries SET running_balance = 4 WHERE entry_id = '0-1'", {"I7 entries"}, "0-1"),
        ("UPDATE entries SET running_balance = -1 WHERE entry_id = '0-1'", {"I4", "I7 entries"}, "0-1"),
        ("UPDATE entries SET version = 9 WHERE entry_id = '0-4'", {"I7 versions", "I7 balances"}, A),
        ("UPDATE entries SET command_id = 'c-0' WHERE account_id = '{A}'", {"I3"}, "c-0: 3 entries"),
        ("DELETE FROM entries WHERE entry_id = '0-2'", {"I1", "I5", "I7 versions", "I7 balances"}, "3 comes after 1"),
        ("DELETE FROM entries WHERE entry_id = '0-4'", {"I1", "I5", "I7 balances"}, "5 comes after 3"),
        ("DELETE FROM rejections", {"I5"}, "4 comes after 2"),
        ("UPDATE rejections SET sequence = 9", {"I5"}, "4 comes after 2"),
        ("UPDATE balances SET balance = 4 WHERE account_id = '{A}' AND asset = 'USD'", {"I1", "I7 balances"}, A),
        ("UPDATE balances SET balance = -1 WHERE account_id = '{B}'", {"I1", "I4", "I7 balances"}, B),
        ("DELETE FROM balances WHERE account_id = '{B}'", {"I1", "I7 balances"}, B),
        ("UPDATE positions SET next_sequence = 4 WHERE partition = 0", {"I5"}, "partition 0"),
    ],
)
async def test_tampering_is_found_and_named(
    ledger: TestLedger, reader: ReadModel, tampering: str, broken: set[str], named: str
) -> None:
    await written(ledger, reader)
    await ledger.execute(f"SET session_replication_role = replica; {tampering.format(A=A, B=B)}")
    results = {result.name: result for result in await check_all(ledger.database) if not result.ok}
    assert results.keys() == broken
    assert any(named in str(result.detail) for result in results.values()), results
