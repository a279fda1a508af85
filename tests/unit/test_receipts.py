"""Receipts: what they show is verified offline; one in which anything was changed shows nothing."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from events.checkpoint import Checkpoint, KeyInvalid, Signer, origin_of, sign
from events.merkle import root_of
from events.types import BatchEntryPosted, Event
from partita import Receipt, ReceiptInvalid, examine_receipt, verify_receipt
from partita.cli import app
from projections.immudb.evidence import Evidence, to_json
from projections.immudb.mirrored import key_of, value_of
from projections.immudb.records import entry_of
from tests.docs.pages import blocks
from tests.support.immudb_chain import Chain
from tests.support.receipts import grown, receipt_of
from tests.support.samples import CODECS, CREDIT, NOON, SIGNER, UNIT, hold_placed, hold_settled, posted, rejected

KEY = str(SIGNER.verifier)
OF_BATCH = BatchEntryPosted(
    sequence=4,
    writer_epoch=1,
    recorded_at=NOON + 1,
    command_id="b-1",
    command_offset=9,
    payload_hash=b"\x01" * 32,
    account_id="carol",
    version=3,
    batch_id="b-1",
    leg=1,
    legs=2,
    entry_type=CREDIT,
    amount=7,
    asset="EUR",
    running_balance=70,
    held=0,
    reference="payout",
    metadata='{"rate":1.5,"ok":true}',
    effective_at=NOON - 1,
    reserved=False,
    forced=False,
)
EVENTS: Sequence[Event] = [
    posted(sequence=0, amount=125 * UNIT // 10, reference="invoice 7", metadata='{"channel":"web","n":1}'),
    rejected(sequence=1),
    hold_placed(sequence=2),
    hold_settled(sequence=3),
    OF_BATCH,
    posted(sequence=5, account_id="dave"),
    posted(sequence=6, account_id="erin", effective_at=NOON + 5),
]
ENTRIES = [0, 3, 4, 5, 6]


def changed(plain: Any, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Return a receipt with something changed in it."""
    copy: dict[str, Any] = json.loads(json.dumps(plain))
    change(copy)
    return copy


@pytest.mark.parametrize("index", ENTRIES)
def test_an_entry_of_any_kind_is_shown(index: int) -> None:
    text = json.dumps(receipt_of(EVENTS, index).to_dict())
    shown = verify_receipt(text, [KEY])
    assert (shown.entry.entry_id, shown.origin, shown.tree_size) == (f"3-{index}", "partita.test/t/3", 7)
    assert shown.signed_by == SIGNER.verifier
    assert Receipt.parse(text).to_dict() == json.loads(text)


def test_a_receipt_has_these_fields() -> None:
    plain = receipt_of(EVENTS, 0).to_dict()
    assert list(plain) == [
        "entry",
        "leaf",
        "leaf_index",
        "tree_size",
        "root",
        "inclusion_proof",
        "checkpoint",
        "public_key",
    ]
    more = {**plain, "immudb": {"tx_id": 5}, "anchor": {"chain": "base"}}
    assert Receipt.of(more).to_dict() == more


@pytest.mark.parametrize("index", ENTRIES)
def test_no_field_of_the_entry_can_be_changed(index: int) -> None:
    plain = receipt_of(EVENTS, index).to_dict()
    others: list[object] = [None, "other", 0, 1, 2.0, True, {"channel": "web"}, "2026-09-21T14:13:20.000002+00:00"]
    for name, value in plain["entry"].items():
        for other in others:
            if json.dumps(other) != json.dumps(value):
                forged = changed(plain, lambda copy: copy["entry"].update({name: other}))  # noqa: B023  # called at once
                with pytest.raises(ReceiptInvalid):
                    verify_receipt(forged, [KEY])
        with pytest.raises(ReceiptInvalid):
            verify_receipt(changed(plain, lambda copy: copy["entry"].pop(name)), [KEY])  # noqa: B023  # called at once
    with pytest.raises(ReceiptInvalid, match=r"entry\.note"):
        verify_receipt(changed(plain, lambda copy: copy["entry"].update(note="x")), [KEY])


def test_a_number_is_not_its_equal_in_python() -> None:
    plain = receipt_of(EVENTS, 0).to_dict()
    assert plain["entry"]["metadata"]["n"] == 1
    for other in (1.0, True):
        with pytest.raises(ReceiptInvalid, match=r"entry\.metadata"):
            verify_receipt(
                changed(plain, lambda copy: copy["entry"]["metadata"].update(n=other)),  # noqa: B023  # called at once
                [KEY],
            )


@pytest.mark.parametrize("field", ["leaf", "leaf_index", "tree_size", "root", "inclusion_proof", "checkpoint"])
def test_nothing_of_another_receipt_fits(field: str) -> None:
    plain, other = receipt_of(EVENTS, 5).to_dict(), receipt_of(EVENTS[:6], 0).to_dict()
    assert plain[field] != other[field]
    with pytest.raises(ReceiptInvalid):
        verify_receipt({**plain, field: other[field]}, [KEY])


def test_no_bit_of_the_leaf_can_be_flipped() -> None:
    plain = receipt_of(EVENTS, 5).to_dict()
    leaf = base64.b64decode(plain["leaf"])
    for at in range(len(leaf)):
        flipped = leaf[:at] + bytes([leaf[at] ^ 1]) + leaf[at + 1 :]
        with pytest.raises(ReceiptInvalid):
            verify_receipt({**plain, "leaf": base64.b64encode(flipped).decode()}, [KEY])


def test_the_receipts_own_key_is_not_believed() -> None:
    forger = Signer.generate("partita.test/t")
    forged = receipt_of(EVENTS, 0, signer=forger)
    with pytest.raises(ReceiptInvalid, match="none of the keys"):
        verify_receipt(forged, [KEY])
    assert examine_receipt(forged).signed_by is None
    with pytest.raises(KeyInvalid, match="none is given"):
        verify_receipt(forged, [])
    assert verify_receipt(forged, [KEY, str(forger.verifier)]).signed_by == forger.verifier


def test_a_receipt_of_another_partition_is_refused() -> None:
    mine = receipt_of(EVENTS, 0).to_dict()
    with pytest.raises(ReceiptInvalid, match=r"entry\.(entry_id|partition)"):
        verify_receipt({**mine, "checkpoint": receipt_of(EVENTS, 0, partition=4).checkpoint}, [KEY])


@pytest.mark.parametrize("origin", ["partita.test/t", "partita.test/t/03", "partita.test/t/x", "partita.test/t/-3"])
def test_an_origin_that_names_no_partition_is_refused(origin: str) -> None:
    with pytest.raises(ReceiptInvalid, match="origin"):
        verify_receipt(receipt_of(EVENTS, 0, origin=origin), [KEY])


@pytest.mark.parametrize("event", EVENTS[1:3])
def test_what_is_no_entry_is_not_shown_as_one(event: Event) -> None:
    leaf = CODECS.events.encode(event)
    root = root_of(grown([leaf]))
    checkpoint = Checkpoint(origin_of("partita.test/t", 3), 1, root)
    plain = {
        **receipt_of(EVENTS[:1], 0).to_dict(),
        "leaf": base64.b64encode(leaf).decode(),
        "root": base64.b64encode(root).decode(),
        "checkpoint": sign(checkpoint, [SIGNER]),
    }
    with pytest.raises(ReceiptInvalid, match="the leaf is"):
        verify_receipt(plain, [KEY])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "it has no checkpoint"),
        ('{"entry": {}, "entry": {}}', "a name twice"),
        ("[" * 100_000, "it is no receipt"),
    ],
)
def test_what_is_no_receipt_is_refused(text: str, why: str) -> None:
    with pytest.raises(ReceiptInvalid, match=why):
        verify_receipt(text, [KEY])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("entry", []),
        ("leaf", "not base64!"),
        ("leaf", 5),
        ("leaf_index", "0"),
        ("leaf_index", True),
        ("leaf_index", -1),
        ("tree_size", 2**63),
        ("root", "AAAA"),
        ("inclusion_proof", "AAAA"),
        ("inclusion_proof", ["AAAA"]),
        ("inclusion_proof", ["A" * 43 + "="] * 65),
        ("checkpoint", None),
        ("public_key", 1),
        ("immudb", "x"),
        ("anchor", 1),
        ("other", 1),
    ],
)
def test_a_field_of_the_wrong_form_is_named(field: str, value: object) -> None:
    with pytest.raises(ReceiptInvalid) as refused:
        verify_receipt({**receipt_of(EVENTS, 0).to_dict(), field: value}, [KEY])
    assert refused.value.details["field"] == field


def in_immudb(receipt: Receipt, sequence: int) -> dict[str, Any]:
    """Return the evidence of a database that has the receipt's leaf as the event of this sequence."""
    chain, key, value = Chain(), key_of("ledger.events", 3, sequence), value_of(receipt.leaf)
    chain.add([entry_of(b"another", b""), entry_of(key, value)])
    chain.add([entry_of(b"later", b"")])
    found = Evidence(
        database="db",
        server_uuid="server",
        key=key,
        value=value,
        metadata=b"",
        revision=1,
        header=chain.header(1),
        inclusion=chain.entry_proof(1, 1),
        proof=chain.dual_proof(1, 2),
    )
    return to_json(found)


@pytest.mark.parametrize("index", ENTRIES)
def test_evidence_of_the_copy_in_immudb_must_show_the_same_leaf(index: int) -> None:
    receipt = receipt_of(EVENTS, index)
    part = in_immudb(receipt, index)
    shown = verify_receipt(replace(receipt, immudb=part), [KEY])
    assert shown.immudb is not None
    assert (shown.immudb.tx, shown.immudb.target.tx) == (1, 2)
    assert verify_receipt(receipt, [KEY]).immudb is None
    other = receipt_of(EVENTS, next(each for each in ENTRIES if each != index))
    for wrong in ({}, in_immudb(receipt, index + 1), in_immudb(other, index), {**part, "key": "AAAA"}):
        with pytest.raises(ReceiptInvalid) as refused:
            verify_receipt(replace(receipt, immudb=wrong), [KEY])
        assert refused.value.details["field"] == "immudb"
    text = json.dumps(replace(receipt, immudb=part).to_dict())
    told = CliRunner().invoke(app, ["verify-receipt", "-", "--key", KEY], input=text)
    assert (told.exit_code, shown.immudb.target.alh.hex() in told.stdout) == (0, True)


@pytest.mark.parametrize("index", ENTRIES)
def test_the_command_line_verifies(index: int) -> None:
    text = json.dumps(receipt_of(EVENTS, index).to_dict())
    done = CliRunner().invoke(app, ["verify-receipt", "-", "--key", KEY, "--json"], input=text)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["verified"], told["signed_by"], told["log"]) == (True, KEY, "partita.test/t/3")
    assert told["entry"] == json.loads(text)["entry"]
    shown = CliRunner().invoke(app, ["verify-receipt", "-", "--key", KEY], input=text)
    assert f"verified: this entry is event {index} of the 7 of partita.test/t/3" in shown.stdout


def test_without_a_key_the_command_line_says_that_nothing_is_verified() -> None:
    text = json.dumps(receipt_of(EVENTS, 0).to_dict())
    done = CliRunner().invoke(app, ["verify-receipt", "-", "--json"], input=text)
    assert done.exit_code == 6
    assert json.loads(done.stdout)["verified"] is False
    shown = CliRunner().invoke(app, ["verify-receipt", "-"], input=text)
    assert (shown.exit_code, "NOT VERIFIED" in shown.stderr, "verified" in shown.stdout) == (6, True, False)


def test_the_command_line_tells_what_is_wrong() -> None:
    forged = changed(receipt_of(EVENTS, 0).to_dict(), lambda copy: copy["entry"].update(amount="99"))
    done = CliRunner().invoke(app, ["verify-receipt", "-", "--key", KEY, "--json"], input=json.dumps(forged))
    assert done.exit_code == 1
    assert json.loads(done.stdout)["details"] == {"field": "entry.amount"}
    assert CliRunner().invoke(app, ["verify-receipt", "-", "--key", "x"], input="{}").exit_code == 2
    assert CliRunner().invoke(app, ["verify-receipt", "-", "--key", KEY], input=b"\xff").exit_code == 1


@pytest.mark.parametrize("index", ENTRIES)
def test_the_verifier_of_the_documents_agrees(index: int) -> None:
    (program,) = blocks("docs/receipts.md", "python")
    scope: dict[str, Any] = {"__name__": "verifier"}
    exec(compile(program, "docs/receipts.md", "exec"), scope)  # it is ours
    plain = receipt_of(EVENTS, index).to_dict()
    scope["verify"](plain, KEY)
    other = receipt_of(EVENTS, 6 if index == 5 else 5).to_dict()
    for forged in (
        changed(plain, lambda copy: copy["entry"].update(amount="99")),
        changed(plain, lambda copy: copy["entry"].update(account_id="mallory")),
        {**plain, "leaf_index": other["leaf_index"]},
        {**plain, "leaf": other["leaf"]},
        receipt_of(EVENTS, index, signer=Signer.generate("partita.test/t")).to_dict(),
    ):
        with pytest.raises((AssertionError, ValueError)):
            scope["verify"](forged, KEY)
