"""What can go wrong with immudb: it is not there, it refuses, or what it shows does not fit what is known."""

from events.errors import LedgerError


class ImmudbUnavailable(LedgerError):
    """immudb did not answer in time."""

    retriable = True


class ImmudbRefused(LedgerError):
    """immudb answered and said no: the user, the database, or a limit."""


class ImmudbTampered(LedgerError):
    """What immudb shows is not what was written, or does not continue the history that is trusted."""


class ImmudbConflict(LedgerError):
    """The key holds another value already: it can't be written again."""


class ImmudbKeyInvalid(LedgerError):
    """The file that should have the public key of immudb's signatures has none."""


class TrustedStateInvalid(LedgerError):
    """The file of the trusted state is damaged, gone, or of another database: nothing can be verified against it."""


class TrustedStateBusy(LedgerError):
    """Another process held the trusted state for too long."""

    retriable = True


class MirrorBehind(LedgerError):
    """immudb does not hold the wanted event yet: the mirror did not catch up within the wait, or has stopped."""

    retriable = True

    def __init__(
        self, *, partition: int, wanted: int, reached: int | None, waited: float, halted: str | None = None
    ) -> None:
        why = (
            f"it has stopped there: {halted}" if halted else f"waited {waited:.1f} s; does `partita run mirror` run?"
        )
        super().__init__(
            f"the mirror has got to sequence {reached} of partition {partition}, not yet to {wanted}; {why}",
            partition=partition,
            wanted=wanted,
            reached=reached,
            waited=waited,
            halted=halted,
        )
