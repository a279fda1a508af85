"""Commands by POST. Each is asked of the engine once, and what comes of it is told."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from commands.errors import OutcomeUnknown, Rejected
from events.errors import LedgerError
from partita.results import AccountChange, HoldChange, LedgerBatch, LedgerEntry
from partita.web import bodies, models
from partita.web.asking import Asked, Asking
from partita.web.backend import Backend, Served
from partita.web.positions import encoded
from partita.web.problems import RETRY_AFTER, refusal
from partita.web.replies import reply
from partita.web.routes import ExactRoute
from partita.web.values import AccountSegment, BatchSegment, HoldSegment

router = APIRouter(prefix="/v1", route_class=ExactRoute)

Result = LedgerEntry | LedgerBatch | AccountChange | HoldChange
R = TypeVar("R", LedgerEntry, LedgerBatch, AccountChange, HoldChange)

_CLOSING: Final = bodies.CloseAccount()
_SETTLING: Final = bodies.SettleHold()
_REASON: Final = bodies.Reasoned()
_ANY_VERSION: Final = bodies.Expecting()


def entry_at(entry: LedgerEntry) -> str:
    """Return where an entry can be read."""
    return f"/v1/entries/{entry.entry_id}"


def batch_at(batch: LedgerBatch) -> str:
    """Return where a batch can be read."""
    return f"/v1/batches/{quote(batch.batch_id, safe='')}"


def account_at(change: AccountChange) -> str:
    """Return where an account can be read."""
    return f"/v1/accounts/{quote(change.account_id, safe='')}"


def hold_at(change: HoldChange) -> str:
    """Return where a hold can be read."""
    return f"/v1/accounts/{quote(change.account_id, safe='')}/holds/{quote(change.hold_id, safe='')}"


async def carried_out(
    backend: Backend,
    asked: Asking,
    call: Awaitable[R],
    model: type[BaseModel],
    at: Callable[[R], str],
    account_id: str | None = None,
) -> Response:
    """Await the call and tell what came of it: 201; 200 for a repeat or a dry run; 202 when it is not known in time.

    `account_id` is that of a command on one account.
    """
    headers = {"idempotency-key": asked.command_id}
    try:
        result = await call
    except LedgerError as error:
        if isinstance(error, OutcomeUnknown) and not asked.dry_run:
            return _pending(asked, error, account_id)
        if isinstance(error, Rejected) and (position := _told(backend, account_id)):
            headers["partita-position"] = encoded(position)
        return refusal(error, headers)
    if result.dry_run:
        return reply(model.model_validate(result), 200, headers)
    headers |= {"partita-position": encoded(_position(result)), "location": at(result)}
    if result.replayed:
        headers["idempotency-replayed"] = "true"
    return reply(model.model_validate(result), 200 if result.replayed else 201, headers)


def _pending(asked: Asking, unknown: OutcomeUnknown, account_id: str | None) -> Response:
    command_id = unknown.command_id  # of a reversal it is more than the key
    of = f"?{urlencode({'account_id': account_id})}" if account_id is not None else ""
    url = f"/v1/commands/{quote(command_id, safe='')}{of}"
    told = models.Pending(command_id=command_id, account_id=account_id, status_url=url, detail=unknown.message)
    headers = {"location": url, "retry-after": str(RETRY_AFTER), "idempotency-key": asked.command_id}
    return reply(told, 202, headers)


def _told(backend: Backend, account_id: str | None) -> Mapping[int, int]:
    """Return how far a reader must have got to see what a rejection was about."""
    try:
        return backend.engine.position(account_id)
    except LedgerError:  # no account can have this id, which was the fault
        return {}


def _position(result: Result) -> dict[int, int]:
    position = {result.partition: result.sequence}
    for entry in result.entries if isinstance(result, LedgerBatch) else ():
        position[entry.partition] = max(entry.sequence, position.get(entry.partition, 0))
    return position


@router.post("/entries", response_model=models.Entry, status_code=201)
async def post_entry(backend: Served, asked: Asked, body: bodies.PostEntry) -> Response:
    """Post one entry."""
    given: dict[str, Any] = body.given()
    call = backend.engine.create_entry(**given, **asked.options())
    return await carried_out(backend, asked, call, models.Entry, entry_at, body.account_id)


@router.post("/batches", response_model=models.PostedBatch, status_code=201)
async def post_batch(backend: Served, asked: Asked, body: bodies.PostBatch) -> Response:
    """Post up to 1,000 entries together, all or none. The key is the batch's id."""
    given: dict[str, Any] = {**body.given(), "entries": [leg.given() for leg in body.entries]}
    call = backend.engine.create_batch(**given, **asked.options())
    return await carried_out(backend, asked, call, models.PostedBatch, batch_at)


@router.post("/transfers", response_model=models.PostedBatch, status_code=201)
async def post_transfer(backend: Served, asked: Asked, body: bodies.Transfer) -> Response:
    """Move an amount from one account to another: a balanced batch of two entries."""
    given: dict[str, Any] = body.given()
    call = backend.engine.transfer(**given, **asked.options())
    return await carried_out(backend, asked, call, models.PostedBatch, batch_at)


@router.post("/batches/{batch_id}/rollback", response_model=models.PostedBatch, status_code=201)
async def roll_back(backend: Served, asked: Asked, batch_id: BatchSegment, body: bodies.Rollback) -> Response:
    """Undo a posted batch by its reversal, once: asked again, under whatever key, the same reversal is returned.

    The reversal is a batch too. Its id is that of the batch, "~" and the key.
    """
    given: dict[str, Any] = body.given()
    call = backend.engine.rollback_batch(batch_id, **given, **asked.options())
    return await carried_out(backend, asked, call, models.PostedBatch, batch_at)


@router.post("/accounts", response_model=models.AccountChange, status_code=201)
async def open_account(backend: Served, asked: Asked, body: bodies.OpenAccount) -> Response:
    """Open an account with rules of its own."""
    given: dict[str, Any] = body.given()
    call = backend.engine.open_account(**given, **asked.options())
    return await carried_out(backend, asked, call, models.AccountChange, account_at, body.account_id)


@router.post("/accounts/{account_id}/freeze", response_model=models.AccountChange, status_code=201)
async def freeze_account(
    backend: Served, asked: Asked, account_id: AccountSegment, body: bodies.Reasoned = _REASON
) -> Response:
    """Let the account take no entries and no holds."""
    given: dict[str, Any] = body.given()
    call = backend.engine.freeze_account(account_id, **given, **asked.options())
    return await carried_out(backend, asked, call, models.AccountChange, account_at, account_id)


@router.post("/accounts/{account_id}/unfreeze", response_model=models.AccountChange, status_code=201)
async def unfreeze_account(
    backend: Served, asked: Asked, account_id: AccountSegment, body: bodies.Reasoned = _REASON
) -> Response:
    """Open a frozen account again."""
    given: dict[str, Any] = body.given()
    call = backend.engine.unfreeze_account(account_id, **given, **asked.options())
    return await carried_out(backend, asked, call, models.AccountChange, account_at, account_id)


@router.post("/accounts/{account_id}/close", response_model=models.AccountChange, status_code=201)
async def close_account(
    backend: Served, asked: Asked, account_id: AccountSegment, body: bodies.CloseAccount = _CLOSING
) -> Response:
    """Close an account that has neither a balance nor a hold."""
    given: dict[str, Any] = body.given()
    call = backend.engine.close_account(account_id, **given, **asked.options())
    return await carried_out(backend, asked, call, models.AccountChange, account_at, account_id)


@router.post("/accounts/{account_id}/reopen", response_model=models.AccountChange, status_code=201)
async def reopen_account(
    backend: Served, asked: Asked, account_id: AccountSegment, body: bodies.Reasoned = _REASON
) -> Response:
    """Open a closed account again, with the rules that it had."""
    given: dict[str, Any] = body.given()
    call = backend.engine.reopen_account(account_id, **given, **asked.options())
    return await carried_out(backend, asked, call, models.AccountChange, account_at, account_id)


@router.post("/accounts/{account_id}/holds", response_model=models.HoldChange, status_code=201)
async def place_hold(backend: Served, asked: Asked, account_id: AccountSegment, body: bodies.PlaceHold) -> Response:
    """Reserve funds. The key is the hold's id."""
    given: dict[str, Any] = body.given()
    call = backend.engine.place_hold(account_id, **given, **asked.options())
    return await carried_out(backend, asked, call, models.HoldChange, hold_at, account_id)


@router.post("/accounts/{account_id}/holds/{hold_id}/settle", response_model=models.Entry, status_code=201)
async def settle_hold(
    backend: Served,
    asked: Asked,
    account_id: AccountSegment,
    hold_id: HoldSegment,
    body: bodies.SettleHold = _SETTLING,
) -> Response:
    """Debit what the hold reserves, or a part of it."""
    given: dict[str, Any] = body.given()
    call = backend.engine.settle_hold(account_id, hold_id, **given, **asked.options())
    return await carried_out(backend, asked, call, models.Entry, entry_at, account_id)


@router.post("/accounts/{account_id}/holds/{hold_id}/release", response_model=models.HoldChange, status_code=201)
async def release_hold(
    backend: Served,
    asked: Asked,
    account_id: AccountSegment,
    hold_id: HoldSegment,
    body: bodies.Reasoned = _REASON,
) -> Response:
    """End a hold: what it still reserves can be spent again."""
    given: dict[str, Any] = body.given()
    call = backend.engine.release_hold(account_id, hold_id, **given, **asked.options())
    return await carried_out(backend, asked, call, models.HoldChange, hold_at, account_id)


@router.post("/accounts/{account_id}/holds/{hold_id}/expire", response_model=models.HoldChange, status_code=201)
async def expire_hold(
    backend: Served,
    asked: Asked,
    account_id: AccountSegment,
    hold_id: HoldSegment,
    body: bodies.Expecting = _ANY_VERSION,
) -> Response:
    """End a hold whose time has come, by the handler's clock."""
    given: dict[str, Any] = body.given()
    call = backend.engine.expire_hold(account_id, hold_id, **given, **asked.options())
    return await carried_out(backend, asked, call, models.HoldChange, hold_at, account_id)
