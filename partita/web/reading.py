"""Questions: accounts, balances, entries, holds, batches, rejections, commands, positions. All ask the read model."""

from typing import Annotated, Any, Final, assert_never

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from events.errors import LedgerError
from partita.web import models
from partita.web.asking import Nothing, PageQuery, ReadQuery, Seen
from partita.web.backend import Backend, Served
from partita.web.errors import InvalidRequest
from partita.web.replies import NEVER_CHANGES, answer
from partita.web.routes import ExactRoute
from partita.web.values import AccountSegment, BatchSegment, HoldSegment, Segment, TimeIn
from projections.balances import BALANCES
from projections.errors import BatchNotInReadModel
from projections.outcomes import Answered, ChangeRow, RejectionRow, answered
from projections.proofs.following import CHECKPOINTS
from projections.records import BatchStatus, EntryRow, HoldStatus
from projections.search import (
    MOST_PAIRS,
    BatchFilter,
    EntryFilter,
    RejectionFilter,
    find_batches,
    find_entries,
    find_rejections,
    list_accounts,
)

router = APIRouter(prefix="/v1", route_class=ExactRoute)

NewestFirst = Annotated[bool, Field(description="Begin with the newest, and go back")]
From = Annotated[TimeIn | None, Field(description="Not before this time")]
To = Annotated[TimeIn | None, Field(description="Before this time")]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidRequest(["query.metadata: must be name=value"])
    return name, value


class EntriesQuery(PageQuery):
    """What entries are looked for by: those are found that have all of it."""

    account_id: str | None = None
    asset: str | None = None
    reference: str | None = None
    batch_id: str | None = None
    command_id: str | None = None
    partition: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = None
    recorded_from: From = None
    recorded_to: To = None
    effective_from: From = None
    effective_to: To = None
    metadata: Annotated[
        list[str],
        Field(
            max_length=MOST_PAIRS,
            description="`name=value`, at the top of the metadata; several must all be there. A value that reads as "
            "a number, true, false or null finds these as well as the text",
            examples=[["channel=web"]],
        ),
    ] = []  # noqa: RUF012  # pydantic copies it
    newest_first: NewestFirst = False

    def wanted(self) -> EntryFilter:
        """Return the filter that the read model takes."""
        names = EntryFilter.__dataclass_fields__.keys() - {"metadata"}
        pairs = tuple(map(_pair, self.metadata))
        return EntryFilter(**{name: getattr(self, name) for name in names}, metadata=pairs)


class RejectionsQuery(PageQuery):
    """What rejections are looked for by: those are found that have all of it."""

    account_id: str | None = None
    command_id: str | None = None
    code: Annotated[str | None, Field(examples=["InsufficientFunds"])] = None
    recorded_from: From = None
    recorded_to: To = None
    newest_first: NewestFirst = False

    def wanted(self) -> RejectionFilter:
        """Return the filter that the read model takes."""
        return RejectionFilter(**{name: getattr(self, name) for name in RejectionFilter.__dataclass_fields__})


class BatchesQuery(PageQuery):
    """What batches are looked for by: those are found that have all of it."""

    status: BatchStatus | None = None
    started_from: From = None
    started_to: To = None
    newest_first: NewestFirst = False

    def wanted(self) -> BatchFilter:
        """Return the filter that the read model takes."""
        return BatchFilter(**{name: getattr(self, name) for name in BatchFilter.__dataclass_fields__})


class HoldsQuery(PageQuery):
    """Which holds of an account."""

    status: Annotated[HoldStatus | None, Field(description="PLACED ones only, and so on; all when not given")] = None


class CommandQuery(ReadQuery):
    """Whose command."""

    account_id: Annotated[str | None, Field(description="The account that it was for; none for a batch")] = None


class PositionsQuery(Nothing):
    """Whose positions."""

    projection: Annotated[str, Field(examples=["snapshots"], description="Which projection")] = BALANCES


@router.get("/accounts", response_model=models.Accounts)
async def get_accounts(
    request: Request, backend: Served, seen: Seen, query: Annotated[PageQuery, Query()]
) -> Response:
    """Return accounts with their balances, in the order of their ids."""
    await seen.caught_up(query)
    page = await list_accounts(backend.read_model, after=query.cursor, limit=query.limit)
    found = [models.Account.model_validate(row) for row in page.rows]
    return answer(request, models.Accounts(accounts=found, next_cursor=page.next_cursor))


@router.get("/accounts/{account_id}", response_model=models.Account)
async def get_account(
    request: Request, backend: Served, seen: Seen, account_id: AccountSegment, query: Annotated[ReadQuery, Query()]
) -> Response:
    """Return one account: its rules, its status and its balances, all as they were at one moment."""
    await seen.caught_up(query)
    return answer(request, models.Account.model_validate(await backend.read_model.account(account_id)))


@router.get("/accounts/{account_id}/holds", response_model=models.Holds)
async def get_holds(
    request: Request, backend: Served, seen: Seen, account_id: AccountSegment, query: Annotated[HoldsQuery, Query()]
) -> Response:
    """Return the holds of an account, oldest first."""
    await seen.caught_up(query)
    page = await backend.read_model.holds(account_id, status=query.status, after=query.cursor, limit=query.limit)
    found = [models.Hold.model_validate(row) for row in page.holds]
    return answer(request, models.Holds(holds=found, next_cursor=page.next_cursor))


@router.get("/accounts/{account_id}/holds/{hold_id}", response_model=models.Hold)
async def get_hold(
    request: Request,
    backend: Served,
    seen: Seen,
    account_id: AccountSegment,
    hold_id: HoldSegment,
    query: Annotated[ReadQuery, Query()],
) -> Response:
    """Return one hold."""
    await seen.caught_up(query)
    return answer(request, models.Hold.model_validate(await backend.read_model.hold(account_id, hold_id)))


@router.get("/entries", response_model=models.Entries)
async def get_entries(
    request: Request, backend: Served, seen: Seen, query: Annotated[EntriesQuery, Query()]
) -> Response:
    """Return entries: of one account in the order of its versions, else in that in which they were recorded.

    Following the cursors gives every entry once, whatever is posted meanwhile. Of all accounts together, an entry
    that the tables got late may come to stand before the cursor; of one account or one partition none does.
    """
    await seen.caught_up(query)
    page = await find_entries(
        backend.read_model,
        query.wanted(),
        after=query.cursor,
        limit=query.limit,
        newest_first=query.newest_first,
    )
    found = [models.Entry.model_validate(row) for row in page.rows]
    return answer(request, models.Entries(entries=found, next_cursor=page.next_cursor))


@router.get("/entries/{entry_id}", response_model=models.Entry)
async def get_entry(
    request: Request, backend: Served, seen: Seen, entry_id: Segment, query: Annotated[ReadQuery, Query()]
) -> Response:
    """Return one entry, which never changes."""
    await seen.caught_up(query)
    found = models.Entry.model_validate(await backend.read_model.entry(entry_id))
    return answer(request, found, cache=NEVER_CHANGES)


@router.get("/batches", response_model=models.Batches)
async def get_batches(
    request: Request, backend: Served, seen: Seen, query: Annotated[BatchesQuery, Query()]
) -> Response:
    """Return batches without their entries, in the order in which they were started."""
    await seen.caught_up(query)
    page = await find_batches(
        backend.read_model, query.wanted(), after=query.cursor, limit=query.limit, newest_first=query.newest_first
    )
    found = [models.BatchSummary.model_validate(row) for row in page.rows]
    return answer(request, models.Batches(batches=found, next_cursor=page.next_cursor))


@router.get("/batches/{batch_id}", response_model=models.Batch)
async def get_batch(
    request: Request, backend: Served, seen: Seen, batch_id: BatchSegment, query: Annotated[ReadQuery, Query()]
) -> Response:
    """Return a batch with its entries."""
    await seen.caught_up(query)
    return answer(request, models.Batch.model_validate(await backend.read_model.batch(batch_id)))


@router.get("/rejections", response_model=models.Rejections)
async def get_rejections(
    request: Request, backend: Served, seen: Seen, query: Annotated[RejectionsQuery, Query()]
) -> Response:
    """Return commands that broke a rule, in the order in which they were recorded."""
    await seen.caught_up(query)
    page = await find_rejections(
        backend.read_model, query.wanted(), after=query.cursor, limit=query.limit, newest_first=query.newest_first
    )
    found = [models.Rejection.model_validate(row) for row in page.rows]
    return answer(request, models.Rejections(rejections=found, next_cursor=page.next_cursor))


@router.get("/commands/{command_id}", response_model=models.Command)
async def get_command(
    request: Request, backend: Served, seen: Seen, command_id: Segment, query: Annotated[CommandQuery, Query()]
) -> Response:
    """Return what became of a command, as far as the tables have got. It asks nothing again.

    PENDING says that nothing is known of it: it may be on its way, or may never have arrived. If it stays so, send
    the same request again with the same key.
    """
    await seen.caught_up(query)
    if query.account_id is None:
        return answer(request, await _batch_command(backend, command_id))
    found = await answered(backend.read_model, query.account_id, command_id)
    state, came_to = _came_to(found)
    return answer(
        request,
        models.Command(command_id=command_id, account_id=query.account_id, state=state, **came_to),
    )


def _came_to(found: Answered | None) -> tuple[models.CommandState, dict[str, Any]]:
    match found:
        case None:
            return models.CommandState.PENDING, {}
        case EntryRow():
            return models.CommandState.ACCEPTED, {"entry": models.Entry.model_validate(found)}
        case ChangeRow():
            return models.CommandState.ACCEPTED, {"change": models.Change.model_validate(found)}
        case RejectionRow():
            return models.CommandState.REJECTED, {"rejection": models.Rejection.model_validate(found)}
        case _:
            assert_never(found)


async def _batch_command(backend: Backend, batch_id: str) -> models.Command:
    try:
        found = await backend.read_model.batch(batch_id)
    except BatchNotInReadModel:
        return models.Command(command_id=batch_id, account_id=None, state=models.CommandState.PENDING)
    state = _OF_BATCH.get(found.status, models.CommandState.PENDING)
    told = models.Batch.model_validate(found)
    return models.Command(command_id=batch_id, account_id=None, state=state, batch=told)


_OF_BATCH: Final = {
    BatchStatus.POSTED: models.CommandState.ACCEPTED,
    BatchStatus.REJECTED: models.CommandState.REJECTED,
}


@router.get("/positions", response_model=models.Positions)
async def get_positions(request: Request, backend: Served, query: Annotated[PositionsQuery, Query()]) -> Response:
    """Return how far the tables have got in each partition, and how far they are behind the log."""
    positions = await backend.read_model.positions(query.projection)
    try:
        ends = {} if query.projection == CHECKPOINTS else await backend.ends()  # they are on another topic
    except LedgerError:
        ends = {}
    found = [
        models.Position(
            partition=row.partition,
            next_offset=row.next_offset,
            next_sequence=row.next_sequence,
            recorded_at=row.recorded_at,
            halted=row.halted,
            lag=_lag(row.next_offset, ends[row.partition]) if row.partition in ends else None,
        )
        for row in positions.values()
    ]
    return answer(request, models.Positions(positions=found))


def _lag(next_offset: int, end: int) -> int:
    """Return how many offsets are still to be read. The last is a transaction's marker, in which there is nothing."""
    return max(0, end - next_offset - 1)
