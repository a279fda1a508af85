"""Receipts: what shows that an entry is in the log, and the verifying of one, offline. Pure.

A receipt has the event's bytes, the way from them to the root of its partition's tree, and that root signed. Who
holds one and a verifier key needs nothing and nobody else: no Kafka, no registry, no PostgreSQL, no network. How it
is read and verified, for those who write a verifier of their own, is in docs/receipts.md.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from commands.validation import check_account_id, check_asset
from events.checkpoint import CheckpointInvalid, KeyInvalid, Verifier, partition_of
from events.checkpoint import verify as verify_note
from events.codec import HEADER, RecordCodec, Undecodable, schema_id_of
from events.errors import LedgerError
from events.longs import Malformed
from events.merkle import ProofInvalid, leaf_hash, verify_inclusion
from events.money import MAX_UNITS
from events.types import BatchEntryPosted, Entry, EntryPosted, HoldSettled
from partita.results import LedgerEntry, entry_at
from projections.immudb.evidence import Shown
from projections.immudb.mirrored import verify_receipt_part

_NOT_OF_THE_EVENT: Final = frozenset({"replayed", "dry_run", "tree_size", "merkle_root"})
"""Fields of an entry that tell of how it was asked for, and not what is in the log."""
_FIELDS: Final = frozenset(
    {"entry", "leaf", "leaf_index", "tree_size", "root", "inclusion_proof", "checkpoint", "public_key"}
)
_EVIDENCE: Final = frozenset({"immudb", "anchor"})
_MOST_CHARACTERS: Final = 8 * 1024 * 1024
_LONGEST_PROOF: Final = 64
_HASH_BYTES: Final = 32
_CODECS: Final[Mapping[type[Any], RecordCodec[Any]]] = {
    kind: RecordCodec(kind.__name__, kind, 0) for kind in (EntryPosted, HoldSettled, BatchEntryPosted)
}


class ReceiptInvalid(LedgerError):
    """It is no receipt, or it does not show what it claims to: something was changed, or it is of another log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A receipt as it is handed out; nothing of it is to be believed before it is verified.

    `immudb` and `anchor` are further evidence, each of its own form. `verify_receipt` does not look at `anchor`.
    """

    entry: Mapping[str, Any]
    leaf: bytes
    leaf_index: int
    tree_size: int
    root: bytes
    inclusion_proof: Sequence[bytes]
    checkpoint: str
    public_key: str
    immudb: Mapping[str, Any] | None = None
    anchor: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the receipt of a JSON document; raises `ReceiptInvalid`."""
        if len(text) > _MOST_CHARACTERS:
            raise ReceiptInvalid(f"it is no receipt: it is longer than {_MOST_CHARACTERS:,} characters")
        try:
            found = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise ReceiptInvalid(f"it is no receipt: not JSON: {error}"[:200]) from error
        return cls.of(found)

    @classmethod
    def of(cls, found: object) -> Self:
        """Return the receipt of what is read from JSON; raises `ReceiptInvalid`."""
        if not isinstance(found, Mapping):
            raise ReceiptInvalid("it is no receipt: not a JSON object")
        if missing := sorted(_FIELDS - found.keys()):
            raise ReceiptInvalid(f"it is no receipt: it has no {missing[0]}", field=missing[0])
        if unknown := sorted(map(str, found.keys() - _FIELDS - _EVIDENCE)):
            raise ReceiptInvalid(f"a receipt has no field {unknown[0][:80]!r}", field=unknown[0][:80])
        proof = found["inclusion_proof"]
        if not isinstance(proof, list | tuple) or len(proof) > _LONGEST_PROOF:
            raise _wrong("inclusion_proof", f"a list of {_LONGEST_PROOF} hashes at most")
        return cls(
            entry=_object(found, "entry"),
            inclusion_proof=tuple(_bytes("inclusion_proof", item, _HASH_BYTES) for item in proof),
            leaf=_bytes("leaf", found["leaf"]),
            root=_bytes("root", found["root"], _HASH_BYTES),
            leaf_index=_count(found, "leaf_index"),
            tree_size=_count(found, "tree_size"),
            checkpoint=_text(found, "checkpoint"),
            public_key=_text(found, "public_key"),
            immudb=_evidence(found, "immudb"),
            anchor=_evidence(found, "anchor"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as JSON-ready data: bytes as base64; evidence that there is not is left out."""
        shown: dict[str, Any] = {
            "entry": dict(self.entry),
            "leaf": _base64(self.leaf),
            "leaf_index": self.leaf_index,
            "tree_size": self.tree_size,
            "root": _base64(self.root),
            "inclusion_proof": [_base64(item) for item in self.inclusion_proof],
            "checkpoint": self.checkpoint,
            "public_key": self.public_key,
        }
        evidence = {"immudb": self.immudb, "anchor": self.anchor}
        return shown | {name: dict(value) for name, value in evidence.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEntry:
    """What a receipt shows: the entry, in which log, and by whose key; None when no key was given to hold it against.

    `origin` names the log, which is one partition of a ledger. `immudb` is what the evidence of the copy in immudb
    shows, if there is any: in which transaction it is, and the states of immudb between which that was proven. To
    whom none of these states is known, it shows only that some database has the entry.
    """

    entry: LedgerEntry
    origin: str
    tree_size: int
    signed_by: Verifier | None
    immudb: Shown | None = None


def entry_shown(entry: LedgerEntry) -> dict[str, Any]:
    """Return the `entry` of a receipt: what the event says and where it is, and nothing else."""
    return {name: value for name, value in entry.to_dict().items() if name not in _NOT_OF_THE_EVENT}


def verify_receipt(receipt: Receipt | Mapping[str, Any] | str, verifiers: Sequence[Verifier | str]) -> ShownEntry:
    """Return the entry that a receipt shows to be in the log that one of `verifiers` has signed.

    `receipt` may be its JSON, as text or read already. `verifiers` are keys that the caller has from elsewhere: the
    one in the receipt proves nothing, and is not looked at.

    Raises:
        ReceiptInvalid: it does not show that.
        KeyInvalid: no verifier is given, or one is no verifier key.
    """
    keys = [each if isinstance(each, Verifier) else Verifier.parse(each) for each in verifiers]
    if not keys:
        raise KeyInvalid("a receipt is verified against a verifier key that you know, and none is given", given=0)
    return _verified(_read(receipt), keys)


def examine_receipt(receipt: Receipt | Mapping[str, Any] | str) -> ShownEntry:
    """Return the entry of a receipt that agrees with itself, which whoever made it up can see to as well.

    Raises:
        ReceiptInvalid: it does not even agree with itself, its own key and signature included.
    """
    read = _read(receipt)
    try:
        own = Verifier.parse(read.public_key)
    except KeyInvalid as error:
        raise ReceiptInvalid(f"public_key: {error.message}", field="public_key") from error
    shown = _verified(read, [own])
    return replace(shown, signed_by=None)


def _read(receipt: Receipt | Mapping[str, Any] | str) -> Receipt:
    match receipt:
        case Receipt():
            return receipt
        case str():
            return Receipt.parse(receipt)
        case _:
            return Receipt.of(receipt)


def _verified(receipt: Receipt, keys: Sequence[Verifier]) -> ShownEntry:
    """Return what is shown: the leaf is the entry, the tree has the leaf, and a key has signed the tree."""
    try:
        checkpoint, signed_by = verify_note(receipt.checkpoint, keys)
        if (checkpoint.size, checkpoint.root) != (receipt.tree_size, receipt.root):
            raise ReceiptInvalid("the checkpoint is of another tree than tree_size and root", field="checkpoint")
        leaf = leaf_hash(receipt.leaf)
        verify_inclusion(leaf, receipt.leaf_index, checkpoint.size, receipt.inclusion_proof, checkpoint.root)
        partition = partition_of(checkpoint.origin)
    except (CheckpointInvalid, ProofInvalid) as error:
        raise ReceiptInvalid(error.message, **error.details) from error
    entry = _entry_in(receipt, partition)
    return ShownEntry(
        entry=entry,
        origin=checkpoint.origin,
        tree_size=checkpoint.size,
        signed_by=signed_by,
        immudb=_mirrored(receipt, entry),
    )


def _mirrored(receipt: Receipt, entry: LedgerEntry) -> Shown | None:
    """Return what the evidence of the copy in immudb shows of the same leaf; None when there is no evidence."""
    if receipt.immudb is None:
        return None
    try:
        return verify_receipt_part(
            receipt.immudb, partition=entry.partition, sequence=entry.sequence, event=receipt.leaf
        )
    except ProofInvalid as error:
        raise ReceiptInvalid(f"immudb: {error.message}", field="immudb") from error


def _entry_in(receipt: Receipt, partition: int) -> LedgerEntry:
    """Return the entry that the leaf is; the receipt's must be the same, field by field."""
    event = entry_event(receipt.leaf, _kind(receipt.entry))
    if event.sequence != receipt.leaf_index:
        raise ReceiptInvalid(f"the leaf is event {event.sequence}, not {receipt.leaf_index}", field="leaf_index")
    try:
        entry = entry_at(partition, event)
    except (OverflowError, ValueError, RecursionError) as error:
        raise ReceiptInvalid(f"the leaf is no entry: {error}"[:200], field="leaf") from error
    shown = entry_shown(entry)
    for name in sorted(shown.keys() | receipt.entry.keys()):
        if name not in receipt.entry or name not in shown or not _same(shown[name], receipt.entry[name]):
            raise ReceiptInvalid(f"entry.{name[:80]} is not what the leaf says", field=f"entry.{name[:80]}")
    return entry


def _kind(entry: Mapping[str, Any]) -> type[Any]:
    """Return the type of event that an entry is shown as. The leaf's schema id says it to those with its registry."""
    if entry.get("batch_id") is not None:
        return BatchEntryPosted
    return EntryPosted if entry.get("hold_id") is None else HoldSettled


def entry_event(leaf: bytes, kind: type[Any]) -> Entry:
    """Return the event in a leaf, of this type; raises `ReceiptInvalid`.

    A leaf of another type might be read as this one without an error; its amounts and names would not be any.
    """
    try:
        schema_id_of(leaf)
        event: Entry = _CODECS[kind].read_body(leaf, HEADER.size)
    except (Undecodable, Malformed) as error:
        raise ReceiptInvalid(f"the leaf is no {kind.__name__}: {error}"[:200], field="leaf") from error
    is_amount = 0 < event.amount <= MAX_UNITS and abs(event.running_balance) <= MAX_UNITS
    if not is_amount or check_asset(event.asset) or check_account_id(event.account_id):
        raise ReceiptInvalid(f"the leaf is no {kind.__name__}", field="leaf")
    return event


def _same(one: object, other: object) -> bool:
    """Whether both are the same JSON; in Python, 1 equals 1.0 and True."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object that has each name once: of two, people may see the one and programs the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _wrong(field: str, wanted: str) -> ReceiptInvalid:
    return ReceiptInvalid(f"{field} must be {wanted}", field=field)


def _object(found: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = found[field]
    if not isinstance(value, Mapping):
        raise _wrong(field, "an object")
    return value


def _evidence(found: Mapping[str, Any], field: str) -> Mapping[str, Any] | None:
    return None if found.get(field) is None else _object(found, field)


def _count(found: Mapping[str, Any], field: str) -> int:
    value = found[field]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise _wrong(field, "a whole number")
    return value


def _text(found: Mapping[str, Any], field: str) -> str:
    value = found[field]
    if not isinstance(value, str):
        raise _wrong(field, "text")
    return value


def _bytes(field: str, value: object, length: int | None = None) -> bytes:
    try:
        data = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except (ValueError, binascii.Error):
        data = None
    if data is None or (length is not None and len(data) != length):
        raise _wrong(field, "base64" if length is None else f"base64 of {length} bytes")
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
