"""A rebuild: where it compares, how it tells rows apart, where the service that fills stops. Pure."""

import pytest

from projections.errors import EndNotReached
from projections.rebuild.comparing import Difference, differences
from projections.rebuild.places import Places, cut, is_behind, missing
from projections.snapshots.tables import ALL_TABLES
from projections.store import Position
from projections.until import Until


def test_every_schema_of_a_ledger_has_a_name_that_postgresql_takes() -> None:
    places = Places("l" * 40, "snapshots")
    assert len({places.live, places.new, places.old}) == 3
    assert max(map(len, (places.new, places.old))) <= 63


def test_tables_are_compared_where_the_live_ones_are_as_far_as_the_log_goes() -> None:
    assert cut({0: 5, 1: 9}, {0: 7, 1: 8, 2: 3}) == {0: 5, 1: 8, 2: 0}


@pytest.mark.parametrize(
    ("at", "other", "behind", "left"),
    [
        ({0: 5}, {0: 5}, False, 0),
        ({0: 6, 1: 1}, {0: 5, 1: 2}, True, 1),
        ({}, {0: 3, 1: 0}, True, 3),
        ({0: 6}, {0: 5}, False, 0),
    ],
)
def test_behind_is_behind_in_some_partition(
    at: dict[int, int], other: dict[int, int], behind: bool, left: int
) -> None:
    assert (is_behind(at, other), missing(at, other)) == (behind, left)


def test_rows_that_differ_are_told_by_their_keys() -> None:
    table = ALL_TABLES.tables["snapshot_accounts"]
    made = [("a", "USD"), ("b", "USD")]
    assert [*differences(table, made, made)] == []
    found = [*differences(table, made, [("b", "USD"), ("b", "USD"), ("c", "EUR")])]
    assert [str(each) for each in found] == [
        "snapshot_accounts, account_id a, asset USD: the row is not in the live table",
        "snapshot_accounts, account_id b, asset USD: the row is 2 times in the live table",
        "snapshot_accounts, account_id c, asset EUR: the row is in the live table only",
    ]
    holds = ALL_TABLES.tables["snapshot_balances"]
    row = ("a", "USD", "2026-01-01", "1", "5")
    (wrong,) = differences(holds, [row], [(*row[:4], None)])
    key = {"account_id": "a", "asset": "USD", "recorded_at": "2026-01-01", "version": "1"}
    assert wrong == Difference("snapshot_balances", key, "balance is null in the live table, 5 in the log")


def at(*sequences: int) -> dict[int, Position]:
    return {partition: Position(sequence, sequence, 1) for partition, sequence in enumerate(sequences)}


def test_the_end_is_reached_when_every_partition_is_there() -> None:
    until = Until({0: 5, 1: 0}, 60)
    assert not until.is_reached({})  # the positions are not known yet
    assert not until.is_reached(at(4, 7))
    assert until.is_reached(at(5, 0))


def test_an_end_that_can_t_be_reached_is_told_at_once() -> None:
    until = Until({0: 5, 1: 3}, 60)
    until.expect_more(at(4, 3), came=True, comes=False)
    until.expect_more(at(4, 3), came=False, comes=True)
    with pytest.raises(EndNotReached, match="in part") as told:
        until.expect_more(at(4, 3), came=False, comes=False)
    assert told.value.missing == {0: (4, 5)}
    with pytest.raises(EndNotReached, match="nothing came for 0 s"):
        Until({0: 5}, 0).expect_more(at(4), came=False, comes=True)
