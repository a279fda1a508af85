"""The audit trail on a real immudb: written once, verified, and whatever is tampered with is found."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from events.merkle import ProofInvalid
from partita.audit import ImmutableConfig, create_audit_trail
from partita.cli import app
from projections.immudb import evidence
from projections.immudb.audit import AuditReceipt, AuditTrail, InvalidAuditRecord, VerificationStatus, canonical_json
from projections.immudb.client import ImmudbClient
from projections.immudb.errors import ImmudbConflict, ImmudbUnavailable, TrustedStateInvalid
from tests.docs.pages import blocks
from tests.support.forging import forgeries
from tests.support.immudb import address, drop, messages, new_name
from tests.support.stack import NativeStack, Stack

PAYMENT = {"amount": Decimal("100.000"), "to": "alice", "lines": [1, None, True, {"é": "ü"}]}
CANONICAL = {"amount": "100.000", "to": "alice", "lines": [1, None, True, {"é": "ü"}]}


def config_of(stack: Stack, directory: Path, **changes: Any) -> ImmutableConfig:
    known = ImmutableConfig(
        host=stack.addresses["immudb_host"],
        port=int(stack.addresses["immudb_port"]),
        database="audit",
        password=SecretStr("immudb"),
        state_file=directory / "state.json",
        timeout=10,
    )
    return replace(known, **changes)


@pytest.fixture
async def trail(full_stack: Stack, tmp_path: Path) -> AsyncIterator[AuditTrail]:
    config = config_of(full_stack, tmp_path, database=new_name())
    async with await create_audit_trail(config=config) as made:
        yield made
    drop(full_stack, config.database or "")


async def status_of(trail: AuditTrail, entry_id: str, receipt: AuditReceipt | None = None) -> VerificationStatus:
    return (await trail.verify(entry_id, receipt)).status


async def test_a_record_is_written_once_and_verified(trail: AuditTrail) -> None:
    receipt = await trail.write(entry_id="payment-1", data=PAYMENT)
    assert receipt.tx_id == 1
    assert receipt.timestamp.tzinfo is not None
    await trail.write("payment-2", {"n": 2})
    again = await trail.write("payment-1", dict(reversed(PAYMENT.items())))
    assert again == receipt
    with pytest.raises(ImmudbConflict):
        await trail.write("payment-1", {**PAYMENT, "to": "bob"})
    found = await trail.verify("payment-1", receipt)
    assert (found.status, found.data, found.receipt) == (VerificationStatus.VERIFIED, CANONICAL, receipt)
    assert await status_of(trail, "payment-3") is VerificationStatus.MISSING


async def test_records_that_wait_are_written_together_and_each_has_its_own_answer(trail: AuditTrail) -> None:
    await trail.write("there", {"n": 0})
    asked = [
        *(trail.write(f"new-{number}", {"n": number}) for number in range(50)),
        trail.write("there", {"n": 0}),
        trail.write("there", {"n": 1}),
        trail.write("new-3", {"n": 3}),
        trail.write("new-4", {"n": 5}),
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    receipts = [answer for answer in answers if isinstance(answer, AuditReceipt)]
    assert [receipt.entry_id for receipt in receipts] == [*(f"new-{n}" for n in range(50)), "there", "new-3"]
    assert [isinstance(answer, ImmudbConflict) for answer in answers] == [*[False] * 51, True, False, True]
    assert receipts[-1] == receipts[3]
    assert len({receipt.tx_id for receipt in receipts}) < 20
    for receipt in receipts[::10]:
        assert await status_of(trail, receipt.entry_id, receipt) is VerificationStatus.VERIFIED


async def test_one_who_waits_no_more_leaves_the_others_theirs(trail: AuditTrail) -> None:
    asked = [asyncio.create_task(trail.write(f"new-{number}", {"n": number})) for number in range(5)]
    await asyncio.sleep(0)
    asked[0].cancel()
    asked[2].cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(answer, AuditReceipt) for answer in answers] == [False, True, False, True, True]


async def test_a_receipt_is_verified_offline(trail: AuditTrail) -> None:
    first = await trail.write("payment-1", PAYMENT)
    second = await trail.write("payment-2", PAYMENT)
    part = json.loads(json.dumps((await trail.write("payment-1", PAYMENT)).to_dict()))["immudb"]
    key, value = b"audit/payment-1", canonical_json(PAYMENT)
    shown = evidence.verify(part, key=key, value=value)
    assert (shown.tx, shown.source.tx, shown.target.tx) == (first.tx_id, first.tx_id, second.tx_id)
    for wrong in ({"key": b"audit/payment-2", "value": value}, {"key": key, "value": b"{}"}):
        with pytest.raises(ProofInvalid):
            evidence.verify(part, **wrong)


async def test_a_receipt_in_which_anything_is_changed_is_refused(trail: AuditTrail) -> None:
    for number in range(5):
        await trail.write(f"payment-{number}", PAYMENT)
    part = (await trail.write("payment-1", PAYMENT)).evidence
    key, value = b"audit/payment-1", canonical_json(PAYMENT)
    evidence.verify(part, key=key, value=value)
    taken = []
    for name, forged in forged_json(part):
        try:
            evidence.verify(forged, key=key, value=value)
        except ProofInvalid:
            continue
        taken.append(name)
    # Names for people; the states say by their hashes which database it is.
    names = (".database", ".server_uuid")
    assert set(taken) == {*names, *(f"{name} left out" for name in names)}


def forged_json(value: Any, path: str = "") -> Any:
    """Yield copies of JSON data in each of which one thing is another, or is left out."""
    match value:
        case dict():
            for name, item in value.items():
                yield f"{path}.{name} left out", {key: other for key, other in value.items() if key != name}
                for inner, forged in forged_json(item, f"{path}.{name}"):
                    yield inner, {**value, name: forged}
        case list():
            for number, item in enumerate(value):
                for inner, forged in forged_json(item, f"{path}[{number}]"):
                    yield inner, [*value[:number], forged, *value[number + 1 :]]
            yield f"{path} longer", [*value, value[-1] if value else "AAAA"]
        case str():
            yield path, ("B" if value[:1] == "A" else "A") + value[1:]
        case None:
            yield path, {"terms": [], "inclusions": []}
        case _:
            yield from ((name, forged) for name, forged in forgeries(value, path))


async def test_what_can_not_be_kept_is_refused(trail: AuditTrail) -> None:
    nested: dict[str, Any] = {}
    for _ in range(70):
        nested = {"n": nested}
    wrong: list[Any] = [
        {"a": 0.1},
        {"a": [Decimal("NaN")]},
        {"a": {1: 2}},
        {"a": object()},
        {"a": "\ud800"},
        nested,
        {"a": "x" * 2_000_000},
        ["no mapping"],
    ]
    for data in wrong:
        with pytest.raises(InvalidAuditRecord):
            await trail.write("payment", data)
    for entry_id in ("", "a\nb", "x" * 600, "\ud800"):
        with pytest.raises(InvalidAuditRecord):
            await trail.write(entry_id, {})
    assert await status_of(trail, "payment") is VerificationStatus.MISSING


async def test_what_is_written_over_or_deleted_by_others_is_tampered_with(
    own_immudb: NativeStack, tmp_path: Path
) -> None:
    async with await create_audit_trail(config_of(own_immudb, tmp_path)) as trail:
        receipts = [await trail.write(f"payment-{number}", PAYMENT) for number in range(3)]
        intruder, schema = ImmudbClient(address(own_immudb, "audit")), messages()
        other = schema.KeyValue(key=b"audit/payment-0", value=canonical_json({**PAYMENT, "to": "bob"}))
        intruder._call("Set", schema.SetRequest(KVs=[other]))
        intruder._call("Delete", schema.DeleteKeysRequest(keys=[b"audit/payment-1"]))
        assert await status_of(trail, "payment-0") is VerificationStatus.TAMPERED
        assert await status_of(trail, "payment-1") is VerificationStatus.TAMPERED
        assert await status_of(trail, "payment-0", receipts[0]) is VerificationStatus.TAMPERED
        assert await status_of(trail, "payment-2", receipts[1]) is VerificationStatus.TAMPERED
        assert await status_of(trail, "payment-2", receipts[2]) is VerificationStatus.VERIFIED
        intruder.close()


def files_with(directory: Path, needle: bytes) -> list[Path]:
    return [file for file in directory.rglob("*") if file.is_file() and needle in file.read_bytes()]


async def test_a_bit_that_is_changed_on_disk_is_found(own_immudb: NativeStack, tmp_path: Path) -> None:
    config = config_of(own_immudb, tmp_path)
    async with await create_audit_trail(config) as trail:
        await trail.write("payment-1", {"to": "alice"})
        await trail.write("payment-2", {"to": "carol"})
    own_immudb.stop("immudb")
    (file,) = files_with(own_immudb.directory / "data" / "immudb" / "audit", b"alice")
    file.write_bytes(file.read_bytes().replace(b"alice", b"alicf"))
    own_immudb.start("immudb")
    async with await create_audit_trail(config) as trail:
        assert await status_of(trail, "payment-1") is VerificationStatus.TAMPERED
        assert await status_of(trail, "payment-2") is VerificationStatus.VERIFIED


async def test_a_history_that_was_made_anew_is_found(own_immudb: NativeStack, tmp_path: Path) -> None:
    """An operator with all rights: the same server by its name, with other records, each with its sound proof."""
    config = config_of(own_immudb, tmp_path)
    async with await create_audit_trail(config) as trail:
        receipts = [await trail.write(f"payment-{number}", {"to": "alice"}) for number in range(3)]
    data = own_immudb.directory / "data" / "immudb"
    for forged in range(2, 5):
        own_immudb.stop("immudb")
        for database in ("audit", "defaultdb", "systemdb"):
            shutil.rmtree(data / database)
        own_immudb.start("immudb")
        elsewhere = replace(config, state_file=tmp_path / f"forger-{forged}.json")
        async with await create_audit_trail(elsewhere) as forger:
            for number in range(forged):
                await forger.write(f"payment-{number}", {"to": "mallory"})
            assert await status_of(forger, "payment-1") is VerificationStatus.VERIFIED
        async with await create_audit_trail(config) as trail:
            assert await status_of(trail, "payment-1") is VerificationStatus.TAMPERED
            assert await status_of(trail, "payment-2", receipts[2]) is VerificationStatus.TAMPERED
            assert await status_of(trail, "nothing") is VerificationStatus.TAMPERED


async def test_an_immudb_that_is_down_is_unreachable_and_comes_back(own_immudb: NativeStack, tmp_path: Path) -> None:
    async with await create_audit_trail(config_of(own_immudb, tmp_path, timeout=2)) as trail:
        receipt = await trail.write("payment-1", PAYMENT)
        own_immudb.stop("immudb", kill=True)
        assert await status_of(trail, "payment-1") is VerificationStatus.UNREACHABLE
        with pytest.raises(ImmudbUnavailable):
            await trail.write("payment-2", PAYMENT)
        own_immudb.start("immudb")
        async with asyncio.timeout(30):
            while await status_of(trail, "payment-1", receipt) is VerificationStatus.UNREACHABLE:
                pass
        assert await status_of(trail, "payment-1", receipt) is VerificationStatus.VERIFIED
        assert (await trail.write("payment-2", PAYMENT)).tx_id == 2


async def test_nothing_is_verified_against_a_cut_trusted_state(trail: AuditTrail, tmp_path: Path) -> None:
    await trail.write("payment-1", PAYMENT)
    file = tmp_path / "state.json"
    file.write_text(file.read_text()[:50])
    calls: list[Callable[[], Any]] = [lambda: trail.verify("payment-1"), lambda: trail.write("payment-2", PAYMENT)]
    for call in calls:
        with pytest.raises(TrustedStateInvalid):
            await call()


def test_no_secret_is_shown() -> None:
    assert "hunter2" not in repr(ImmutableConfig(password="hunter2"))
    assert "hunter2" not in repr(ImmutableConfig(password="hunter2").settings())


def environment(full_stack: Stack, directory: Path) -> dict[str, str]:
    return {
        "PARTITA_IMMUDB_HOST": full_stack.addresses["immudb_host"],
        "PARTITA_IMMUDB_PORT": full_stack.addresses["immudb_port"],
        "PARTITA_STATE_DIR": str(directory),
    }


def run(variables: dict[str, str], program: str, given: str = "") -> str:
    """Run a program, and return what it printed."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env={**os.environ, **variables}, input=given, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def typed(variables: dict[str, str], *arguments: str, status: int = 0) -> Any:
    """Run a command, and return the JSON that it printed."""
    done = CliRunner().invoke(app, [*arguments, "--json"], env=variables)
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


def test_the_examples_of_the_page_print_what_they_say(full_stack: Stack, tmp_path: Path) -> None:
    variables = environment(full_stack, tmp_path)
    example, offline, _ = blocks("docs/audit.md", "python")
    printed, _ = blocks("docs/audit.md", "text")
    assert [run(variables, example) for _ in range(2)] == [printed, printed]
    record = f"offline-{uuid4().hex}"
    receipt = typed(variables, "audit", "write", record, '{"a": "1.50"}')
    shown = run(variables, offline, json.dumps([receipt, {"a": "1.50"}]))
    assert shown.startswith(f"written in transaction {receipt['tx_id']}; compare ")


def test_records_and_the_trusted_state_from_the_command_line(full_stack: Stack, tmp_path: Path) -> None:
    variables = environment(full_stack, tmp_path)
    record = f"cli-{uuid4().hex}"
    receipt = typed(variables, "audit", "write", record, '{"a": "1.50"}')
    found = typed(variables, "audit", "verify", record)
    assert (found["status"], found["data"]) == ("verified", {"a": "1.50"})
    assert found["receipt"]["tx_id"] == receipt["tx_id"]
    assert typed(variables, "audit", "verify", "no-such", status=1)["status"] == "missing"
    assert typed(variables, "audit", "write", record, '{"a": "2"}', status=1)["error"] == "ImmudbConflict"
    assert typed(variables, "audit", "write", "x", '{"a": 2.5}', status=1)["error"] == "InvalidAuditRecord"
    state = typed(variables, "immudb", "status")
    file = Path(state["file"])
    assert state["alh"] in file.read_text()
    file.write_text("{")
    assert typed(variables, "audit", "verify", record, status=1)["error"] == "TrustedStateInvalid"
    taken = typed(variables, "immudb", "trust", "--trust-server")
    assert (taken["before"], taken["now"]["origin"]) == (None, "by hand")
    assert typed(variables, "audit", "verify", record)["status"] == "verified"
    nowhere = {**variables, "PARTITA_IMMUDB_PORT": "1"}
    assert typed(nowhere, "audit", "verify", record, status=4)["status"] == "unreachable"
    assert CliRunner().invoke(app, ["immudb", "trust"], env=variables).exit_code == 2
