"""Receipts, checkpoints and proofs. Who asks verifies them, against a key that they have (docs/receipts.md)."""

import base64
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from partita.web import models
from partita.web.asking import Nothing, Seen
from partita.web.backend import Served
from partita.web.errors import InvalidRequest, NoSuchTree
from partita.web.replies import answer
from partita.web.routes import ExactRoute
from partita.web.values import Segment
from projections.proofs.queries import CheckpointRow

router = APIRouter(prefix="/v1", route_class=ExactRoute)


class CheckpointsQuery(Nothing):
    """Whose checkpoints; the rest goes with a partition only."""

    partition: Annotated[int | None, Field(ge=0, le=2**31 - 1, description="All of its, not only the newest")] = None
    newest_first: Annotated[bool, Field(description="Begin with the newest, and go back")] = False
    cursor: Annotated[
        str | None, Field(description="The `next_cursor` of the page before; all else must be as it was")
    ] = None
    limit: Annotated[int, Field(ge=1, le=1000, description="Most of them on a page")] = 100


class ConsistencyQuery(Nothing):
    """Which trees: of one partition, with so many events each."""

    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    old_size: Annotated[int, Field(ge=1, le=2**63 - 1)]
    new_size: Annotated[int, Field(ge=1, le=2**63 - 1)]


@router.get("/entries/{entry_id}/receipt", response_model=models.Receipt)
async def get_receipt(
    request: Request, backend: Served, seen: Seen, entry_id: Segment, _: Annotated[Nothing, Query()]
) -> Response:
    """Return what shows to anyone, offline, that the entry is in the log. It waits for a checkpoint with it."""
    found = await backend.engine.get_receipt(entry_id, timeout=seen.wait)
    return answer(request, models.Receipt.model_validate(found.to_dict()))


@router.get("/checkpoints", response_model=models.Checkpoints)
async def get_checkpoints(request: Request, backend: Served, query: Annotated[CheckpointsQuery, Query()]) -> Response:
    """Return signed checkpoints that were held against the log: the newest of each partition, or all of one.

    Those of a partition are in the order of their trees' sizes.
    """
    proofs, cursor = backend.wiring.proofs(backend.read_model), None
    if query.partition is None:
        if query.model_fields_set:
            raise InvalidRequest(["query.partition: a page is one of a partition's checkpoints"])
        rows: Sequence[CheckpointRow] = await proofs.newest()
    else:
        page = await proofs.history(
            query.partition, after=query.cursor, limit=query.limit, newest_first=query.newest_first
        )
        rows, cursor = page.checkpoints, page.next_cursor
    found = [
        models.Checkpoint(
            partition=row.partition,
            tree_size=row.tree_size,
            root=_base64(row.root),
            note=row.note,
            public_key=row.public_key,
            published_at=row.published_at,
        )
        for row in rows
    ]
    return answer(request, models.Checkpoints(checkpoints=found, next_cursor=cursor))


@router.get("/proofs/consistency", response_model=models.ConsistencyProof)
async def get_consistency(request: Request, backend: Served, query: Annotated[ConsistencyQuery, Query()]) -> Response:
    """Return the RFC 6962 proof that the tree of the new size begins with that of the old one."""
    proofs = backend.wiring.proofs(backend.read_model)
    newest = await proofs.newest_of(query.partition)
    if newest is None or not query.old_size <= query.new_size <= newest.tree_size:
        raise NoSuchTree(query.partition, 0 if newest is None else newest.tree_size)
    proof = await proofs.consistency(query.partition, query.old_size, query.new_size)
    told = models.ConsistencyProof(
        partition=query.partition,
        old_size=query.old_size,
        new_size=query.new_size,
        proof=[_base64(node) for node in proof],
    )
    return answer(request, told)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
