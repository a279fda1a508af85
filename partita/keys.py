"""The files of the keys that sign checkpoints: making them, reading them, rotating them.

Two files side by side. The first has secret keys, one a line, and each of them signs; the second, which ends in
`.pub`, has the verifier key of every key that there ever was, so that what was signed long ago can still be verified.
"""

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from events.checkpoint import KeyInvalid, Signer, Verifier
from events.errors import LedgerError

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MOST_BYTES: Final = 64 * 1024


class SigningKeyUnavailable(LedgerError):
    """The file of signing keys is not there, can't be read, or may be read by others; nothing is signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """The keys in `path`; a new one signs as `name`. With `may_make`, a missing file is made when it is needed."""

    path: Path
    name: str
    may_make: bool = False

    def signers(self) -> Sequence[Signer]:
        """Return the keys that sign, the newest first.

        Raises:
            SigningKeyUnavailable: there are none, or others may read them.
            KeyInvalid: a line of the file is no key.
        """
        if self.may_make:
            self.make()
        return self._secret_keys()

    def verifiers(self) -> Sequence[Verifier]:
        """Return every verifier key that there ever was, the newest first; none when there is no file."""
        try:
            lines = self._public_path.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [Verifier.parse(line) for line in reversed(lines) if line.strip()]

    def make(self) -> Verifier:
        """Make the file with a new key, unless there is one, and return the newest key that is there then.

        Raises:
            SigningKeyUnavailable: there can be no file here, or others may read the one that there is.
        """
        if not self.path.exists():
            signer = Signer.generate(self.name)
            with self._writing():
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                temporary = self._written([signer.secret()])
                self._remember(signer.verifier)
                with suppress(FileExistsError):  # another process was quicker: this key was never used
                    os.link(temporary, self.path)
                temporary.unlink()
        return self._secret_keys()[0].verifier

    def rotate(self) -> Verifier:
        """Put a new key before those that are there, which go on signing beside it, and return it."""
        before = [signer.secret() for signer in self.signers()]
        signer = Signer.generate(self.name)
        with self._writing():
            self._remember(signer.verifier)
            self._written([signer.secret(), *before]).replace(self.path)
        return signer.verifier

    def retire(self, key: Verifier) -> None:
        """Let a key sign no more; what it has signed can still be verified.

        Raises:
            KeyInvalid: it is none of those that sign, or the only one.
        """
        signers = self.signers()
        left = [signer.secret() for signer in signers if signer.verifier != key]
        if not left or len(left) == len(signers):
            raise KeyInvalid("it is the only key that signs" if not left else "it is none of the keys that sign")
        with self._writing():
            self._written(left).replace(self.path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            told = f"the signing keys can't be written: {error.strerror}: {self.path}"
            raise SigningKeyUnavailable(told) from error

    @property
    def _public_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.pub")

    def _remember(self, verifier: Verifier) -> None:
        """Append a verifier key. Before it signs: a signature that nobody can verify would be worse."""
        with self._public_path.open("a") as file:
            file.write(f"{verifier}\n")
            file.flush()
            os.fsync(file.fileno())

    def _written(self, secrets: Sequence[str]) -> Path:
        """Return a new file beside ours that only we can read, with these keys in it."""
        number, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        with os.fdopen(number, "w") as file:
            file.write("".join(f"{secret}\n" for secret in secrets))
            file.flush()
            os.fsync(file.fileno())
        return Path(name)

    def _secret_keys(self) -> Sequence[Signer]:
        signers = [Signer.parse(line) for line in self._secret_lines()]
        if not signers:
            raise SigningKeyUnavailable(f"there is no key in {self.path}: `partita keys new` makes one")
        return signers

    def _secret_lines(self) -> Sequence[str]:
        try:
            with self.path.open() as file:
                if os.fstat(file.fileno()).st_mode & _OTHERS:
                    raise SigningKeyUnavailable(f"others than its owner may read {self.path}: chmod 600 it")
                return [line for line in file.read(_MOST_BYTES).splitlines() if line.strip()]
        except OSError as error:
            told = f"the signing key can't be read: {error.strerror}: {self.path}; `partita keys new` makes one"
            raise SigningKeyUnavailable(told) from error
