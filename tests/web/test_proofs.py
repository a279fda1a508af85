"""Receipts, checkpoints and proofs through the API: what they show is verified here, offline."""

import asyncio
import base64
import uuid
from decimal import Decimal

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
