"""Receipts from a ledger that runs: made by the read side, verified by nobody's word."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from partita import (
    CheckpointInvalid,
    EntryNotFound,
    LedgerEngine,
    LedgerEntry,
    ReceiptInvalid,
    ReceiptNotReady,
    verify_receipt,
)
from tests.docs.pages import blocks
from tests.support.services import Ledger

_LIMIT = 90


def offline(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `partita` where no setting, no service and no home directory can be found."""
    return subprocess.run(
        [sys.executable, "-m", "partita", *arguments],
        env={"HOME": str(directory / "nobody"), "PATH": "", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=_LIMIT,
    )


def typed(ledger: Ledger, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "partita", *arguments],
        env=ledger.environment(),
        capture_output=True,
        text=True,
        timeout=_LIMIT,
    )


async def entries_of_every_kind(engine: LedgerEngine) -> list[LedgerEntry]:
    posted = await engine.create_entry("alice", "12.50", "credit", "order 7", {"channel": "web"})
    await engine.place_hold("alice", 5, command_id="till-7")
    settled = await engine.settle_hold("alice", "till-7", 2)
    batch = await engine.transfer("alice", "bob", "1.25")
    return [posted, settled, *batch.entries]


async def test_receipts_are_made_and_verified(ledger: Ledger, tmp_path: Path) -> None:
    handler = ledger.service("handler").start()
    proofs = ledger.service("proofs").start()
    ledger.await_handler(handler)
    async with ledger.engine() as engine:
        entries = await entries_of_every_kind(engine)
        receipts = [await engine.get_receipt(entry.entry_id) for entry in entries]
        key = receipts[0].public_key
        for entry, receipt in zip(entries, receipts, strict=True):
            shown = verify_receipt(json.dumps(receipt.to_dict()), [key])
            for field in ("account_id", "amount", "running_balance", "hold_id", "batch_id", "leg", "recorded_at"):
                assert getattr(shown.entry, field) == getattr(entry, field), field
        it_is_verified_by_others(ledger, tmp_path, receipts[-1].to_dict())
        notes = {each.partition: each.note for each in await engine.get_checkpoints()}
        await later_trees_begin_with_it(engine, receipts[0].checkpoint, entries[0].partition)
        assert notes[entries[-1].partition]
        await what_is_not_there_is_told(engine)
    it_is_told_on_the_command_line(ledger, tmp_path, entries[0], key)
    assert proofs.stop() == 0, proofs.log_text()


def it_is_verified_by_others(ledger: Ledger, directory: Path, plain: dict[str, Any]) -> None:
    """By the command, which finds nothing but the file and the key; and by the program of the documents."""
    listed = json.loads(typed(ledger, "keys", "list", "--json").stdout)
    (key,) = [each["verifier_key"] for each in listed["keys"]]
    file = directory / "receipt.json"
    file.write_text(json.dumps(plain))
    done = offline(directory, "verify-receipt", str(file), "--key", key, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["entry"] == plain["entry"]
    assert offline(directory, "verify-receipt", str(file)).returncode == 6
    (program,) = blocks("docs/receipts.md", "python")
    (directory / "verifier.py").write_text(program)
    call = "import json, sys, verifier; verifier.verify(json.load(open('receipt.json')), sys.argv[1])"
    subprocess.run([sys.executable, "-c", call, key], cwd=directory, check=True, timeout=_LIMIT)
    with pytest.raises(ReceiptInvalid):
        verify_receipt({**plain, "entry": {**plain["entry"], "amount": "99"}}, [key])


async def later_trees_begin_with_it(engine: LedgerEngine, old: str, partition: int) -> None:
    again = await engine.create_entry("alice", 1, "credit")
    new = (await engine.get_receipt(again.entry_id)).checkpoint
    shown = await engine.verify_consistency(old, new)
    assert shown.old.size < shown.new.size
    assert shown.new.origin.endswith(f"/{partition}")
    with pytest.raises(CheckpointInvalid, match="more than the second"):
        await engine.verify_consistency(new, old)


async def what_is_not_there_is_told(engine: LedgerEngine) -> None:
    for none in ("", "7", "0-0", "-1-5", "00-1", "900-1", "0-1-2", "0-x"):
        with pytest.raises(EntryNotFound):
            await engine.get_receipt(none)
    with pytest.raises(ReceiptNotReady) as not_ready:
        await engine.get_receipt("0-900000", timeout=0.3)
    assert not_ready.value.details["halted"] is None


def it_is_told_on_the_command_line(ledger: Ledger, directory: Path, entry: LedgerEntry, key: str) -> None:
    printed = typed(ledger, "receipt", entry.entry_id)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert verify_receipt(printed.stdout, [key]).entry.entry_id == entry.entry_id
    assert typed(ledger, "receipt", "7-x", "--json").returncode == 1
    newest = json.loads(typed(ledger, "checkpoint", "--json").stdout)
    assert len(newest) == 4
    assert "events" in typed(ledger, "checkpoint").stdout
    old, new = directory / "old.txt", directory / "new.txt"
    old.write_text(json.loads(printed.stdout)["checkpoint"])
    new.write_text(typed(ledger, "checkpoint", str(entry.partition)).stdout)
    done = typed(ledger, "verify-consistency", str(old), str(new), "--json")
    assert json.loads(done.stdout)["consistent"] is True, done
    other = next(each["note"] for each in newest if each["partition"] != entry.partition)
    new.write_text(other)
    assert typed(ledger, "verify-consistency", str(old), str(new)).returncode == 1
