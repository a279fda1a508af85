"""What every request goes through before it is routed: who asks, how much, how many at a time; and the access log.

Plain ASGI around the application, so that a request which is refused costs nothing more. It never logs a header or a
body, and of a query only that there is one.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders

from events.errors import LedgerError
from partita.web.errors import (
    BodyTooLarge,
    ForbiddenToToken,
    ForeignOrigin,
    RequestTooSlow,
    ServerFault,
    TooManyRequests,
    Unauthenticated,
    UnsupportedMediaType,
)
from partita.web.problems import refusal
from partita.web.tokens import Tokens

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

access = logging.getLogger("partita.web.access")
log = logging.getLogger(__name__)

MOST_BYTES: Final = 2 * 1024 * 1024
"""Of a body. A batch has at most 512 KiB of text, which JSON may write three times as long."""

BODY_WITHIN: Final = 15.0
"""Seconds in which a body must have come."""

_OPEN: Final = ("/healthz", "/readyz", "/docs", "/openapi.json", "/problems/")
"""What says nothing of the ledger: asked without a token, and also when the process has enough to do."""

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})

_ALWAYS: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


@dataclass(slots=True)
class Edge:
    """The application, and what stands before it. `loopback_only`: no request may name another host."""

    app: App
    tokens: Tokens
    most_requests: int
    loopback_only: bool
    serving: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; lifespan messages go by."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun = time.perf_counter()
        answer = _Answer(send)
        scope["path"] = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        try:
            await self._serve(scope, receive, answer)
        except LedgerError as error:
            await refusal(error)(scope, receive, answer)
        except Exception:
            log.exception("a request has met a fault")
            if answer.status == 0:
                await refusal(ServerFault("the API has a fault; its log says more"))(scope, receive, answer)
        finally:
            took = (time.perf_counter() - begun) * 1000
            caller = scope.get("caller", "-")
            access.info("%s %s %s %d %.1f ms", caller, scope["method"], _shown(scope), answer.status, took)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["path"].startswith(_OPEN):
            return await self.app(scope, receive, send)
        self._check_caller(scope, headers)
        _check_origin(scope, headers)
        if self.serving >= self.most_requests:
            raise TooManyRequests(f"{self.most_requests} requests are being served", most=self.most_requests)
        self.serving += 1
        try:
            body = await _body(headers, receive)
            _check_type(headers, body)
            await self.app(scope, _Replayed(body, receive), send)
        finally:
            self.serving -= 1

    def _check_host(self, headers: Headers) -> None:
        """Without tokens a name that leads here from a web page must not be enough (DNS rebinding)."""
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self.loopback_only and name.lower() not in _LOOPBACK:
            raise ForeignOrigin("without tokens the API is served under 127.0.0.1, [::1] and localhost only")

    def _check_caller(self, scope: Scope, headers: Headers) -> None:
        if not self.tokens:
            return
        caller = self.tokens.caller(headers.get("authorization", ""))
        if caller is None:
            raise Unauthenticated("give a token that is known: Authorization: Bearer TOKEN")
        scope["caller"] = caller.name
        if not caller.writes and scope["method"] not in ("GET", "HEAD"):
            raise ForbiddenToToken(f"the token of {caller.name} may only read", caller=caller.name)


class _Answer:
    """Sends on what is answered, with the headers that all answers have, and notes the status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message).update(_ALWAYS)
        await self._send(message)


class _Replayed:
    """Hands on a body that was received already, and then whatever comes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _body(headers: Headers, receive: Receive) -> bytes:
    announced = headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdigit()) or int(announced[:20]) > MOST_BYTES:
        raise BodyTooLarge(f"a body has at most {MOST_BYTES} bytes", most=MOST_BYTES)
    body = bytearray()
    more = True
    try:
        async with asyncio.timeout(BODY_WITHIN):
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise RequestTooSlow("the client has gone before its body was there")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MOST_BYTES:
                    raise BodyTooLarge(f"a body has at most {MOST_BYTES} bytes", most=MOST_BYTES)
    except TimeoutError:
        raise RequestTooSlow(f"the body did not come within {BODY_WITHIN:.0f} s") from None
    return bytes(body)


def _check_origin(scope: Scope, headers: Headers) -> None:
    """Nothing of ours runs in a browser, so a command that comes from one was not meant."""
    if scope["method"] not in ("GET", "HEAD") and "origin" in headers:
        raise ForeignOrigin("commands are not taken from web pages")


def _check_type(headers: Headers, body: bytes) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != "application/json":
        raise UnsupportedMediaType("a body is JSON: Content-Type: application/json")


def _shown(scope: Scope) -> str:
    """Return the path as it was sent, percent-encoded, so that it can't forge a line of the log."""
    path: str = scope["path"].encode("ascii", "backslashreplace").decode()
    return f"{path[:300]}{'?...' if scope.get('query_string') else ''}"
