"""Checkpoints: signed tree heads, as C2SP's tlog-checkpoint has them, in signed notes with Ed25519 keys. Pure.

https://c2sp.org/tlog-checkpoint and https://c2sp.org/signed-note. A partition is a log of its own, and its `origin`
says which. Keys are texts: a signer's is secret, a verifier's is what auditors hold.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from events.errors import LedgerError

_ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_HASH_BYTES: Final = 4
_ROOT_BYTES: Final = 32
_SECRET: Final = "PRIVATE+KEY+"  # noqa: S105  # how the text of one begins
_SIGNED: Final = "— "
_MOST_DIGITS: Final = 19
_MOST_PARTITION_DIGITS: Final = 9
_MOST_BYTES: Final = 64 * 1024


class CheckpointInvalid(LedgerError):
    """It is no checkpoint, or none that the given key has signed."""


class KeyInvalid(LedgerError):
    """It is no key of the kind that is asked for."""


class Checkpoint(NamedTuple):
    """The head of a tree: the log's name, the number of its leaves, the root. The note signs all three."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def origin_of(ledger_origin: str, partition: int) -> str:
    """Return the name of a partition's log."""
    return f"{ledger_origin}/{partition}"


def partition_of(origin: str, ledger_origin: str | None = None) -> int:
    """Return the partition whose log is called so; of this ledger, when one is given.

    Raises:
        CheckpointInvalid: it is the name of no partition's log, or of another ledger's.
    """
    ledger, _, number = origin.rpartition("/")
    is_number = number.isascii() and number.isdigit() and len(number) <= _MOST_PARTITION_DIGITS
    if not is_number or origin_of(ledger, int(number)) != origin:
        raise CheckpointInvalid(f"its origin does not end with the number of a partition: {origin[:200]}")
    if ledger_origin not in (None, ledger):
        raise CheckpointInvalid(f"it is of the log {origin[:200]}, which is none of {ledger_origin}'s")
    return int(number)


def is_name(name: str) -> bool:
    """Whether a key, or a log, can be called so: text without white space and plus signs."""
    return bool(name) and name.isprintable() and "+" not in name and not any(map(str.isspace, name))


def _key_hash(name: str, key: bytes) -> bytes:
    return sha256(f"{name}\n".encode() + _ED25519 + key).digest()[:_HASH_BYTES]


def _key_parts(text: str, what: str) -> tuple[str, bytes]:
    """Return the name and the key's bytes of `name+hash+key`; the hash is not checked."""
    name, plus, rest = text.strip().partition("+")
    digest, plus, encoded = rest.partition("+")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        data = b""
    if not (plus and is_name(name) and len(data) == 1 + _KEY_BYTES and data[:1] == _ED25519):
        raise KeyInvalid(f"it is no {what} of an Ed25519 key for signed notes")
    if len(digest) != 2 * _HASH_BYTES:
        raise KeyInvalid(f"it is no {what}: its hash has not {2 * _HASH_BYTES} digits")
    return name, data[1:]


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key and the name that it signs under."""

    name: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the verifier of `name+hash+key`; raises `KeyInvalid`."""
        if text.strip().startswith(_SECRET):
            raise KeyInvalid("it is a secret key, and a verifier key is wanted: `partita keys list` prints it")
        name, key = _key_parts(text, "verifier key")
        verifier = cls(name, key)
        if str(verifier) != text.strip():
            raise KeyInvalid("the verifier key's hash is not that of its name and key: it was copied wrong")
        return verifier

    @property
    def key_hash(self) -> bytes:
        """The four bytes that stand before a signature of this key."""
        return _key_hash(self.name, self.key)

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{base64.b64encode(_ED25519 + self.key).decode()}"

    def signed(self, body: str, signature: bytes) -> bool:
        """Whether it has signed `body`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, body.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A secret key and the name that it signs under; never shown."""

    verifier: Verifier
    _key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> Self:
        """Return a new one; raises `KeyInvalid` for a name with white space or a plus sign."""
        if not is_name(name):
            raise KeyInvalid(f"{name[:80]!r} can't name a key: it must have no white space and no plus sign")
        return cls._of(name, Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the signer of `PRIVATE+KEY+name+hash+seed`; raises `KeyInvalid`, which does not show it."""
        if not text.strip().startswith(_SECRET):
            raise KeyInvalid(f"it is no secret key: that begins with {_SECRET}")
        name, seed = _key_parts(text.strip().removeprefix(_SECRET), "secret key")
        signer = cls._of(name, Ed25519PrivateKey.from_private_bytes(seed))
        if signer.secret() != text.strip():
            raise KeyInvalid("the secret key's hash is not that of its name and key: it was copied wrong")
        return signer

    @classmethod
    def _of(cls, name: str, key: Ed25519PrivateKey) -> Self:
        return cls(Verifier(name, key.public_key().public_bytes_raw()), key)

    def secret(self) -> str:
        """Return the secret key as text, for its file."""
        seed = base64.b64encode(_ED25519 + self._key.private_bytes_raw()).decode()
        return f"{_SECRET}{self.verifier.name}+{self.verifier.key_hash.hex()}+{seed}"

    def sign(self, body: str) -> str:
        """Return the signature line of a note of this text."""
        signature = self.verifier.key_hash + self._key.sign(body.encode())
        return f"{_SIGNED}{self.verifier.name} {base64.b64encode(signature).decode()}\n"


def sign(checkpoint: Checkpoint, signers: Sequence[Signer]) -> str:
    """Return the signed note of a checkpoint, with a signature of each signer."""
    body = checkpoint.body
    return f"{body}\n{''.join(signer.sign(body) for signer in signers)}"


def read(note: str) -> Checkpoint:
    """Return what a note says, whoever signed it; raises `CheckpointInvalid`. Lines after the root are not read."""
    body, _ = _divided(note)
    origin, size, root, *_ = [*body.split("\n"), "", ""]
    try:
        decoded = base64.b64decode(root, validate=True)
    except (ValueError, binascii.Error):
        decoded = b""
    if not (origin and _is_count(size) and len(decoded) == _ROOT_BYTES):
        raise CheckpointInvalid("it is no checkpoint: an origin, a size and a root of 32 bytes are its first lines")
    return Checkpoint(origin, int(size), decoded)


def verify(note: str, verifiers: Sequence[Verifier]) -> tuple[Checkpoint, Verifier]:
    """Return what a note says, and the first of `verifiers` whose signature it has.

    Raises:
        CheckpointInvalid: it is no checkpoint, no key has signed it, or a signature of one of them is wrong.
    """
    checkpoint = read(note)
    body, lines = _divided(note)
    signatures = [_signature(line) for line in lines]
    for verifier in verifiers:
        for name, data in signatures:
            if name == verifier.name and data[:_HASH_BYTES] == verifier.key_hash:
                if not verifier.signed(body, data[_HASH_BYTES:]):
                    raise CheckpointInvalid(f"the signature of {name} is not one of this checkpoint", name=name)
                return checkpoint, verifier
    known = ", ".join(verifier.name for verifier in verifiers)
    raise CheckpointInvalid(f"none of the keys has signed it: {known or 'none is given'}")


def _divided(note: str) -> tuple[str, list[str]]:
    """Return the signed text of a note, its last newline included, and the signature lines."""
    body, blank, signatures = note.rpartition("\n\n")
    if not blank or not signatures.endswith("\n") or len(note) > _MOST_BYTES:
        raise CheckpointInvalid("it is no signed note: a text, an empty line, and signature lines")
    return f"{body}\n", signatures.removesuffix("\n").split("\n")


def _signature(line: str) -> tuple[str, bytes]:
    name, space, encoded = line.removeprefix(_SIGNED).partition(" ")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        data = b""
    if not (line.startswith(_SIGNED) and space and is_name(name) and len(data) > _HASH_BYTES):
        raise CheckpointInvalid("a line of the note is no signature")
    return name, data


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and (text == "0" or text[0] != "0")
