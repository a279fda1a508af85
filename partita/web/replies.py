"""Responses: a model as JSON, with its entity tag; 304 when the caller has it already."""

import hashlib
from collections.abc import Mapping
from typing import Final

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

_MEDIA_TYPE: Final = "application/json"
_ASK_AGAIN: Final = "private, no-cache"
NEVER_CHANGES: Final = "private, max-age=31536000, immutable"


def answer(request: Request, model: BaseModel, *, cache: str = _ASK_AGAIN) -> Response:
    """Return the answer to a question. Its tag is that of what is in it: the same tag, the same bytes."""
    body = model.model_dump_json().encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": cache}
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(None, 304, headers)
    return Response(body, 200, headers, _MEDIA_TYPE)


def reply(model: BaseModel, status: int, headers: Mapping[str, str]) -> Response:
    """Return what came of a command; nobody keeps it."""
    return Response(model.model_dump_json(), status, {"cache-control": "no-store", **headers}, _MEDIA_TYPE)


def _has(condition: str, tag: str) -> bool:
    tags = (item.strip().removeprefix("W/") for item in condition.split(","))
    return any(item in (tag, "*") for item in tags)
