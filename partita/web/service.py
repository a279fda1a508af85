"""What the API says of itself: whether it lives, whether it is ready, what its problems mean, how it is used."""

from collections.abc import Iterator

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from events.errors import LedgerError
from partita.web import models
from partita.web.backend import Served
from partita.web.errors import PathNotFound
from partita.web.guide import guide
from partita.web.problems import RETRY_AFTER, status_of, title_of
from partita.web.replies import reply

router = APIRouter()


@router.get("/healthz", response_model=models.Liveness)
async def get_liveness() -> Response:
    """Return that the process answers. It asks nobody else."""
    return reply(models.Liveness(), 200, {})


@router.get(
    "/readyz",
    response_model=models.Readiness,
    responses={503: {"model": models.Readiness, "description": "Something is missing"}},
)
async def get_readiness(backend: Served) -> Response:
    """Return whether Kafka and the projections that answer are there and work; `missing` says what does not.

    `halted` says where projections have stopped. A partition without new checkpoints has no new receipts: that is no
    reason not to ask for all else.
    """
    told = await backend.readiness()
    return reply(told, 200, {}) if told.ready else reply(told, 503, {"retry-after": str(RETRY_AFTER)})


@router.get("/problems/{code}", response_model=models.ProblemKind)
async def get_problem(code: str) -> Response:
    """Return what a kind of problem means."""
    kind = next((kind for kind in kinds() if kind.__name__ == code), None)
    if kind is None:
        raise PathNotFound("there is no such kind of problem")
    described = " ".join((kind.__doc__ or "").split())
    told = models.ProblemKind(code=code, status=status_of(kind), title=title_of(kind), description=described)
    return reply(told, 200, {})


@router.get("/docs", include_in_schema=False)
async def get_guide(request: Request) -> Response:
    """Return the API as a page to read."""
    return HTMLResponse(guide(request.app.openapi()))


def kinds(base: type[LedgerError] = LedgerError) -> Iterator[type[LedgerError]]:
    """Yield every class of error that there is."""
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)
