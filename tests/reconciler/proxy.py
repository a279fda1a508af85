"""An HTTP proxy in front of a real node that fails in every way, and lies about one block.

What it does to a request is drawn from the seed, from what is asked (in words that are the same on every run: blocks
counted from the first of the test, transactions by their place in it) and from how often it was asked. So a seed does
the same again, whatever the order in which requests arrive.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

LIES = ("hash", "less", "more", "value", "sender", "removed", "behind")
OTHER_HASH = "0x" + "9" * 64
_BY_TAG = {"latest", "safe", "finalized"}


@dataclass(frozen=True)
class Lie:
    """A lie about the block `number`. `log` is the one (transaction, index) that is told falsely.

    `hash`: the block has another hash, everywhere. `less`: the log is left out. `more`: it is told once more, as a
    further one. `value`, `sender`: it is changed. `removed`: it is said to be taken back. `behind`: nothing later
    than the block is known. `everywhere`: in receipts as well, not only in answers about ranges. `often`: the part
    of the requests that is lied to.
    """

    kind: str
    number: int
    block_hash: str
    log: tuple[str, int]
    everywhere: bool = False
    often: float = 1.0


@dataclass
class Proxy:
    """Draws from a seed what to do with each request."""

    upstream: str
    seed: int
    trouble: float = 0.25
    lie: Lie | None = None
    first: int = 0
    places: Mapping[str, int] = field(default_factory=dict)
    may_hang: bool = False
    done: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.widest = random.Random(self.seed).choice([1, 2, 5, 30])
        self.troubles = ["drop", "error", "busy", "cut", "delay", *(["hang"] if self.may_hang else [])]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at = urlsplit(self.upstream)
        up_reader, up_writer = await asyncio.open_connection(at.hostname, at.port)
        try:
            while (body := await _body(reader)) is not None:
                up = _Upstream(up_reader, up_writer)
                if not await self._answer(json.loads(body), up, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            up_writer.close()
            writer.close()

    async def _answer(self, request: dict[str, Any], up: "_Upstream", writer: asyncio.StreamWriter) -> bool:
        """Answer one request somehow; return whether the connection stays."""
        drawn = self._draws(request)
        what = self._drawn(request, drawn)
        self.done[what] += 1
        if what == "drop":
            return False
        if what == "hang":
            await asyncio.sleep(5)
            return False
        if what == "limit":
            writer.write(_http(200, _error(request, -32602, "block range is too wide")))
        elif what == "error":
            writer.write(_http(200, _error(request, -32000, "header not found")))
        elif what == "busy":
            writer.write(_http(429, b"slow down"))
        else:
            answer = await self._told(request, up, drawn)
            if what == "cut":
                writer.write(_http(200, answer)[: -max(len(answer) // 3, 1)])
                return False
            if what == "delay":
                await asyncio.sleep(0.005)
            writer.write(_http(200, answer))
        await writer.drain()
        return True

    def _draws(self, request: dict[str, Any]) -> random.Random:
        words = [request["method"]]
        for param in request["params"]:
            if isinstance(param, dict):
                span = [str(int(param[key], 16) - self.first) for key in ("fromBlock", "toBlock") if key in param]
                words += [*span, str(len(param.get("topics", [])))]
            elif isinstance(param, str) and param.startswith("0x") and len(param) < 20:
                words.append(str(int(param, 16) - self.first))
            else:
                words.append(str(self.places.get(param, param if param in _BY_TAG else "")))
        key = " ".join(words)
        self.asked[key] += 1
        return random.Random(f"{self.seed} {key} {self.asked[key]}")

    def _drawn(self, request: dict[str, Any], drawn: random.Random) -> str:
        if request["method"] == "eth_getLogs":
            asked = request["params"][0]
            if int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) >= self.widest:
                return "limit"
        return drawn.choice(self.troubles) if drawn.random() < self.trouble else "pass"

    async def _told(self, request: dict[str, Any], up: "_Upstream", drawn: random.Random) -> bytes:
        lie = self.lie
        if lie is None or drawn.random() >= lie.often:
            return await up.ask(request)
        if lie.kind == "behind":
            return await self._behind(request, up, lie.number)
        answer = await up.ask(request)
        told = _lied(request["method"], answer, lie)
        self.done["lie"] += told != answer
        return told

    async def _behind(self, request: dict[str, Any], up: "_Upstream", last: int) -> bytes:
        """Answer as a node that has not heard of later blocks yet, which says so to nobody."""
        params = request["params"]
        if request["method"] == "eth_getBlockByNumber" and params[0] == "latest":
            request = request | {"params": [hex(last), *params[1:]]}
        elif request["method"] == "eth_getLogs" and int(params[0]["toBlock"], 16) > last:
            if int(params[0]["fromBlock"], 16) > last:
                return _result(request, [])
            request = request | {"params": [params[0] | {"toBlock": hex(last)}]}
        answer = await up.ask(request)
        found = json.loads(answer).get("result")
        number = found.get("number") or found.get("blockNumber") if isinstance(found, dict) else None
        if isinstance(found, list) and found and request["method"] == "eth_getBlockReceipts":
            number = found[0]["blockNumber"]
        if number is None or int(number, 16) <= last:
            return answer
        self.done["lie"] += 1
        return _result(request, None)


@dataclass
class _Upstream:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: dict[str, Any]) -> bytes:
        body = json.dumps(request).encode()
        self.writer.write(
            b"POST / HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        answer = await _body(self.reader)
        assert answer is not None, "the node hung up"
        return answer


def _lied(method: str, answer: bytes, lie: Lie) -> bytes:
    if lie.kind == "hash":
        return answer.replace(lie.block_hash.encode(), OTHER_HASH.encode())
    said = json.loads(answer)
    if not said.get("result"):
        return answer
    for logs in _logs_in(method, said["result"], everywhere=lie.everywhere):
        logs[:] = [told for log in logs for told in _log_told(log, lie)]
    return json.dumps(said).encode()


def _logs_in(method: str, result: Any, *, everywhere: bool) -> list[list[dict[str, Any]]]:
    if method == "eth_getLogs":
        return [result]
    if everywhere and method == "eth_getTransactionReceipt":
        return [result["logs"]]
    if everywhere and method == "eth_getBlockReceipts":
        return [receipt["logs"] for receipt in result]
    return []


def _log_told(log: dict[str, Any], lie: Lie) -> list[dict[str, Any]]:
    if (log["transactionHash"], int(log["logIndex"], 16)) != lie.log:
        return [log]
    match lie.kind:
        case "less":
            return []
        case "more":
            return [log, log | {"logIndex": hex(lie.log[1] + 50)}]
        case "value":
            return [log | {"data": f"0x{int(log['data'], 16) + 1:064x}"}]
        case "sender":
            return [log | {"topics": [log["topics"][0], f"0x{0xBAD:064x}", log["topics"][2]]}]
        case "removed":
            return [log | {"removed": True}]
        case _:
            raise AssertionError(lie.kind)


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


def _result(request: dict[str, Any], result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()


def _error(request: dict[str, Any], code: int, message: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}}).encode()
