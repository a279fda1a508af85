"""A ledger and an address of one's own on the real chain, for tests of what agrees and what doesn't."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from partita import LedgerEngine
from partita.reconciliation import ReconciliationEngine
from reconciler.chains import Token
from reconciler.configured import ChainProvider
from reconciler.report import Discrepancy, Report
from tests.reconciler.samples import an_address
from tests.reconciler.worlds import Anvil, called
from tests.support.services import Ledger

CUSTOMER, THIEF = an_address(0xE1), an_address(0xE2)


@dataclass
class Treasury:
    """A token and an address of one's own on the real chain, and a ledger that is to agree with it."""

    anvil: Anvil
    ledger: Ledger
    engine: LedgerEngine
    vault: str = field(default_factory=lambda: f"0x{uuid.uuid4().hex}{0:08x}")
    asset: str = field(default_factory=lambda: f"T{uuid.uuid4().hex[:8].upper()}")
    account: str = field(default_factory=lambda: f"acc-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.token = Token(asset=self.asset, address=self.anvil.deploy(6), decimals=6)
        self.start = self.anvil.head() + 1

    def provider(self, **given: Any) -> ChainProvider:
        fields: dict[str, Any] = {"addresses": [self.vault], "tokens": [self.token], "finality": 0}
        return ChainProvider(**{"chain": "anvil", "rpc_url": self.anvil.url, **fields, **given})

    def arrive(self, whole: int, *, to: str | None = None) -> str:
        return self.anvil.pay(self.token.name, CUSTOMER, to or self.vault, whole * 10**6)

    def signed(self, whole: int) -> str:
        """Return a payment to us that is signed and not sent, by a customer who has the money."""
        payer, signed = self.anvil.signed(self.token.name, called("transfer", self.vault, whole * 10**6))
        self.anvil.call(self.token.name, CUSTOMER, "mint", payer, whole * 10**6)
        return signed

    async def enter(self, tx_hash: str, whole: int | str, entry_type: str = "credit", **given: Any) -> str:
        named = {"chain": "anvil", "transaction_hash": tx_hash, "token": self.token.name, **given}
        asset = named.pop("asset", self.asset)
        entry = await self.engine.create_entry(self.account, whole, entry_type, asset=asset, metadata=named)
        return entry.entry_id

    async def reconcile(self, end: int | None = None, **given: Any) -> Report:
        async with ReconciliationEngine(self.engine, self.provider(**given)) as engine:
            return await engine.reconcile(start_block=self.start, end_block=end)

    def of_ours(self, report: Report) -> dict[str, Discrepancy]:
        """Return the discrepancies by transaction: those of this test's, since others' entries are on this chain."""
        return {
            found.transaction_hash: found
            for found in report.discrepancies
            if found.ledger is None or found.ledger.account_id == self.account
        }

    def settings(self, **given: Any) -> Any:
        token = f"{self.asset}:{self.token.address}:6"
        fields = {
            "evm_rpc_url": SecretStr(self.anvil.url),
            "chain_addresses": (self.vault,),
            "chain_tokens": (token,),
            "chain_finality": "0",
            "chain_start_block": self.start,
        }
        return {**fields, **given}
