"""Transfers to us that the ledger lacks, as entries to post. Pure but for the port through which they are posted.

The id of the command is made of the chain's id, the transaction and the log index, so that however often a deposit is
found, and by however many processes, it is posted once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from reconciler import named
from reconciler.chains import Chain, Token
from reconciler.findings import Row
from reconciler.matching import Kind
from reconciler.transfers import to_ledger_units


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """A credit to post; `amount` is in units of the ledger."""

    command_id: str
    account_id: str
    amount: int
    asset: str
    metadata: Mapping[str, Any]


class Ledger(Protocol):
    """Where deposits go to."""

    async def post(self, deposit: Deposit) -> None:
        """Post one entry, once, however often it is asked; raises a `LedgerError` if that can't be."""


def deposit(row: Row, chain: Chain, tokens: Mapping[str, Token], accounts: Mapping[str, str]) -> Deposit | None:
    """Return what to post for a finding; None when it is none of a transfer to an address that has an account.

    Raises:
        AmountNotExact: the ledger can't hold the amount.
    """
    if row.kind != Kind.MISSING_IN_LEDGER or row.recipient is None or row.recipient not in accounts:
        return None
    assert row.token is not None
    assert row.value is not None
    if row.token not in tokens or row.value == 0:
        return None
    token = tokens[row.token]
    index = "native" if row.log_index is None or row.log_index < 0 else row.log_index
    metadata: dict[str, Any] = {
        named.CHAIN: chain.name,
        named.TRANSACTION: row.tx_hash,
        named.TOKEN: row.token,
        named.FROM: row.sender,
        named.TO: row.recipient,
    }
    if index != "native":
        metadata[named.LOG_INDEX] = index
    return Deposit(
        command_id=f"deposit-{chain.chain_id}-{row.tx_hash}-{index}",
        account_id=accounts[row.recipient],
        amount=to_ledger_units(row.value, token.decimals),
        asset=token.asset,
        metadata=metadata,
    )
