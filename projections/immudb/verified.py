"""A database of immudb of which nothing is believed: every write and every read is proven against the trusted state.

Owns the order of things: the trusted state is held, the server is asked for a proof from there, the proof is
verified, the trusted state moves on. Calls block. What is written stays written when the proof fails: that says that
the server can't be trusted, not that there is nothing.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from events.merkle import ProofInvalid
from projections.immudb.errors import ImmudbConflict, ImmudbTampered, TrustedStateInvalid
from projections.immudb.evidence import Evidence
from projections.immudb.proofs import (
    check_linked,
    entries_root,
    entry_proofs,
    verify_dual_proof,
    verify_entries,
    verify_entry,
)
from projections.immudb.records import DualProof, Entry, EntryProof, TxHeader, entry_of, stored_key, value_hash
from projections.immudb.shown import MOST_ENTRIES, KeyExists, KeyValue, ShownTx
from projections.immudb.signing import check_signature
from projections.immudb.trust import Held, TrustedState, TrustFile

if TYPE_CHECKING:  # its library is not in the plain install
    from projections.immudb.client import ImmudbClient

log = logging.getLogger(__name__)

_MOST_TRIES: Final = 4
_VERSION: Final = 1
"""Of the headers of transactions that we write."""
_MOST_BYTES: Final = 8 * 1024 * 1024
"""Of values in one transaction; immudb takes messages of 32 MiB."""
FIRST_CONTACT: Final = "first contact"
BY_HAND: Final = "by hand"


class Kept(NamedTuple):
    """What became of pairs that were to be kept: how many were written now, how many were there already."""

    written: int
    found: int


class VerifiedDatabase:
    """One database. `signer` is the public key of the server's signatures, when it must sign."""

    def __init__(
        self, client: "ImmudbClient", trust: TrustFile, *, signer: EllipticCurvePublicKey | None = None
    ) -> None:
        self._client = client
        self._trust = trust
        self._signer = signer

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    @property
    def place(self) -> str:
        """Where the database is, for people."""
        return self._client.address.place

    def keep(self, pairs: Sequence[KeyValue]) -> Kept:
        """See to it that each key holds its value: write those that are not there, compare those that are.

        Keys must be different. They go in transactions of `MOST_ENTRIES`, or of fewer when they are large. To keep
        the same again changes nothing.

        Raises:
            ImmudbConflict: a key holds another value. Of what was missing a part may have been written.
            ImmudbTampered: a proof does not hold.
            ImmudbUnavailable, ImmudbRefused, TrustedStateInvalid, TrustedStateBusy: as they say.
        """
        with self._proving() as held:
            kept = [self._keep(held, part) for part in _parts(pairs)]
        return Kept(sum(part.written for part in kept), sum(part.found for part in kept))

    def _keep(self, held: Held, pairs: Sequence[KeyValue]) -> Kept:
        missing, found = list(pairs), 0
        for _ in range(_MOST_TRIES):
            try:
                self._write(held, missing)
            except KeyExists:
                there = self._check_those_there(held, missing)
                found += len(there)
                missing = [pair for pair in missing if pair[0] not in there]
            else:
                return Kept(len(missing), found)
            if not missing:
                return Kept(0, found)
        raise ProofInvalid("it says that keys exist which it does not show")

    def add(self, pairs: Sequence[KeyValue]) -> list[Evidence] | None:
        """Set keys that are not there, all in one transaction, and return the evidence of each, in their order.

        They are different, and `MOST_ENTRIES` at most. None when one of them is there: then nothing was set.
        """
        with self._proving() as held:
            try:
                shown, header = self._write(held, pairs)
            except KeyExists:
                return None
            proofs = entry_proofs([entry_of(key, value) for key, value in pairs], header.version)
            return [
                self._evidence(key, value, header, proof, shown.proof)
                for (key, value), proof in zip(pairs, proofs, strict=True)
            ]

    def get(self, key: bytes) -> Evidence | None:
        """Return a key's value with its evidence; None when there is no such key.

        That there is none can't be proven. It is checked then that the server has the history that we know.
        """
        with self._proving() as held:
            trusted = self._trusted(held)
            shown = self._client.get(key, since=trusted.tx)
            if shown is None:
                self._catch_up(held, trusted)
                return None
            header = self._prove(held, trusted, shown.tx, shown.proof, shown.signature)
            if shown.key != key or shown.is_reference:
                raise ProofInvalid("another key is shown than was asked for")
            verify_entry(header, Entry(stored_key(key), value_hash(shown.value), shown.metadata), shown.inclusion)
            return self._evidence(
                key,
                shown.value,
                header,
                shown.inclusion,
                shown.proof,
                metadata=shown.metadata,
                revision=shown.revision,
            )

    def revisions(self, key: bytes) -> list[int]:
        """Return the transactions that are said to have set the key or deleted it; it is not proven."""
        return self._client.revisions(key)

    def catch_up(self) -> TrustedState:
        """Verify the server's newest state against the trusted one, and return the trusted state as it is then."""
        with self._proving() as held:
            return self._catch_up(held, self._trusted(held))

    def trust_server(self) -> tuple[TrustedState | None, TrustedState]:
        """Take the server's word for its state from now on, whatever the file says; return what was and what is."""
        with self._trust.locked() as held:
            try:
                before = held.read()
            except TrustedStateInvalid:
                before = None
            return before, self._take_word(held, BY_HAND)

    @contextmanager
    def _proving(self) -> Iterator[Held]:
        """Hold the trusted state; a proof that fails says that the server can't be trusted."""
        with self._trust.locked() as held:
            try:
                yield held
            except ProofInvalid as error:
                raise ImmudbTampered(
                    f"immudb at {self.place}: {error.message}", place=self.place, cause=error.message
                ) from error

    def _trusted(self, held: Held) -> TrustedState:
        server_uuid = self._client.connect()
        trusted = held.read()
        if trusted is None:
            return self._take_word(held, FIRST_CONTACT)
        theirs = (trusted.database, trusted.server_uuid)
        if theirs != (self._client.address.database, server_uuid):
            raise TrustedStateInvalid(
                f"the trusted state is of database {theirs[0]} on server {theirs[1]}, not of {self.place} on "
                f"{server_uuid}: is the address right? If the server was replaced, see `partita immudb trust --help`",
                path=str(self._trust.path),
            )
        return trusted

    def _take_word(self, held: Held, origin: str) -> TrustedState:
        server_uuid = self._client.connect()
        taken = TrustedState.taken(self._client.address.database, server_uuid, self._client.state(), origin)
        held.write(taken)
        log.warning("%s: transaction %d of %s is trusted without proof", origin, taken.tx, self.place)
        return taken

    def _write(self, held: Held, pairs: Sequence[KeyValue]) -> tuple[ShownTx, TxHeader]:
        trusted = self._trusted(held)
        written = self._client.set_new(pairs, since=trusted.tx)
        root = entries_root([entry_of(key, value) for key, value in pairs], _VERSION)  # while the server works
        shown = written()
        header = self._prove(held, trusted, shown.header.tx, shown.proof, shown.signature, after=True)
        if shown.header != header:
            raise ProofInvalid(f"transaction {header.tx} is shown with two headers")
        if (header.version, header.entry_count, header.entries_root) != (_VERSION, len(pairs), root):
            raise ProofInvalid(f"transaction {header.tx} has not the entries that were sent")
        return shown, header

    def _check_those_there(self, held: Held, pairs: Sequence[KeyValue]) -> set[bytes]:
        """Return which of the keys are there, each proven to hold its value; raises `ImmudbConflict`."""
        transactions = {found.tx for found in self._client.find([key for key, _ in pairs])}
        wanted = {stored_key(key): (key, value) for key, value in pairs}
        there = set()
        for tx in sorted(transactions):
            for entry in self._entries(held, tx):
                if entry.key not in wanted:
                    continue
                key, value = wanted[entry.key]
                if entry != entry_of(key, value):
                    raise ImmudbConflict(
                        f"immudb at {self.place} holds another value under {key.decode(errors='replace')}",
                        place=self.place,
                        key=key.decode(errors="replace"),
                        tx=tx,
                    )
                there.add(key)
        return there

    def differing(self, pairs: Sequence[KeyValue]) -> dict[bytes, str]:
        """Return the keys that do not hold the value they should, and what is wrong; of the others that is proven.

        Nothing is written. Raises as `get`.
        """
        with self._proving() as held:
            return {key: why for part in _parts(pairs) for key, why in self._differing(held, part)}

    def _differing(self, held: Held, pairs: Sequence[KeyValue]) -> Iterator[tuple[bytes, str]]:
        shown = {found.key: found for found in self._client.find([key for key, _ in pairs])}
        proven = {
            entry.key: entry for tx in {found.tx for found in shown.values()} for entry in self._entries(held, tx)
        }
        for key, value in pairs:
            if key not in shown:
                yield key, "it is not there"
            elif shown[key].value != value:
                yield key, "another value is there"
            elif proven.get(stored_key(key)) != entry_of(key, value):
                yield key, "no transaction has set it to the value that is shown"

    def _entries(self, held: Held, tx: int) -> tuple[Entry, ...]:
        trusted = self._trusted(held)
        shown = self._client.tx(tx, since=trusted.tx)
        header = self._prove(held, trusted, tx, shown.proof, shown.signature)
        verify_entries(header, shown.entries)
        return shown.entries

    def _catch_up(self, held: Held, trusted: TrustedState) -> TrustedState:
        newest = self._client.state()
        if newest.tx == 0 and trusted.tx == 0:
            return trusted
        if newest.tx < trusted.tx:
            raise ProofInvalid(f"it ends at transaction {newest.tx}, and had {trusted.tx}")
        shown = self._client.tx(newest.tx, since=trusted.tx)
        header = self._prove(held, trusted, newest.tx, shown.proof, shown.signature)
        if header.state != newest:
            raise ProofInvalid(f"transaction {newest.tx} is shown in two ways")
        return held.read() or trusted

    def _prove(
        self, held: Held, trusted: TrustedState, tx: int, proof: DualProof, signature: bytes, *, after: bool = False
    ) -> TxHeader:
        """Verify a proof between the trusted state and transaction `tx`, whichever is older; return tx's header."""
        if tx >= trusted.tx:
            header = proof.target
            source = trusted.state if trusted.tx else header.state
            verify_dual_proof(proof, source, header.state)
            check_linked(header)
        else:
            header = proof.source
            verify_dual_proof(proof, header.state, trusted.state)
        if header.tx != tx or (after and tx <= trusted.tx):
            raise ProofInvalid(f"transaction {header.tx} is shown where {tx} was asked for")
        if self._signer is not None:
            check_signature(self._signer, self._client.address.database, proof.target.state, signature)
        held.advance(trusted, proof.target.state)
        return header

    def _evidence(
        self,
        key: bytes,
        value: bytes,
        header: TxHeader,
        inclusion: EntryProof,
        proof: DualProof,
        *,
        metadata: bytes = b"",
        revision: int = 1,
    ) -> Evidence:
        return Evidence(
            database=self._client.address.database,
            server_uuid=self._client.server_uuid,
            key=key,
            value=value,
            metadata=metadata,
            revision=revision,
            header=header,
            inclusion=inclusion,
            proof=proof,
        )


def _parts(pairs: Sequence[KeyValue]) -> Iterator[Sequence[KeyValue]]:
    """Yield `pairs` in parts that go into one transaction each."""
    begin = size = 0
    for number, (_, value) in enumerate(pairs):
        size += len(value)
        if number > begin and (number - begin == MOST_ENTRIES or size > _MOST_BYTES):
            yield pairs[begin:number]
            begin, size = number, len(value)
    if pairs:
        yield pairs[begin:]
