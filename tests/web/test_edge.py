"""The API with nothing behind it: what is refused before anybody is asked anything, and how it is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from partita.web import edge
from partita.web.tokens import Tokens
from tests.web.conftest import Alone

GOOD: dict[str, Any] = {"account_id": "alice", "amount": "1", "entry_type": "CREDIT"}
JSON = {"content-type": "application/json"}
READ, WRITE = "r" * 32, "w" * 32


def good(**fields: Any) -> str:
    return json.dumps({**GOOD, **fields})


def raw(text: str) -> str:
    """Return a good entry with something written into it."""
    return good()[:-1] + ", " + text + "}"


BODIES: list[tuple[str, str | bytes, int, str]] = [
    ("NUL", good(account_id="a\0b"), 422, "InvalidAccountId"),
    ("half a surrogate pair", good(account_id="a\ud800b"), 422, "InvalidAccountId"),
    ("half a pair as a name", raw('"\\ud800": 1'), 422, "InvalidRequest"),
    ("half a pair in metadata", good(metadata={"a\ud800": "\ud800"}), 422, "InvalidMetadata"),
    ("NUL in metadata", good(metadata={"a": "\0"}), 422, "InvalidMetadata"),
    ("metadata too deep", raw('"metadata": ' + '{"a":' * 500 + "1" + "}" * 500), 422, "InvalidMetadata"),
    ("metadata too large", good(metadata={"a": "x" * 20_000}), 422, "InvalidMetadata"),
    ("metadata that is none", good(metadata=[1]), 422, "InvalidRequest"),
    ("an amount that is a number", good(amount=1.5), 422, "InvalidRequest"),
    ("an amount below zero", good(amount="-5"), 422, "InvalidAmount"),
    ("an exponent", good(amount="1e3"), 422, "InvalidAmount"),
    ("a huge amount", good(amount="9" * 5000), 422, "InvalidAmount"),
    ("a huge version", raw(f'"expected_version": {"9" * 4000}'), 422, "InvalidRequest"),
    ("a number too long to read", raw(f'"expected_version": {"9" * 5000}'), 400, "MalformedBody"),
    ("a version that is a truth", good(expected_version=True), 422, "InvalidRequest"),
    ("a fraction that is rounded", raw('"metadata": {"x": 0.12345678901234567890}'), 400, "MalformedBody"),
    ("NaN", raw('"metadata": {"x": NaN}'), 400, "MalformedBody"),
    ("a name twice", raw('"amount": "2"'), 400, "MalformedBody"),
    ("a name twice in metadata", raw('"metadata": {"a": 1, "a": 2}'), 400, "MalformedBody"),
    ("no UTF-8", b'{"account_id": "\xff"}', 400, "MalformedBody"),
    ("no JSON", b'{"account_id": ', 400, "MalformedBody"),
    ("nothing but brackets", b"[" * 500_000, 400, "MalformedBody"),
    ("a list", b"[]", 422, "InvalidRequest"),
    ("null", b"null", 422, "InvalidRequest"),
    ("nothing", b"", 422, "InvalidRequest"),
    ("a field that there is not", good(acount_id="bob"), 422, "InvalidRequest"),
    ("a field that is missing", json.dumps({"account_id": "alice"}), 422, "InvalidRequest"),
    ("a time without a zone", good(effective_at="2026-05-31T12:00:00"), 422, "InvalidRequest"),
    ("a time that is a number", good(effective_at=0), 422, "InvalidRequest"),
    ("a time that is none", good(effective_at="2026-02-30T12:00:00Z"), 422, "InvalidRequest"),
    ("a time before time", good(effective_at="0001-01-01T00:00:00+23:59"), 422, "InvalidRequest"),
    ("another entry type", good(entry_type="GIFT"), 422, "InvalidRequest"),
    ("a long reference", good(reference="x" * 2000), 422, "InvalidReference"),
]


@pytest.mark.parametrize(("body", "status", "code"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
async def test_a_bad_body_is_told_as_a_problem(
    client: httpx.AsyncClient, body: str | bytes, status: int, code: str
) -> None:
    answer = await client.post("/v1/entries", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["type"] == f"/problems/{code}"
    assert (await client.get(told["type"])).json()["status"] == status


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/entries?cursor=abc", 422, "InvalidCursor"),
        ("/v1/entries?cursor=W1siYSJdLFsxXV0", 422, "InvalidCursor"),
        ("/v1/accounts?cursor=" + "A" * 20_000, 422, "InvalidCursor"),
        ("/v1/entries?limit=0", 422, "InvalidRequest"),
        ("/v1/entries?limit=" + "9" * 5000, 422, "InvalidRequest"),
        ("/v1/entries?partition=2147483648", 422, "InvalidRequest"),
        ("/v1/entries?acount_id=alice", 422, "InvalidRequest"),
        ("/v1/entries?metadata=channel", 422, "InvalidRequest"),
        ("/v1/entries?" + "&".join(["metadata=a=b"] * 9), 422, "InvalidRequest"),
        ("/v1/entries?recorded_from=yesterday", 422, "InvalidRequest"),
        ("/v1/entries?recorded_from=1717156800", 422, "InvalidRequest"),
        ("/v1/batches?status=LOST", 422, "InvalidRequest"),
        ("/v1/accounts/%ff", 422, "InvalidRequest"),
        ("/v1/accounts/alice?min_position=abc", 422, "InvalidPosition"),
        ("/v1/accounts/alice?min_position=W1t0cnVlLHRydWVdXQ", 422, "InvalidPosition"),
        ("/v1/accounts/alice?min_position=W1sxLC0xXV0", 422, "InvalidPosition"),
        ("/v1/nothing", 404, "PathNotFound"),
        ("//v1/accounts", 404, "PathNotFound"),
        ("/problems/Nothing", 404, "PathNotFound"),
    ],
)
async def test_a_bad_question_is_told_as_a_problem(
    client: httpx.AsyncClient, path: str, status: int, code: str
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_what_no_row_can_have_is_not_asked_for(client: httpx.AsyncClient) -> None:
    """PostgreSQL, which is not there, would be missed."""
    assert (await client.get("/v1/accounts/a%00b")).json()["code"] == "AccountNotInReadModel"
    for query in ("account_id=a%00b", "metadata=a=%00", "metadata=%00=a"):
        answer = await client.get(f"/v1/entries?{query}")
        assert (answer.status_code, answer.json()) == (200, {"entries": [], "next_cursor": None}), query


async def test_what_is_not_there_is_503_and_nothing_secret_is_told(client: httpx.AsyncClient) -> None:
    posted = await client.post("/v1/entries", json=GOOD)
    asked = await client.get("/v1/accounts/alice")
    ready = await client.get("/readyz")
    assert [answer.status_code for answer in (posted, asked, ready)] == [503, 503, 503]
    assert [answer.headers["retry-after"] for answer in (posted, asked, ready)] == ["1", "1", "1"]
    assert (posted.json()["code"], asked.json()["code"]) == ("BrokerUnavailable", "ReadModelUnavailable")
    assert ready.json()["missing"] == {"kafka": "BrokerUnavailable", "read_model": "ReadModelUnavailable"}
    assert "hidden" not in posted.text + asked.text + ready.text
    assert (await client.get("/healthz")).status_code == 200


async def test_a_key_is_checked_and_one_that_is_made_is_told(client: httpx.AsyncClient) -> None:
    for key in (b"", b"k" * 129, "é".encode(), b"two words"):
        answer = await client.post("/v1/entries", json=GOOD, headers=[(b"idempotency-key", key)])
        assert answer.json()["code"] == "InvalidCommandId", key
    made = await client.post("/v1/entries", json={**GOOD, "amount": "0"})
    assert len(made.headers["idempotency-key"]) == 36
    named = await client.post("/v1/entries", json={**GOOD, "amount": "0"}, headers={"idempotency-key": "k1"})
    assert named.headers["idempotency-key"] == "k1"


@pytest.mark.parametrize("preference", ["wait=soon", "wait=-1", "wait=", "respond-async, wait=1e9"])
async def test_a_preference_that_is_none_is_refused(client: httpx.AsyncClient, preference: str) -> None:
    answer = await client.get("/v1/accounts/alice", headers={"prefer": preference})
    assert answer.json()["code"] == "InvalidPreference"


async def test_other_methods_are_told_which_there_are(client: httpx.AsyncClient) -> None:
    answer = await client.request("DELETE", "/v1/accounts")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


async def test_a_body_is_bounded_whether_or_not_it_is_announced(client: httpx.AsyncClient) -> None:
    large = b" " * (edge.MOST_BYTES + 1)

    async def in_parts() -> AsyncIterator[bytes]:
        yield large

    announced = await client.post("/v1/entries", content=large, headers=JSON)
    unannounced = await client.post("/v1/entries", content=in_parts(), headers=JSON)
    assert [answer.status_code for answer in (announced, unannounced)] == [413, 413]


async def test_a_body_that_does_not_come_is_not_waited_for(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    monkeypatch.setattr(edge, "BODY_WITHIN", 0.05)
    answer = await client.post("/v1/entries", content=never(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (408, "RequestTooSlow")


async def test_only_json_is_read_and_no_web_page_commands(client: httpx.AsyncClient) -> None:
    text = await client.post("/v1/entries", content=good(), headers={"content-type": "text/plain"})
    page = await client.post("/v1/accounts/alice/freeze", headers={"origin": "https://example.org"})
    rebound = await client.get("/v1/accounts", headers={"host": "ledger.example.org:8080"})
    assert [answer.status_code for answer in (text, page, rebound)] == [415, 403, 403]
    assert not any(name.startswith("access-control") for name in page.headers)


async def test_more_requests_than_allowed_are_told_to_come_again(alone: Alone) -> None:
    alone.most_requests = 2
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        waiting.set()
        await go_on.wait()
        yield good(amount="0").encode()

    async with alone.client() as client:
        held = []
        for _ in range(2):
            held.append(asyncio.create_task(client.post("/v1/entries", content=slowly(), headers=JSON)))
            await waiting.wait()
            waiting.clear()
        refused = await client.get("/v1/accounts")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["code"] == "TooManyRequests"
        assert (await client.get("/healthz")).status_code == 200
        go_on.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [422, 422]
        assert (await client.get("/v1/accounts")).json()["code"] == "ReadModelUnavailable"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_with_tokens_nobody_else_is_served(alone: Alone, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"# who\nreports read {READ}\ntreasury  write  {WRITE}\n")
    alone.tokens = Tokens.read(tmp_path / "tokens")
    async with alone.client() as client:
        for header in ({}, bearer("x" * 32), {"authorization": READ}, {"authorization": f"Basic {READ}"}):
            answer = await client.get("/v1/accounts", headers=header)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), header
        for open_at in ("/docs/../v1/accounts", "/problems/%2e%2e/v1/accounts", "/healthz%2f..%2fv1/accounts"):
            assert (await client.get(open_at)).status_code in (401, 404), open_at
        assert (await client.get("/v1/accounts", headers=bearer(READ))).status_code == 503
        assert (await client.post("/v1/entries", json=GOOD, headers=bearer(READ))).status_code == 403
        assert (await client.post("/v1/entries", json=GOOD, headers=bearer(WRITE))).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        assert (
            await client.get("/v1/accounts", headers={"host": "ledger.example.org", **bearer(READ)})
        ).status_code == 503


async def test_the_log_has_no_secret_and_one_line_for_each_request(
    alone: Alone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tokens").write_text(f"treasury write {WRITE}\n")
    alone.tokens = Tokens.read(tmp_path / "tokens")
    caplog.set_level("INFO", logger="partita.web.access")
    async with alone.client() as client:
        await client.get("/v1/entries?reference=private%0Aforged", headers=bearer(WRITE))
        await client.get("/v1/nothing%0Aforged", headers=bearer(WRITE))
    lines = [record.getMessage() for record in caplog.records if record.name == "partita.web.access"]
    assert len(lines) == 2
    assert lines[0].startswith("treasury GET /v1/entries?... 503 ")
    assert lines[1].startswith("treasury GET /v1/nothing%0Aforged 404 ")
    assert WRITE not in caplog.text
    assert "private" not in caplog.text


async def test_a_fault_of_the_api_is_told_without_its_inside(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("the inside")

    monkeypatch.setattr(alone.backend.read_model, "account", broken)
    async with alone.client() as client:
        answer = await client.get("/v1/accounts/alice")
    assert (answer.status_code, answer.json()["code"]) == (500, "ServerFault")
    assert "inside" not in answer.text


async def test_the_document_is_whole_and_the_page_needs_nobody(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            assert path.startswith("/v1") <= {"422", "503"}.issubset(operation["responses"]), (method, path)
            if method == "post":
                assert {"200", "201", "202", "400", "403", "404", "408", "409", "413", "415"} <= {
                    *operation["responses"]
                }
    references = {text.partition('"')[0] for text in json.dumps(document).split('"#/components/')[1:]}
    assert all(kind.partition("/")[2] in document["components"][kind.partition("/")[0]] for kind in references)
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not {"<script", "src=", "http://", "https://", "@import"} & {
        word for word in ("<script", "src=", "http://", "https://", "@import") if word in page.text
    }
