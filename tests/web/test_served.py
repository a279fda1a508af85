"""The API as a process, on a real ledger."""

import asyncio
import itertools
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2 as httpx
import pytest

from events.follow import Ends
from tests.support.services import PARTITIONS, Ledger, eventually
from tests.web.conftest import Served, await_ready, free_port

Account = Callable[[], str]
_numbers = itertools.count()


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with served.client() as client:
        yield client


@pytest.fixture
def account() -> Account:
    """Give the names of accounts that nobody else uses, with what must be encoded in a path."""
    return lambda: f"web/{next(_numbers)} ä?"


def at(account_id: str, more: str = "") -> str:
    """Return the path of an account."""
    return f"/v1/accounts/{quote(account_id, safe='')}{more}"


async def pages(client: httpx.AsyncClient, path: str, query: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Yield page after page."""
    cursor: dict[str, str] = {}
    while True:
        page = (await client.get(path, params={**query, **cursor})).json()
        yield page
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def credit(account_id: str, amount: str = "100", **fields: Any) -> dict[str, Any]:
    return {"account_id": account_id, "amount": amount, "entry_type": "CREDIT", **fields}


def key(name: str) -> dict[str, str]:
    return {"idempotency-key": name}


async def test_a_command_is_applied_once_and_read_by_who_wrote_it(
    client: httpx.AsyncClient, account: Account
) -> None:
    alice = account()
    body = credit(alice, "12.50", reference="r", metadata={"n": 1}, effective_at="2026-05-31T14:00:00+02:00")
    first = await client.post("/v1/entries", json=body, headers=key("one"))
    again = await client.post("/v1/entries", json=body, headers=key("one"))
    other = await client.post("/v1/entries", json={**body, "amount": "13"}, headers=key("one"))
    assert [answer.status_code for answer in (first, again, other)] == [201, 200, 409]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert first.json() == again.json()
    assert (first.json()["amount"], first.json()["effective_at"]) == ("12.5", "2026-05-31T12:00:00.000000Z")
    assert other.json()["code"] == "IdempotencyConflict"

    since = {"partita-min-position": other.headers["partita-position"]}
    seen = await client.get(at(alice), headers=since)
    assert [(of["asset"], of["balance"]) for of in seen.json()["balances"]] == [("USD", "12.5")]
    found = await client.get(first.headers["location"])
    assert found.json() == first.json()
    assert "immutable" in found.headers["cache-control"]
    rejected = (await client.get("/v1/rejections", params={"account_id": alice}, headers=since)).json()["rejections"]
    assert [(of["command_id"], of["code"]) for of in rejected] == [("one", "IdempotencyConflict")]


async def test_a_tag_says_whether_anything_has_changed(client: httpx.AsyncClient, account: Account) -> None:
    alice = account()
    posted = await client.post("/v1/entries", json=credit(alice))
    seen = await client.get(at(alice), params={"min_position": posted.headers["partita-position"]})
    tag = {"if-none-match": f'"other", W/{seen.headers["etag"]}'}
    same = await client.get(at(alice), headers=tag)
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", seen.headers["etag"])
    more = await client.post("/v1/entries", json=credit(alice))
    changed = await client.get(at(alice), headers=tag, params={"min_position": more.headers["partita-position"]})
    assert changed.status_code == 200
    assert changed.json()["version"] == 2


async def test_two_hundred_at_once_with_twenty_keys_are_twenty(client: httpx.AsyncClient, account: Account) -> None:
    alice = account()
    answers = await asyncio.gather(
        *(client.post("/v1/entries", json=credit(alice, "1"), headers=key(f"k{n % 20}")) for n in range(200))
    )
    assert Counter(answer.status_code for answer in answers) == {201: 20, 200: 180}
    by_key: dict[str, set[str]] = {}
    for answer in answers:
        by_key.setdefault(answer.headers["idempotency-key"], set()).add(answer.json()["entry_id"])
    assert len(by_key) == 20
    assert all(len(ids) == 1 for ids in by_key.values())
    last = max(answers, key=lambda answer: answer.json()["sequence"]).headers["partita-position"]
    seen = await client.get(f"{at(alice)}/balances/USD", params={"min_position": last})
    assert (seen.json()["balance"], seen.json()["version"]) == ("20", 20)


async def test_the_life_of_an_account_and_its_holds(client: httpx.AsyncClient, account: Account) -> None:
    alice = account()
    opened = await client.post("/v1/accounts", json={"account_id": alice, "floor": "-50", "assets": ["USD"]})
    assert (opened.status_code, opened.json()["status"]) == (201, "OPEN")
    spent = await client.post("/v1/entries", json={**credit(alice, "60"), "entry_type": "DEBIT"})
    assert (spent.status_code, spent.json()["code"]) == (409, "InsufficientFunds")
    assert spent.json()["details"] == {"account_id": alice, "asset": "USD", "available": "50", "requested": "60"}

    held = await client.post(f"{at(alice)}/holds", json={"amount": "30"}, headers=key("h"))
    settled = await client.post(f"{at(alice)}/holds/h/settle", json={"amount": "10"})
    too_early = await client.post(f"{at(alice)}/holds/h/expire")
    released = await client.post(f"{at(alice)}/holds/h/release", json={"reason": "done"})
    assert [answer.status_code for answer in (held, settled, too_early, released)] == [201, 201, 409, 201]
    assert (held.json()["held"], settled.json()["running_balance"], released.json()["held"]) == ("30", "-10", "0")
    since = {"min_position": released.headers["partita-position"]}
    hold = (await client.get(released.headers["location"], params=since)).json()
    assert (hold["status"], hold["amount"], hold["remaining"]) == ("RELEASED", "30", "0")
    assert [of["hold_id"] for of in (await client.get(f"{at(alice)}/holds")).json()["holds"]] == ["h"]
    assert (await client.get(f"{at(alice)}/holds", params={"status": "PLACED"})).json()["holds"] == []
    assert (await client.get(f"{at(alice)}/holds/none")).json()["code"] == "HoldNotInReadModel"

    tried = await client.post("/v1/entries", params={"dry_run": True}, json=credit(alice, "10"))
    assert (tried.status_code, tried.json()["running_balance"]) == (200, "0")
    assert "partita-position" not in tried.headers
    stale = await client.post(f"{at(alice)}/freeze", json={"expected_version": 1})
    frozen = await client.post(f"{at(alice)}/freeze")
    refused = await client.post("/v1/entries", json=credit(alice))
    assert [answer.json().get("code") for answer in (stale, frozen, refused)] == [
        "VersionConflict",
        None,
        "AccountIsFrozen",
    ]
    await client.post(f"{at(alice)}/unfreeze")
    await client.post("/v1/entries", json=credit(alice, "10"))
    closed = await client.post(f"{at(alice)}/close", json={"permanent": True, "reason": "moved"})
    reopened = await client.post(f"{at(alice)}/reopen")
    assert (closed.json()["status"], reopened.json()["details"]["permanent"]) == ("CLOSED", True)
    assert (await client.post("/v1/accounts/nobody/freeze")).status_code == 404


async def test_batches_are_whole_and_undone_once(client: httpx.AsyncClient, account: Account) -> None:
    alice, bob = account(), account()
    await client.post("/v1/entries", json=credit(alice))
    moved = await client.post(
        "/v1/transfers", json={"source": alice, "target": bob, "amount": "30"}, headers=key(f"rent-{next(_numbers)}")
    )
    batch_id = moved.json()["batch_id"]
    short = [credit(bob, "1"), {**credit(alice, "900"), "entry_type": "DEBIT", "asset": None}]
    refused = await client.post("/v1/batches", json={"entries": short}, headers=key(f"{batch_id}-short"))
    assert (refused.status_code, refused.json()["details"]["leg"]) == (409, 1)
    uneven = await client.post("/v1/batches", json={"entries": short, "balanced": True})
    assert (uneven.status_code, uneven.json()["code"]) == (422, "BatchUnbalanced")

    undone = await asyncio.gather(*(client.post(f"/v1/batches/{batch_id}/rollback", json={}) for _ in range(8)))
    assert Counter(answer.status_code for answer in undone) == {201: 1, 200: 7}
    assert len({answer.json()["batch_id"] for answer in undone}) == 1
    since = {"min_position": undone[0].headers["partita-position"]}
    seen = (await client.get(f"/v1/batches/{batch_id}", params=since)).json()
    assert (seen["status"], len(seen["entries"]), seen["reversed_by"]) == ("POSTED", 2, undone[0].json()["batch_id"])
    told = (await client.get(f"/v1/commands/{batch_id}-short", params=since)).json()
    assert (told["state"], told["batch"]["code"]) == ("REJECTED", "InsufficientFunds")
    assert (await client.get("/v1/batches/none")).status_code == 404


async def test_a_page_goes_on_where_the_one_before_it_ended(client: httpx.AsyncClient, account: Account) -> None:
    alice, tag = account(), f"tag-{time.time_ns()}"
    body = credit(alice, reference=tag, metadata={"tag": tag})
    posted = [await client.post("/v1/entries", json=body) for _ in range(5)]
    ids = [answer.json()["entry_id"] for answer in posted]
    since = {"min_position": posted[-1].headers["partita-position"], "limit": "2"}
    for chosen in (
        {"account_id": alice},
        {"reference": tag},
        {"metadata": f"tag={tag}"},
        {"account_id": alice, "asset": "USD"},
    ):
        for newest_first, wanted in ((False, ids), (True, ids[::-1])):
            found = []
            async for page in pages(client, "/v1/entries", {**since, **chosen, "newest_first": newest_first}):
                found += [entry["entry_id"] for entry in page["entries"]]
                if len(found) == 2 and newest_first:  # what comes meanwhile does not shift what was there
                    await client.post("/v1/entries", json=body)
            assert [entry for entry in found if entry in ids] == wanted, chosen
            assert len(found) == len({*found})


async def test_a_cursor_goes_with_its_own_question_only(client: httpx.AsyncClient, account: Account) -> None:
    alice, bob = account(), account()
    posted = [await client.post("/v1/entries", json=credit(alice)) for _ in range(2)]
    of_alice = {"account_id": alice, "limit": "1", "min_position": posted[-1].headers["partita-position"]}
    cursor = {"cursor": (await client.get("/v1/entries", params=of_alice)).json()["next_cursor"]}
    assert len((await client.get("/v1/entries", params={**of_alice, **cursor})).json()["entries"]) == 1
    for other in (
        {"account_id": bob},
        {"account_id": alice, "asset": "USD"},
        {"reference": alice},
        {"newest_first": True},
    ):
        answer = await client.get("/v1/entries", params={**other, **cursor})
        assert (answer.status_code, answer.json()["code"]) == (422, "InvalidCursor"), other


async def test_entries_are_found_by_what_they_have(client: httpx.AsyncClient, account: Account) -> None:
    alice, tag = account(), f"tag-{time.time_ns()}"
    effective = {"effective_at": "2020-01-01T00:00:00Z"}
    body = credit(alice, reference=tag, metadata={"tag": tag, "n": 2, "s": "2", "yes": True}, **effective)
    posted = await client.post("/v1/entries", json=body, headers=key(tag))
    recorded, since = posted.json()["recorded_at"], posted.headers["partita-position"]
    finds: list[dict[str, Any]] = [
        {"command_id": tag},
        {"reference": tag, "partition": posted.json()["partition"]},
        {"metadata": [f"tag={tag}", "n=2", "s=2", "yes=true"]},
        {"reference": tag, "effective_from": "2020-01-01T00:00:00Z", "effective_to": "2020-01-01T00:00:00.000001Z"},
        {"reference": tag, "recorded_from": recorded, "recorded_to": "2998-01-01T00:00:00+01:00"},
    ]
    finds_not: list[dict[str, Any]] = [
        {"reference": tag, "asset": "EUR"},
        {"metadata": [f"tag={tag}", "n=3"]},
        {"metadata": [f"tag={tag}", "yes=True"]},
        {"reference": tag, "effective_from": "2020-01-01T00:00:00.000001Z"},
        {"reference": tag, "recorded_to": recorded},
        {"reference": tag, "batch_id": tag},
    ]
    for query in finds + finds_not:
        found = (await client.get("/v1/entries", params={"min_position": since, **query})).json()["entries"]
        assert [entry["command_id"] for entry in found] == ([tag] if query in finds else []), query


async def test_accounts_and_batches_are_listed_once_each(client: httpx.AsyncClient, account: Account) -> None:
    mine = sorted(account() for _ in range(5))
    await client.post("/v1/accounts", json={"account_id": "world", "floor": None})
    moves = [{"source": "world", "target": name, "amount": "1"} for name in mine]
    posted = [await client.post("/v1/transfers", json=move) for move in moves]
    for answer in posted:
        await client.get("/v1/accounts", params={"min_position": answer.headers["partita-position"]})
    for kind, name_of in (("accounts", "account_id"), ("batches", "batch_id")):
        found = []
        async for page in pages(client, f"/v1/{kind}", {"limit": 3}):
            found += [item[name_of] for item in page[kind]]
        assert len(found) == len({*found})
        wanted = mine if kind == "accounts" else [answer.json()["batch_id"] for answer in posted]
        assert {*wanted} <= {*found}
        assert kind != "accounts" or found == sorted(found)


def known(url: str) -> bool:
    """Return whether it is known what became of a command."""
    state: str = httpx.get(url).json()["state"]
    return state != "PENDING"


async def test_what_is_not_known_in_time_is_asked_for_later(served: Served, account: Account) -> None:
    """The handler is stopped; what was sent meanwhile is applied when it is back, once."""
    alice = account()
    async with served.client() as client:
        await client.post("/v1/entries", json=credit(alice))
        served.handler.kill()
        try:
            body, soon = credit(alice, "7"), {"prefer": "wait=0.3"}
            begun = time.monotonic()
            pending = [await client.post("/v1/entries", json=body, headers={**key("late"), **soon}) for _ in range(2)]
            batch = await client.post(
                "/v1/batches", json={"entries": [body]}, headers={**key(f"late-{next(_numbers)}"), **soon}
            )
            tried = await client.post("/v1/entries", params={"dry_run": True}, json=body, headers=soon)
            assert time.monotonic() - begun < 10
        finally:
            served.handler.start()
        assert [answer.status_code for answer in (*pending, batch, tried)] == [202, 202, 202, 503]
        places = [answer.headers["location"] for answer in (pending[0], batch)]
        assert pending[0].json()["status_url"] == places[0]

        async def state(place: str) -> Any:
            return (await client.get(place)).json()

        for place in places:
            await asyncio.to_thread(eventually, partial(known, served.url + place), within=60)
        assert (await state(places[0]))["entry"]["amount"] == "7"
        assert (await state(places[1]))["batch"]["status"] == "POSTED"
        again = await client.post("/v1/entries", json=body, headers=key("late"))
        assert (again.status_code, again.json()["running_balance"]) == (200, "107")


async def test_the_state_of_a_command_that_was_rejected_or_never_sent(
    client: httpx.AsyncClient, account: Account
) -> None:
    alice = account()
    await client.post("/v1/accounts", json={"account_id": alice}, headers=key("open"))
    spent = await client.post("/v1/entries", json={**credit(alice), "entry_type": "DEBIT"}, headers=key("spend"))
    await client.post("/v1/entries", json=credit(alice), headers=key("spend"))
    since = {"account_id": alice, "min_position": spent.headers["partita-position"]}
    spend = (await client.get("/v1/commands/spend", params=since)).json()
    assert (spend["state"], spend["rejection"]["code"]) == ("REJECTED", "InsufficientFunds")
    opened = (await client.get("/v1/commands/open", params=since)).json()
    assert (opened["state"], opened["change"]["change"]) == ("ACCEPTED", "AccountOpened")
    assert (await client.get("/v1/commands/never", params=since)).json()["state"] == "PENDING"
    assert (await client.get("/v1/commands/never")).json()["state"] == "PENDING"


async def test_what_the_tables_have_not_got_is_waited_for_so_long(
    client: httpx.AsyncClient, account: Account
) -> None:
    begun = time.monotonic()
    future = {"min_position": "W1swLDkwMDAwMDBdXQ"}  # [[0, 9000000]]
    behind = await client.get("/v1/accounts", params=future, headers={"prefer": "wait=0.2"})
    assert time.monotonic() - begun < 5
    assert (behind.status_code, behind.headers["retry-after"]) == (503, "1")
    assert (behind.json()["code"], behind.json()["details"]["wanted"]) == ("ReadModelBehind", 9000000)


async def test_positions_say_how_far_it_is(client: httpx.AsyncClient, account: Account) -> None:
    posted = await client.post("/v1/entries", json=credit(account()))
    await client.get("/v1/accounts", params={"min_position": posted.headers["partita-position"]})
    positions = (await client.get("/v1/positions")).json()["positions"]
    assert [of["partition"] for of in positions] == [0, 1, 2, 3]
    mine = next(of for of in positions if of["partition"] == posted.json()["partition"])
    assert mine["next_sequence"] > posted.json()["sequence"]
    assert all(of["lag"] is not None and of["halted"] is None for of in positions)


def commands_on(ledger: Ledger) -> int:
    """Return how many commands were ever sent."""
    wiring = ledger.wiring()
    return sum(Ends(wiring.clients).high(wiring.topics.commands, range(PARTITIONS), timeout=10).values())


async def test_a_request_that_is_served_ends_before_the_process_does(
    served: Served, account: Account, tmp_path: Path
) -> None:
    """SIGTERM comes while a command waits for a handler that is stopped: it is told that it is pending.

    This one has tokens, so that it may listen on every address.
    """
    port, token = free_port(), secrets.token_hex()
    (tmp_path / "tokens").write_text(f"treasury write {token}\n")
    web = served.ledger.service("web", web_port=port)
    web.environment |= {"PARTITA_WEB_TOKENS_FILE": str(tmp_path / "tokens"), "PARTITA_WEB_HOST": "0.0.0.0"}
    url = f"http://127.0.0.1:{port}"
    await asyncio.to_thread(await_ready, url, web.start())
    assert httpx.get(f"{url}/v1/accounts").status_code == 401
    who = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, timeout=60, headers=who) as client:
        await client.post("/v1/entries", json=credit(account()))
        served.handler.kill()
        try:
            before = commands_on(served.ledger)
            waiting = asyncio.create_task(
                client.post("/v1/entries", json=credit(account()), headers={**key("late"), "prefer": "wait=3"})
            )
            await asyncio.to_thread(eventually, lambda: commands_on(served.ledger) > before)
            status = await asyncio.to_thread(web.stop)
            assert (await waiting).status_code == 202
            assert status == 0, web.log_text()[-2000:]
            assert "treasury POST /v1/entries 202" in web.log_text()
            assert token not in web.log_text()
        finally:
            served.handler.start()
            served.ledger.await_handler(served.handler)


def test_it_is_not_started_where_others_could_ask(served: Served) -> None:
    environment = served.ledger.environment() | {"PARTITA_WEB_HOST": "0.0.0.0"}
    web = served.ledger.service("web")
    web.environment = environment
    assert web.start().ended() == 1
    assert "UnsafeBinding" in web.log_text()
    served.ledger.services.remove(web)
