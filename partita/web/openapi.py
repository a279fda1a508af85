"""The OpenAPI document: what FastAPI finds out by itself, with every error response and header that there is."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from partita.web.models import Pending, Problem
from partita.web.problems import MEDIA_TYPE, RETRY_AFTER

_SAID: Final = """The HTTP API of a Partita ledger: questions to the read model, and commands.

Amounts are text, exact, in whole units of the asset. Times are RFC 3339 in UTC, to the microsecond. Errors are
problems as in RFC 9457, with a stable `code`.

A command goes under an Idempotency-Key: the same request under the same key is applied once, for ever, and answered
with the same outcome. What is not known in time is 202, with the place where to ask."""

_MEANINGS: Final = {
    "400": ("Malformed", "The body is no JSON that can be read exactly"),
    "401": ("Unauthenticated", "No token, or none that is known"),
    "403": ("Forbidden", "The token may only read, or a web page asked"),
    "404": ("NotFound", "There is no such thing, as far as the tables have got; or no such account for the command"),
    "408": ("TooSlow", "The body did not come in time"),
    "409": ("Conflict", "A rule of the ledger said no, or the key was used with another payload"),
    "413": ("TooLarge", "The body is too large"),
    "415": ("NotJson", "The body is not announced as application/json"),
    "422": ("Invalid", "A field or parameter is not what it must be"),
    "503": ("Unavailable", "Kafka or the read model is not there or behind, or too much is asked at a time"),
}
_OF_COMMANDS: Final = ("400", "404", "408", "409", "413", "415", "422", "503")
_OF_QUESTIONS: Final = ("422", "503")
_TEXT: Final = {"schema": {"type": "string"}}
_HEADERS: Final = {
    "Partita-Position": "How far a reader must have got to see what this did: give it back as Partita-Min-Position",
    "Idempotency-Key": "The key under which the command was asked: yours, or the one that was made",
    "Idempotency-Replayed": "true when the command had been answered before, and this is the outcome of that time",
    "Location": "Where what was made can be read; of a 202, where to ask what became of the command",
    "ETag": "The same tag, the same bytes: give it back as If-None-Match",
    "Retry-After": "Seconds",
}


def describe(app: FastAPI, *, with_tokens: bool) -> None:
    """Let `app.openapi()` return the whole document, made once."""
    made: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not made:
            made.append(_document(app, with_tokens=with_tokens))
        return made[0]

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def _document(app: FastAPI, *, with_tokens: bool) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=_SAID, routes=app.routes)
    components = document["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    for model in (Pending, Problem):
        components["schemas"] |= _schemas(model)
    components["responses"] = dict(map(_response, _MEANINGS.items()))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            operation["responses"] = _responses(path, method, operation["responses"], with_tokens=with_tokens)
            if with_tokens and path.startswith("/v1"):
                operation["security"] = [{"token": []}]
    if with_tokens:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def _schemas(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a model, and those of what it holds, by their names."""
    schema = model.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs", {}), model.__name__: schema}


def _response(meaning: tuple[str, tuple[str, str]]) -> tuple[str, dict[str, Any]]:
    status, (name, description) = meaning
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    response: dict[str, Any] = {"description": description, "content": content}
    if status == "503":
        response["headers"] = _headers("Retry-After")
    return name, response


def _responses(path: str, method: str, found: Mapping[str, Any], *, with_tokens: bool) -> dict[str, Any]:
    """Return the responses of one operation: its own, and the errors that it may meet."""
    own = {status: answer for status, answer in found.items() if status != "422"}
    if not path.startswith("/v1"):
        return own | (_problems("404") if path.startswith("/problems") else {})
    if method == "get":
        own["200"]["headers"] = _headers("ETag")
        own["304"] = {"description": "It is what If-None-Match has", "headers": _headers("ETag")}
        errors = [*_OF_QUESTIONS, *(["404"] if "{" in path or path.startswith("/v1/proofs") else [])]
    else:
        own |= _of_command(own["201"])
        errors = [*_OF_COMMANDS]
    return own | _problems(*errors, *(["401", "403"] if with_tokens else ["403"] * (method != "get")))


def _of_command(created: dict[str, Any]) -> dict[str, Any]:
    created["description"] = "It is done, and durable"
    created["headers"] = _headers("Partita-Position", "Idempotency-Key", "Location")
    again = {**created, "description": "It had been done before, or it is a dry run"}
    again["headers"] = _headers("Partita-Position", "Idempotency-Key", "Idempotency-Replayed", "Location")
    pending = {
        "description": f"It is not known in time what became of it: ask at Location, about every {RETRY_AFTER} s",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pending"}}},
        "headers": _headers("Location", "Idempotency-Key", "Retry-After"),
    }
    return {"200": again, "202": pending}


def _problems(*statuses: str) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{_MEANINGS[status][0]}"} for status in sorted(statuses)}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"description": _HEADERS[name], **_TEXT} for name in names}
