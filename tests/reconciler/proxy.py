"""An HTTP proxy in front of a real node that limits ranges, drops, delays, answers errors, and cuts answers short."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """Draws from a seed what to do with each request."""

    upstream: str
    seed: int
    trouble: float = 0.25
    done: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.widest = self.rng.choice([1, 2, 5, 30])

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (body := await _body(reader)) is not None:
                if not await self._answer(json.loads(body), body, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any], body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request somehow; return whether the connection stays."""
        what = self._drawn(request)
        self.done[what] = self.done.get(what, 0) + 1
        if what == "drop":
            return False
        if what == "limit":
            writer.write(_http(200, _error(request, -32602, "block range is too wide")))
        elif what == "error":
            writer.write(_http(200, _error(request, -32000, "header not found")))
        elif what == "busy":
            writer.write(_http(429, b"slow down"))
        else:
            answer = await self._forward(body)
            if what == "cut":
                writer.write(_http(200, answer)[: -max(len(answer) // 3, 1)])
                return False
            if what == "delay":
                await asyncio.sleep(0.02)
            writer.write(_http(200, answer))
        await writer.drain()
        return True

    def _drawn(self, request: dict[str, Any]) -> str:
        if request["method"] == "eth_getLogs":
            asked = request["params"][0]
            if int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) >= self.widest:
                return "limit"
        return (
            self.rng.choice(["drop", "error", "busy", "cut", "delay"]) if self.rng.random() < self.trouble else "pass"
        )

    async def _forward(self, body: bytes) -> bytes:
        at = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        writer.write(
            b"POST / HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n\r\n")[2]


async def _body(reader: asyncio.StreamReader) -> bytes | None:
    length = 0
    while (line := await reader.readline()) not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return await reader.readexactly(length) if length else None


def _http(status: int, body: bytes) -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def _error(request: dict[str, Any], code: int, message: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}}).encode()
