"""What was, at any time, through the API on a real ledger."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import httpx2 as httpx

from tests.web.conftest import Served


async def test_what_was_is_told_for_both_clocks_whatever_came_after(served: Served) -> None:
    asset = f"H{uuid.uuid4().hex[:8]}"
    world, alice = f"{asset}/world", f"{asset}/alice"
    balance = f"/v1/accounts/{asset}%2Falice/balances/{asset}"
    async with served.client() as client:
        await client.post("/v1/accounts", json={"account_id": world, "floor": None})
        move = {"source": world, "target": alice, "amount": "100", "asset": asset}
        first = (await client.post("/v1/transfers", json=move)).json()
        before = datetime.fromisoformat(first["recorded_at"])
        await client.post(f"/v1/batches/{first['batch_id']}/rollback", json={})
        late = {"account_id": alice, "amount": "7", "entry_type": "CREDIT", "asset": asset}
        early = (before - timedelta(days=40)).isoformat()
        posted = await client.post("/v1/entries", json={**late, "effective_at": early})
        since = {"min_position": posted.headers["partita-position"]}

        async def told(path: str, at: str, time: str, **more: Any) -> Any:
            answer = await client.get(path, params={"at": at, "time": time, **since, **more})
            assert answer.status_code == 200, answer.text
            return answer.json()

        times = [first["recorded_at"], posted.json()["recorded_at"]]
        assert [(await told(balance, at, "recorded"))["balance"] for at in times] == ["100", "7"]
        assert [(await told(balance, at, "effective"))["balance"] for at in times] == ["107", "7"]
        assert (await told(balance, early, "recorded"))["balance"] == "0"
        assert (await told(balance, times[0], "recorded"))["at"] == times[0]

        found: dict[str, str] = {}
        cursor: dict[str, str] = {}
        while True:
            page = await told("/v1/balances", times[0], "recorded", limit=3, **cursor)
            found |= {row["account_id"]: row["balance"] for row in page["balances"] if row["asset"] == asset}
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert found == {world: "-100", alice: "100"}
        [trial] = [
            row for row in (await told("/v1/trial-balance", times[0], "recorded"))["assets"] if row["asset"] == asset
        ]
        assert (trial["balance"], trial["floorless"], trial["others"]) == ("0", "-100", "100")
        now = [
            row
            for row in (await client.get("/v1/trial-balance", params=since)).json()["assets"]
            if row["asset"] == asset
        ]
        assert [(row["credits"], row["debits"]) for row in now] == [("207", "200")]

        if cursor:
            other = await client.get("/v1/balances", params={"at": times[1], **cursor})
            assert other.json()["code"] == "InvalidCursor"
        wrong = [{"at": "yesterday"}, {"at": times[0][:-1]}, {"at": times[0], "time": "my"}]
        assert [(await client.get(balance, params=query)).status_code for query in wrong] == [422, 422, 422]
        positions = (await client.get("/v1/positions", params={"projection": "snapshots"})).json()["positions"]
        assert [of["partition"] for of in positions] == [0, 1, 2, 3]


async def test_without_snapshots_a_time_is_waited_for_and_now_is_not(client: httpx.AsyncClient) -> None:
    """There is nothing behind this one: a balance at a time and one of now are asked of the same PostgreSQL."""
    for query in ({}, {"at": "2026-05-31T12:00:00Z"}):
        answer = await client.get("/v1/accounts/alice/balances/USD", params=query)
        assert answer.json()["code"] == "ReadModelUnavailable"
