"""How a body is read: JSON that says exactly one thing."""

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from commands.validation import exact_float


class ExactRoute(APIRoute):
    """A route whose bodies are read by `ExactRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what serves a request."""
        handler = super().get_route_handler()

        async def serve(request: Request) -> Response:
            return await handler(ExactRequest(request.scope, request.receive))

        return serve


class ExactRequest(Request):
    """A request whose JSON must not be lossy: no number that is rounded, no field twice, nothing that is no JSON."""

    async def json(self) -> Any:
        """Return the body as data.

        Raises:
            HTTPException: with status 400; FastAPI lets nothing else pass from here.
        """
        try:
            text = (await self.body()).decode("utf-8")
            return json.loads(
                text, parse_float=exact_float, parse_constant=_refuse_constant, object_pairs_hook=_unambiguous
            )
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise HTTPException(400, f"the body can't be read: {_reason(error)}") from None


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _reason(error: Exception) -> str:
    match error:
        case RecursionError():
            return "it is nested too deep"
        case UnicodeDecodeError():
            return f"no UTF-8 at byte {error.start}"
        case json.JSONDecodeError():
            return f"no JSON at character {error.pos}: {error.msg}"
        case _:
            return str(error)[:200]
