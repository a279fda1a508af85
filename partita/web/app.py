"""The application: the routes put together, and every error told as a problem."""

from importlib.metadata import version
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from events.errors import LedgerError
from partita.web import history, proofs, reading, service, writing
from partita.web.backend import Backend
from partita.web.edge import Edge
from partita.web.errors import InvalidRequest, MalformedBody, MethodNotAllowed, PathNotFound, ServerFault
from partita.web.openapi import describe
from partita.web.problems import refusal
from partita.web.tokens import Tokens

_ROUTERS: Final = (reading.router, history.router, proofs.router, writing.router, service.router)


def make_app(backend: Backend, *, tokens: Tokens, most_requests: int, loopback_only: bool) -> Edge:
    """Return the API of one ledger as an ASGI application."""
    app = FastAPI(title="Partita", version=version("partita"), docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.backend = backend
    for router in _ROUTERS:
        app.include_router(router)
    app.add_exception_handler(LedgerError, _ledger_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)
    describe(app, with_tokens=bool(tokens))
    return Edge(app, tokens, most_requests, loopback_only)


async def _ledger_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, LedgerError), error
    return refusal(error)


async def _invalid(_: Request, error: Exception) -> Response:
    """Tell which fields are not what they must be, and not what they held."""
    assert isinstance(error, RequestValidationError), error
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"[:300] for fault in error.errors()[:20]]
    return refusal(InvalidRequest(faults))


async def _http_error(request: Request, error: Exception) -> Response:
    """Tell what routing or reading the body came to."""
    assert isinstance(error, HTTPException), error
    match error.status_code:
        case 400:
            return refusal(MalformedBody(error.detail))
        case 404:
            return refusal(PathNotFound("there is nothing at this path: /docs says what there is"))
        case 405:
            allowed = _allowed(request)
            return refusal(MethodNotAllowed(f"the path takes {allowed['allow']}"), allowed)
        case _:
            return await _fault(request, error)


async def _fault(_: Request, __: Exception) -> Response:
    """Tell that it is ours. The error itself goes on to the log."""
    return refusal(ServerFault("the API has a fault; its log says more"))


def _allowed(request: Request) -> dict[str, str]:
    """Return the methods that the path takes, as the header that names them; each is a route of its own."""
    routes = (route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute))
    methods = {
        method for route in routes if route.path_regex.match(request.scope["path"]) for method in route.methods or ()
    }
    return {"allow": ", ".join(sorted(methods or {"GET"}))}
