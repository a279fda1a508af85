"""A receipt that has everything: the tree, immudb, and a chain; each is verified, and each is missed when it lies."""

import asyncio
import json
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from partita import LedgerEntry, verify_receipt
from partita.cli import app
from tests.integration.test_receipts import offline
from tests.reconciler.test_anchoring import address_of
from tests.reconciler.worlds import Anvil
from tests.support.services import Ledger, eventually, ledger_on
from tests.support.stack import Stack


@pytest.fixture
def treasury(full_stack: Stack, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with a mirror and proofs, and an address on the chain that can pay for anchors."""
    addresses, key = full_stack.addresses, "0x" + secrets.token_hex(32)
    Anvil(addresses["evm_rpc_url"]).ask("anvil_setBalance", address_of(key), hex(10**20))
    places = {
        "immudb_host": addresses["immudb_host"],
        "immudb_port": int(addresses["immudb_port"]),
        "evm_rpc_url": SecretStr(addresses["evm_rpc_url"]),
        "chain_finality": "0",
        "anchor_key": SecretStr(key),
    }
    with ledger_on(addresses, tmp_path, **places) as ledger:
        ledger.options = {**ledger.options, "immudb_database": ledger.name}
        handler = ledger.service("handler").start()
        for name in ("proofs", "mirror"):
            ledger.service(name).start()
        ledger.await_handler(handler)
        yield ledger


def typed(ledger: Ledger, *arguments: str) -> Any:
    done = CliRunner().invoke(app, [*arguments], env=ledger.environment())
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


async def enter(ledger: Ledger) -> LedgerEntry:
    async with ledger.engine() as engine:
        return await engine.create_entry("alice", "12.50", "credit", command_id="order-7")


def test_a_receipt_shows_the_tree_the_copy_and_the_anchor(
    treasury: Ledger, full_stack: Stack, tmp_path: Path
) -> None:
    entry = asyncio.run(enter(treasury))
    before = typed(treasury, "receipt", entry.entry_id)
    assert "anchor" not in before
    with closing(treasury.wiring().verified_database()), closing(treasury.wiring()) as wiring:
        mirror = wiring.mirror()
        eventually(lambda: mirror.find(entry.partition, entry.sequence))
        mirror.database.close()
    assert typed(treasury, "anchor", "--json")["state"] == "recorded"
    receipt = typed(treasury, "receipt", entry.entry_id)
    assert receipt["immudb"]["tx"] > 0
    assert receipt["anchor"]["checkpoint"] == receipt["checkpoint"]
    shown = verify_receipt(receipt, [receipt["public_key"]])
    assert shown.immudb is not None
    asked = Asked(tmp_path, receipt["public_key"], full_stack.addresses["evm_rpc_url"])
    found = asked.about(receipt)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["anchored"]["transaction_hash"] == receipt["anchor"]["transaction_hash"]
    elsewhere = {**receipt["anchor"], "block_number": receipt["anchor"]["block_number"] + 1}
    for forged in (before, {**receipt, "anchor": elsewhere}, {**receipt, "checkpoint": before["checkpoint"] + "\n"}):
        assert asked.about(forged).returncode == 1
    assert Asked(tmp_path, receipt["public_key"], "http://127.0.0.1:9").about(receipt).returncode == 4


class Asked:
    """Verifies receipts as somebody who has a key and a node, and nothing of ours."""

    def __init__(self, directory: Path, key: str, rpc: str) -> None:
        self._directory, self._key, self._rpc = directory, key, rpc

    def about(self, receipt: Any) -> "subprocess.CompletedProcess[str]":
        file = self._directory / "receipt.json"
        file.write_text(json.dumps(receipt))
        return offline(self._directory, "verify-receipt", str(file), "--key", self._key, "--rpc", self._rpc, "--json")
