"""Receipts, checkpoints and proofs through the API: what they show is verified here, offline."""

import asyncio
import base64
import uuid
from decimal import Decimal
from typing import Any

import asyncpg
import httpx2 as httpx

from events.checkpoint import verify
from events.merkle import verify_consistency
from partita.receipts import verify_receipt
from tests.web.conftest import Served


async def test_a_receipt_is_verified_by_who_asked_for_it(served: Served) -> None:
    account = f"receipt-{uuid.uuid4().hex[:8]}"
    async with served.client() as client:
        body = {"account_id": account, "amount": "5", "entry_type": "CREDIT"}
        posted = (await client.post("/v1/entries", json=body)).json()
        answer = await client.get(f"/v1/entries/{posted['entry_id']}/receipt", headers={"prefer": "wait=20"})
        assert answer.status_code == 200, answer.text
        keys = served.ledger.wiring().verifiers()
        shown = verify_receipt(answer.json(), keys)
        assert (shown.entry.account_id, shown.entry.amount) == (account, Decimal(5))

        partition, size = posted["partition"], answer.json()["tree_size"]
        checkpoints = (await client.get("/v1/checkpoints")).json()["checkpoints"]
        [newest] = [of for of in checkpoints if of["partition"] == partition]
        assert newest["tree_size"] >= size
        query = {"partition": partition, "old_size": size, "new_size": newest["tree_size"]}
        proof = (await client.get("/v1/proofs/consistency", params=query)).json()["proof"]
        old, new, *nodes = map(base64.b64decode, (answer.json()["root"], newest["root"], *proof))
        verify_consistency(size, newest["tree_size"], old, new, nodes)

        for wrong in ({"new_size": 2**63 - 1}, {"old_size": newest["tree_size"] + 1}, {"partition": 99}):
            refused = await client.get("/v1/proofs/consistency", params={**query, **wrong})
            assert (refused.status_code, refused.json()["code"]) == (404, "NoSuchTree")
        missing = await asyncio.gather(
            *(client.get(f"/v1/entries/{name}/receipt") for name in ("0-0", "99-1", "x", "1-99999999999999999999"))
        )
        assert {answer.status_code for answer in missing} == {404}


async def test_all_checkpoints_of_a_partition_are_listed_once_each(served: Served) -> None:
    account = f"checkpoints-{uuid.uuid4().hex[:8]}"
    body = {"account_id": account, "amount": "1", "entry_type": "CREDIT"}
    async with served.client() as client:
        posted = [(await client.post("/v1/entries", json=body)).json() for _ in range(5)][-1]  # a transaction each
        query = {"partition": posted["partition"]}
        receipt = await client.get(f"/v1/entries/{posted['entry_id']}/receipt", headers={"prefer": "wait=20"})
        assert receipt.status_code == 200, receipt.text

        whole = (await client.get("/v1/checkpoints", params=query)).json()
        sizes = [checkpoint["tree_size"] for checkpoint in whole["checkpoints"]]
        assert len(sizes) >= 5
        assert sizes == sorted(set(sizes))
        assert whole["next_cursor"] is None
        last: dict[str, str] = {}
        for newest_first in (False, True):
            pages: list[dict[str, Any]] = []
            cursor: dict[str, str] = {}
            while not pages or cursor:
                asked = {**query, "limit": 2, "newest_first": newest_first, **cursor}
                page = (await client.get("/v1/checkpoints", params=asked)).json()
                assert len(page["checkpoints"]) <= 2
                pages += page["checkpoints"]
                cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
                last = cursor or last
            assert (pages[::-1] if newest_first else pages) == whole["checkpoints"]

        keys = served.ledger.wiring().verifiers()
        signed = [verify(checkpoint["note"], keys)[0] for checkpoint in whole["checkpoints"]]
        assert [checkpoint.size for checkpoint in signed] == sizes
        newest = (await client.get("/v1/checkpoints")).json()
        assert whole["checkpoints"][-1] in newest["checkpoints"]

        cases: list[tuple[dict[str, Any], str]] = [
            ({"limit": 2}, "InvalidRequest"),
            ({**last, "newest_first": True}, "InvalidRequest"),
            ({**query, **last}, "InvalidCursor"),
            ({"partition": (posted["partition"] + 1) % 4, "newest_first": True, **last}, "InvalidCursor"),
            ({**query, "limit": 1001}, "InvalidRequest"),
        ]
        for wrong, code in cases:
            refused = await client.get("/v1/checkpoints", params=wrong)
            assert (refused.status_code, refused.json()["code"]) == (422, code), wrong
        nothing = await client.get("/v1/checkpoints", params={"partition": 99})
        assert nothing.json() == {"checkpoints": [], "next_cursor": None}


async def test_readiness_tells_which_projections_have_stopped(served: Served) -> None:
    table = f'"{served.ledger.name}".positions'
    connection = await asyncpg.connect(served.ledger.addresses["postgres_url"])
    before = await connection.fetch(f"SELECT projection, partition FROM {table} WHERE halted IS NOT NULL")
    assert before == []
    one, every = "projection = $1 AND partition = 2", "projection = $1"
    try:
        async with served.client() as client:
            for projection, where, partitions, missing in (
                ("balances", one, [2], {"read_model": "ProjectionHalted"}),
                ("snapshots", one, [2], {"snapshots": "ProjectionHalted"}),
                ("proofs", one, [2], {}),
                ("proofs", every, [0, 1, 2, 3], {"proofs": "ProjectionHalted"}),
            ):
                await connection.execute(f"UPDATE {table} SET halted = 'a gap' WHERE {where}", projection)
                part = "read_model" if projection == "balances" else projection
                told = {"ready": not missing, "missing": missing, "halted": {part: partitions}}
                await until_told(client, told)
                await connection.execute(f"UPDATE {table} SET halted = NULL")
            await until_told(client, {"ready": True, "missing": {}, "halted": {}})
    finally:
        await connection.execute(f"UPDATE {table} SET halted = NULL")
        await connection.close()


async def until_told(client: httpx.AsyncClient, told: dict[str, Any]) -> None:
    async with asyncio.timeout(20):
        while (answer := await client.get("/readyz")).json() != told:  # noqa: ASYNC110  # it asks twice a second
            await asyncio.sleep(0.05)
    assert answer.status_code == (200 if told["ready"] else 503)
