"""What reading a chain and comparing with it can meet, beyond the errors of the log itself."""

from events.errors import LedgerError


class InvalidChain(LedgerError):
    """A chain, a token, an address or a rule of finality is not what it must be."""


class ChainUnavailable(LedgerError):
    """The chain's node does not answer, or not with what was asked, however often it is asked."""

    retriable = True


class WrongChain(LedgerError):
    """The node is one of another chain than the one that was configured."""


class ProvidersDisagree(LedgerError):
    """Two nodes say different things about the same blocks: nothing is concluded from either."""


class ReorganisedTooDeep(LedgerError):
    """None of the blocks that were written down is on the chain any more, as far back as they are kept."""


class TooManyAddresses(LedgerError):
    """More addresses are ours than can be looked for on a chain."""


class AmountNotExact(LedgerError):
    """An amount of the chain can't be written in units of the ledger without rounding, or is too large."""


class ReconciliationConflict(LedgerError):
    """Another process reconciles the same chain: what was found had changed meanwhile, so nothing was written."""

    retriable = True


class DiscrepancyNotFound(LedgerError):
    """No discrepancy has this id."""


class InvalidStatement(LedgerError):
    """What is said of a discrepancy has no reason, or one that is too long."""


class NotACorrection(LedgerError):
    """The batch that is to have put a discrepancy right was not posted."""


class AnchorKeyInvalid(LedgerError):
    """The key that signs anchors is none. What was given is not shown."""
