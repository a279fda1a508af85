"""The evidence for a key's value, as plain JSON that anyone can keep, and verifying it without a server. Pure.

It shows two things: that the entry is in its transaction (`merkle_proof`), and that a later state of the database
continues that transaction (`continuity`). An auditor who keeps that state, or any later one, need not trust who runs
the ledger.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from events.merkle import ProofInvalid
from projections.immudb.proofs import verify_dual_proof, verify_entry
from projections.immudb.records import (
    DualProof,
    Entry,
    EntryProof,
    LinearAdvanceProof,
    LinearProof,
    State,
    TxHeader,
    stored_key,
    value_hash,
)

FORMAT: Final = "partita-immudb-1"
_MOST_TERMS: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A key's value with all that shows it, to whoever knows `proof.target` or `proof.source`.

    `header` is that of the transaction that set it, which is one of the two. `revision` is how many values the key is
    said to have had; it is not proven.
    """

    database: str
    server_uuid: str
    key: bytes
    value: bytes
    metadata: bytes
    revision: int
    header: TxHeader
    inclusion: EntryProof
    proof: DualProof


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What evidence has shown: the transaction that set the key, when (seconds since 1970 UTC), and two states.

    Of the states, the one that is not the transaction's own is that against which it was proven.
    """

    tx: int
    ts: int
    source: State
    target: State


def to_json(evidence: Evidence) -> dict[str, Any]:
    """Return the evidence as JSON-ready data, all bytes in base64."""
    return {**merkle_proof(evidence), "continuity": _of_dual_proof(evidence.proof)}


def merkle_proof(evidence: Evidence) -> dict[str, Any]:
    """Return the part that shows the entry in its transaction; it is the same whenever it is asked for."""
    return {
        "format": FORMAT,
        "database": evidence.database,
        "server_uuid": evidence.server_uuid,
        "tx": evidence.header.tx,
        "alh": _text(evidence.header.alh),
        "key": _text(evidence.key),
        "value_hash": _text(value_hash(evidence.value)),
        "metadata": _text(evidence.metadata),
        "header": _of_header(evidence.header),
        "inclusion_proof": {
            "leaf": evidence.inclusion.leaf,
            "width": evidence.inclusion.width,
            "terms": _texts(evidence.inclusion.terms),
        },
    }


def verify(part: Mapping[str, Any], *, key: bytes, value: bytes) -> Shown:
    """Verify evidence offline, and return what it has shown.

    Hold one of the states against a copy that you trust: evidence by itself shows only that a database, whichever,
    has the entry.

    Raises:
        ProofInvalid: it does not show that `key` has `value`.
    """
    header = verify_merkle_proof(part, key=key, value=value)
    proof: DualProof = _read(_dual_proof, part, "continuity")
    if header not in (proof.source, proof.target):
        raise ProofInvalid("the evidence is of one transaction, and its continuity of others")
    verify_dual_proof(proof, proof.source.state, proof.target.state)
    return Shown(tx=header.tx, ts=header.ts, source=proof.source.state, target=proof.target.state)


def verify_merkle_proof(part: Mapping[str, Any], *, key: bytes, value: bytes) -> TxHeader:
    """Verify that a transaction has set `key` to `value`, and return its header; raises `ProofInvalid`."""
    header: TxHeader = _read(_header, part, "header")
    inclusion: EntryProof = _read(_entry_proof, part, "inclusion_proof")
    told = (part.get("format"), part.get("tx"), part.get("alh"), part.get("key"), part.get("value_hash"))
    if told != (FORMAT, header.tx, _text(header.alh), _text(key), _text(value_hash(value))):
        raise ProofInvalid("the evidence is of something else, or was changed")
    entry = Entry(stored_key(key), value_hash(value), _read(_bytes, part, "metadata"))
    verify_entry(header, entry, inclusion)
    return header


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _texts(items: Sequence[bytes]) -> list[str]:
    return [_text(item) for item in items]


def _of_header(header: TxHeader) -> dict[str, Any]:
    return {
        "tx": header.tx,
        "prev_alh": _text(header.prev_alh),
        "ts": header.ts,
        "version": header.version,
        "metadata": _text(header.metadata),
        "entry_count": header.entry_count,
        "entries_root": _text(header.entries_root),
        "tree_size": header.tree_size,
        "tree_root": _text(header.tree_root),
    }


def _of_dual_proof(proof: DualProof) -> dict[str, Any]:
    advance = proof.advance
    return {
        "source": _of_header(proof.source),
        "target": _of_header(proof.target),
        "inclusion": _texts(proof.inclusion),
        "consistency": _texts(proof.consistency),
        "last_alh": _text(proof.last_alh),
        "last_inclusion": _texts(proof.last_inclusion),
        "linear": {
            "source_tx": proof.linear.source_tx,
            "target_tx": proof.linear.target_tx,
            "terms": _texts(proof.linear.terms),
        },
        "advance": advance
        and {"terms": _texts(advance.terms), "inclusions": [_texts(terms) for terms in advance.inclusions]},
    }


def _read(reader: Any, part: Mapping[str, Any], name: str) -> Any:
    """Return what `reader` makes of a field; raises `ProofInvalid` when the field is not of its form."""
    try:
        return reader(part[name])
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        raise ProofInvalid(f"the evidence has no {name} of the right form", field=name) from None


def _bytes(value: Any) -> bytes:
    return base64.b64decode(value, validate=True)


def _terms(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > _MOST_TERMS:
        raise ValueError
    return tuple(map(_bytes, value))


def _count(value: Any) -> int:
    if type(value) is not int:
        raise ValueError
    return value


def _header(value: Any) -> TxHeader:
    return TxHeader(
        tx=_count(value["tx"]),
        prev_alh=_bytes(value["prev_alh"]),
        ts=_count(value["ts"]),
        version=_count(value["version"]),
        metadata=_bytes(value["metadata"]),
        entry_count=_count(value["entry_count"]),
        entries_root=_bytes(value["entries_root"]),
        tree_size=_count(value["tree_size"]),
        tree_root=_bytes(value["tree_root"]),
    )


def _entry_proof(value: Any) -> EntryProof:
    return EntryProof(leaf=_count(value["leaf"]), width=_count(value["width"]), terms=_terms(value["terms"]))


def _dual_proof(value: Any) -> DualProof:
    linear, advance = value["linear"], value["advance"]
    return DualProof(
        source=_header(value["source"]),
        target=_header(value["target"]),
        inclusion=_terms(value["inclusion"]),
        consistency=_terms(value["consistency"]),
        last_alh=_bytes(value["last_alh"]),
        last_inclusion=_terms(value["last_inclusion"]),
        linear=LinearProof(
            source_tx=_count(linear["source_tx"]),
            target_tx=_count(linear["target_tx"]),
            terms=_terms(linear["terms"]),
        ),
        advance=None if advance is None else _advance(advance),
    )


def _advance(value: Any) -> LinearAdvanceProof:
    if not isinstance(value["inclusions"], list):
        raise TypeError
    inclusions = tuple(_terms(terms) for terms in value["inclusions"])
    return LinearAdvanceProof(terms=_terms(value["terms"]), inclusions=inclusions)
