"""The signatures of an immudb that has a signing key, and the files that keys and certificates come in."""

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from events.merkle import ProofInvalid
from projections.immudb.errors import ImmudbKeyInvalid
from projections.immudb.records import State


def check_signature(signer: EllipticCurvePublicKey, database: str, state: State, signature: bytes) -> None:
    """Check that `signer` has signed a state of a database, as immudb signs it; raises `ProofInvalid`."""
    name = database.encode()
    signed = len(name).to_bytes(4, "big") + name + state.tx.to_bytes(8, "big") + state.alh
    try:
        signer.verify(signature, signed, ECDSA(SHA256()))
    except InvalidSignature:
        raise ProofInvalid(f"the server has not signed transaction {state.tx}") from None


def read_pem(path: Path) -> bytes:
    """Return what is in a PEM file; raises `ImmudbKeyInvalid` when it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImmudbKeyInvalid(f"{path} can't be read: {error.strerror}", path=str(path)) from error


def read_public_key(path: Path) -> EllipticCurvePublicKey:
    """Return the public key in a PEM file; raises `ImmudbKeyInvalid`."""
    try:
        key = load_pem_public_key(read_pem(path))
    except ValueError as error:
        raise ImmudbKeyInvalid(f"{path} has no public key: {error}", path=str(path)) from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise ImmudbKeyInvalid(f"{path} has a public key of another kind: immudb signs with ECDSA", path=str(path))
    return key
