"""The messages of immudb's protocol as records. Pure: a message is anything with the fields of schema.proto."""

from typing import Any, Final

from events.merkle import ProofInvalid
from projections.immudb.records import DualProof, Entry, EntryProof, LinearAdvanceProof, LinearProof, TxHeader
from projections.immudb.shown import ShownEntry, ShownTx

_MOST_EXTRA: Final = 256
"""Bytes of what a client may add to a transaction."""


def tx_of(shown: Any, entries: tuple[Entry, ...]) -> ShownTx:
    """Return a `VerifiableTx` as a record, with these entries."""
    return ShownTx(
        header=_tx_header(shown.tx.header),
        entries=entries,
        proof=dual_proof(shown.dualProof),
        signature=shown.signature.signature,
    )


def entries_of(message: Any) -> tuple[Entry, ...]:
    """Return the entries of a `Tx` as they are hashed."""
    return tuple(Entry(entry.key, entry.hValue, _entry_metadata(entry)) for entry in message.entries)


def entry_of(shown: Any) -> ShownEntry:
    """Return a `VerifiableEntry` as a record."""
    return ShownEntry(
        tx=shown.entry.tx,
        key=shown.entry.key,
        value=shown.entry.value,
        metadata=_entry_metadata(shown.entry),
        is_reference=shown.entry.HasField("referencedBy"),
        revision=shown.entry.revision,
        inclusion=_entry_proof(shown.inclusionProof),
        proof=dual_proof(shown.verifiableTx.dualProof),
        signature=shown.verifiableTx.signature.signature,
    )


def _entry_proof(message: Any) -> EntryProof:
    """Return an `InclusionProof` message as a record."""
    return EntryProof(leaf=message.leaf, width=message.width, terms=tuple(message.terms))


def dual_proof(message: Any) -> DualProof:
    """Return a `DualProof` message as a record."""
    chain, stretch = message.linearProof, message.LinearAdvanceProof
    return DualProof(
        source=_tx_header(message.sourceTxHeader),
        target=_tx_header(message.targetTxHeader),
        inclusion=tuple(message.inclusionProof),
        consistency=tuple(message.consistencyProof),
        last_alh=message.targetBlTxAlh,
        last_inclusion=tuple(message.lastInclusionProof),
        linear=LinearProof(source_tx=chain.sourceTxId, target_tx=chain.TargetTxId, terms=tuple(chain.terms)),
        advance=_advance(stretch) if message.HasField("LinearAdvanceProof") else None,
    )


def _advance(message: Any) -> LinearAdvanceProof:
    inclusions = tuple(tuple(proof.terms) for proof in message.inclusionProofs)
    return LinearAdvanceProof(terms=tuple(message.linearProofTerms), inclusions=inclusions)


def _tx_header(message: Any) -> TxHeader:
    """Return a `TxHeader` message as a record."""
    return TxHeader(
        tx=message.id,
        prev_alh=message.prevAlh,
        ts=message.ts,
        version=message.version,
        metadata=_tx_metadata(message.metadata),
        entry_count=message.nentries,
        entries_root=message.eH,
        tree_size=message.blTxId,
        tree_root=message.blRoot,
    )


def _tx_metadata(message: Any) -> bytes:
    """Return the metadata of a transaction as immudb hashes it: attributes by number, those that are set."""
    parts = []
    if message.truncatedTxID:
        parts.append(b"\x00" + message.truncatedTxID.to_bytes(8, "big"))
    if len(message.extra) > _MOST_EXTRA:
        raise ProofInvalid("the metadata of a transaction are longer than any can be")
    if message.extra:
        parts.append(b"\x01" + len(message.extra).to_bytes(2, "big") + message.extra)
    return b"".join(parts)


def _entry_metadata(message: Any) -> bytes:
    """Return the metadata of an entry as immudb hashes it: attributes by number, those that are set."""
    metadata = message.metadata
    parts = (
        b"\x00" if metadata.deleted else b"",
        b"\x01" + metadata.expiration.expiresAt.to_bytes(8, "big", signed=True)
        if metadata.HasField("expiration")
        else b"",
        b"\x02" if metadata.nonIndexable else b"",
    )
    return b"".join(parts)
