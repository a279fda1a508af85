"""Questions to the snapshots: a balance, all balances or a trial balance, at any time.

No answer scans the history: it adds up a balance and some thousand small rows at most (see `periods`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from events.money import UNITS_PER_WHOLE, to_decimal
from projections.cursors import Cursor, Kinds
from projections.errors import InvalidPointInTime
from projections.queries import ReadModel, start
from projections.selects import Compiled
from projections.snapshots import statements
from projections.snapshots.periods import spans_to
from projections.snapshots.projection import SNAPSHOTS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SPANS: Final = ("levels", "firsts", "lasts")
_PLACE: Final[Kinds] = (None, None)


class Clock(StrEnum):
    """By which time an entry counts: when it was recorded, or when it is effective."""

    RECORDED = "recorded"
    EFFECTIVE = "effective"


def clock_of(name: str) -> Clock:
    """Return the clock of this name; raises `InvalidPointInTime`."""
    try:
        return Clock(name)
    except ValueError:
        raise InvalidPointInTime(f"{name[:40]!r} is none of recorded, effective") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceAt:
    """What one account had of one asset at a time, in whole units."""

    account_id: str
    asset: str
    balance: Decimal


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    """Some balances; `next_cursor` gives those after them, None when there are no more.

    A page may be shorter than asked for, or empty, though more come: accounts that had nothing yet are left out.
    """

    balances: Sequence[BalanceAt]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBalance:
    """The sums over all accounts of one asset at a time, in whole units.

    `balance` is `credits` less `debits`, and adds up what accounts without a floor have, which is below 0 by what
    came in through them, and what all the others have. `held` is reserved by open holds, `in_flight` by batches that
    are not decided or not posted yet; both are by recorded time, and part of the balances.
    """

    asset: str
    credits: Decimal
    debits: Decimal
    balance: Decimal
    floorless: Decimal
    others: Decimal
    held: Decimal
    in_flight: Decimal


class History:
    """The snapshots of a read model. Every call raises as `ReadModel`'s do, and `InvalidPointInTime`.

    `at` counts what is at that very microsecond in. With `at_least` (partition to sequence), it is waited up to
    `timeout` seconds until the snapshots have seen these events; else `ReadModelBehind`.
    """

    def __init__(self, model: ReadModel) -> None:
        self._model = model
        self._balance = self._compiled(statements.BALANCE_AT, "at", *_SPANS, "effective", "account_id", "asset")
        self._page = self._compiled(
            statements.SNAPSHOT_AT, "at", *_SPANS, "effective", "account_id", "asset", "limit"
        )
        self._trial = self._compiled(statements.TRIAL_BALANCE_AT, *_SPANS, "effective")

    def _compiled(self, statement: str, *names: str) -> Compiled:
        return statement.format(schema=f'"{self._model.schema}"'), names

    async def balance(
        self,
        account_id: str,
        asset: str,
        at: datetime,
        clock: Clock = Clock.RECORDED,
        *,
        at_least: Mapping[int, int] | None = None,
        timeout: float = 10.0,  # it bounds a wait that many calls share
    ) -> Decimal:
        """Return what the account had of `asset`; 0 when it had no entry of it yet."""
        await self._wait(at_least, timeout)
        rows = await self._model.fetch(self._balance, {"account_id": account_id, "asset": asset, **_when(at, clock)})
        return to_decimal(_units(rows[0]["balance"])) if rows else Decimal(0)

    async def snapshot(
        self,
        at: datetime,
        clock: Clock = Clock.RECORDED,
        *,
        after: str | None = None,
        limit: int = 100,
        at_least: Mapping[int, int] | None = None,
        timeout: float = 10.0,  # as in balance
    ) -> SnapshotPage:
        """Return what accounts had, by account and asset, looking at up to `limit` (1 to 1,000) of them.

        `after` is the `next_cursor` of the page before; it goes with the same time and clock only.

        Raises:
            InvalidCursor: `after` is none of ours, or another question's.
            ValueError: `limit` is out of range.
        """
        when = _when(at, clock)
        question = ("snapshot", at.astimezone(UTC).isoformat(), clock)
        account_id, asset = start(question, after, limit, _PLACE) or ("", "")
        await self._wait(at_least, timeout)
        rows = await self._model.fetch(self._page, {"account_id": account_id, "asset": asset, "limit": limit, **when})
        found = tuple(
            BalanceAt(account_id=row["account_id"], asset=row["asset"], balance=to_decimal(_units(row["balance"])))
            for row in rows
            if row["there"]
        )
        if len(rows) < limit:
            return SnapshotPage(found, None)
        return SnapshotPage(found, Cursor(question, (rows[-1]["account_id"], rows[-1]["asset"])).encode())

    async def trial_balance(
        self,
        at: datetime,
        clock: Clock = Clock.RECORDED,
        *,
        at_least: Mapping[int, int] | None = None,
        timeout: float = 10.0,  # as in balance
    ) -> tuple[TrialBalance, ...]:
        """Return the sums of each asset of which something had happened, by asset."""
        when = _when(at, clock)
        del when["at"]
        await self._wait(at_least, timeout)
        by_asset: dict[str, dict[bool, Mapping[str, Any]]] = {}
        for row in await self._model.fetch(self._trial, when):
            if row["credits"] is not None:
                by_asset.setdefault(row["asset"], {})[row["floorless"]] = row
        return tuple(_trial(asset, sides) for asset, sides in by_asset.items())

    async def _wait(self, at_least: Mapping[int, int] | None, timeout: float) -> None:  # as in balance
        if at_least:
            await self._model.wait_for(at_least, timeout, SNAPSHOTS)


def _trial(asset: str, sides: Mapping[bool, Mapping[str, Any]]) -> TrialBalance:
    def total(column: str, *of: bool) -> int:
        return sum(_units(sides[side][column]) for side in of or (False, True) if side in sides)

    floorless = total("credits", True) - total("debits", True)
    others = total("credits", False) - total("debits", False)
    return TrialBalance(
        asset=asset,
        credits=to_decimal(total("credits")),
        debits=to_decimal(total("debits")),
        balance=to_decimal(floorless + others),
        floorless=to_decimal(floorless),
        others=to_decimal(others),
        held=to_decimal(total("held")),
        in_flight=to_decimal(total("in_flight")),
    )


def _units(total: Decimal) -> int:
    """Return a sum in units, however many digits it has."""
    numerator, denominator = total.as_integer_ratio()
    return numerator * UNITS_PER_WHOLE // denominator


def _when(at: datetime, clock: Clock) -> dict[str, Any]:
    """Return the parameters of a time; raises `InvalidPointInTime` when it has no zone."""
    if at.utcoffset() is None:
        raise InvalidPointInTime("it needs a zone: datetime.now(UTC), or 2026-05-01T00:00:00+00:00")
    try:
        at = at.astimezone(UTC)
    except OverflowError:
        raise InvalidPointInTime("it is outside the years 1 to 9999") from None
    levels, firsts, lasts = zip(*spans_to((at - _EPOCH) // timedelta(microseconds=1)), strict=True)
    return {
        "at": at,
        "levels": list(levels),
        "firsts": list(firsts),
        "lasts": list(lasts),
        "effective": clock is Clock.EFFECTIVE,
    }
