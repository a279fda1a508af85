"""Questions about any time: a balance, all balances, a trial balance. The snapshots answer (docs/history.md)."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from partita.web import models
from partita.web.asking import PageQuery, ReadQuery, Seen
from partita.web.backend import Served
from partita.web.replies import answer
from partita.web.routes import ExactRoute
from partita.web.values import AccountSegment, Segment, TimeIn
from projections.snapshots.projection import SNAPSHOTS
from projections.snapshots.queries import Clock

router = APIRouter(prefix="/v1", route_class=ExactRoute)

By = Annotated[Clock, Field(description="Count entries from when they were recorded, or are effective")]


class BalanceQuery(ReadQuery):
    """When."""

    at: Annotated[TimeIn | None, Field(description="What it was at this time; as it is now when not given")] = None
    time: By = Clock.RECORDED


class BalancesQuery(PageQuery):
    """When. A cursor goes with the same time only, so give the `at` of the first page with it."""

    at: Annotated[TimeIn | None, Field(description="Now when not given")] = None
    time: By = Clock.RECORDED


class TrialBalanceQuery(ReadQuery):
    """When."""

    at: Annotated[TimeIn | None, Field(description="Now when not given")] = None
    time: By = Clock.RECORDED


@router.get("/accounts/{account_id}/balances/{asset}", response_model=models.AccountBalance | models.AccountBalanceAt)
async def get_balance(
    request: Request,
    backend: Served,
    seen: Seen,
    account_id: AccountSegment,
    asset: Segment,
    query: Annotated[BalanceQuery, Query()],
) -> Response:
    """Return what an account has of one asset, or had at a time: 0 when it never had any."""
    if query.at is None:
        await seen.caught_up(query)
        found = await backend.read_model.balance(account_id, asset)
        return answer(request, models.AccountBalance.model_validate(found))
    await seen.caught_up(query, SNAPSHOTS)
    balance = await backend.history.balance(account_id, asset, query.at, query.time)
    told = models.AccountBalanceAt(account_id=account_id, asset=asset, balance=balance, at=query.at, time=query.time)
    return answer(request, told)


@router.get("/balances", response_model=models.Balances)
async def get_balances(
    request: Request, backend: Served, seen: Seen, query: Annotated[BalancesQuery, Query()]
) -> Response:
    """Return the balances of all accounts at a time, by account and asset. A batch is in them whole, or not at all.

    A page may be shorter than `limit`, or empty, though more come: accounts that had nothing yet are left out.
    """
    at = query.at or datetime.now(UTC)
    await seen.caught_up(query, SNAPSHOTS)
    page = await backend.history.snapshot(at, query.time, after=query.cursor, limit=query.limit)
    found = [models.BalanceAt.model_validate(row) for row in page.balances]
    told = models.Balances(at=at, time=query.time, balances=found, next_cursor=page.next_cursor)
    return answer(request, told)


@router.get("/trial-balance", response_model=models.TrialBalances)
async def get_trial_balance(
    request: Request, backend: Served, seen: Seen, query: Annotated[TrialBalanceQuery, Query()]
) -> Response:
    """Return the sums over all accounts at a time, by asset."""
    at = query.at or datetime.now(UTC)
    await seen.caught_up(query, SNAPSHOTS)
    sums = await backend.history.trial_balance(at, query.time)
    found = [models.TrialBalance.model_validate(row) for row in sums]
    return answer(request, models.TrialBalances(at=at, time=query.time, assets=found))
