"""Which chain is reconciled, and how: what a user says of it, checked and completed by what is known. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from events.money import NotAnAmount, to_units
from reconciler.chains import NATIVE, Chain, Finality, Token, address, finality, known
from reconciler.errors import InvalidChain
from reconciler.reading import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainProvider:
    """A chain and the nodes to read it by.

    `chain` is a known one's name or id, or a `Chain` of your own. `rpc_url` is a node's address, and may hold a key:
    it is never shown; without it the setting PARTITA_CHAIN_RPC_URL is used. With `other_rpc_urls` nothing is taken
    for true that not all nodes say. `addresses` are ours; without any they are those that entries name as ours.
    `tokens` are reconciled: the chain's own when not given (USDC), `"native"` for the chain's own asset, which costs
    a request for every block. `finality` is "finalized", "safe" or a number of confirmations. `tolerances` say by
    asset how much an amount may be off; nothing when not given. With `proofs` what a node tells of tokens is held
    against the receipts to which its blocks commit: two requests for each block.
    """

    chain: str | Chain
    rpc_url: str | None = field(default=None, repr=False)
    other_rpc_urls: Sequence[str] = field(default=(), repr=False)
    addresses: Sequence[str] = ()
    tokens: Sequence[Token | str] | None = None
    finality: Finality | str | None = None
    tolerances: Mapping[str, Decimal | str] = field(default_factory=dict)
    proofs: bool = False
    limits: Limits = field(default_factory=Limits)

    def described(self) -> Chain:
        """Return the chain; raises `InvalidChain` when it is not known."""
        return self.chain if isinstance(self.chain, Chain) else known(self.chain)

    def rule(self) -> Finality:
        """Return what counts as settled; raises `InvalidChain`."""
        return self.described().finality if self.finality is None else finality(self.finality)

    def chosen_tokens(self) -> list[Token]:
        """Return the tokens that are reconciled; raises `InvalidChain` for a name that is none of the chain's."""
        chain = self.described()
        if self.tokens is None:
            return [*(chain.tokens or (chain.native,))]
        return [token if isinstance(token, Token) else _named(chain, token) for token in self.tokens]

    def ours(self) -> frozenset[str]:
        """Return the addresses; raises `InvalidChain` for what is none."""
        return frozenset(map(address, self.addresses))

    def allowed(self) -> dict[str, int]:
        """Return the tolerances in units of the ledger; raises `InvalidChain` for what is no amount."""
        try:
            units = {asset: to_units(amount) for asset, amount in self.tolerances.items()}
        except NotAnAmount as error:
            raise InvalidChain(f"a tolerance is {error}") from error
        if any(amount < 0 for amount in units.values()):
            raise InvalidChain("a tolerance is 0 or more")
        return units


def _named(chain: Chain, name: str) -> Token:
    found = chain.token(name)
    if found is None:
        listed = ", ".join([NATIVE, *(token.asset for token in chain.tokens)])
        raise InvalidChain(f"{name!r} is no token of {chain.name} that is known ({listed}): describe it as a Token")
    return found


def token(text: str) -> Token | str:
    """Return the token that a setting gives: `USDC`, `native`, or ASSET:address:decimals; raises `InvalidChain`."""
    asset, *rest = text.strip().split(":")
    if not rest:
        return asset
    if len(rest) != 2 or not (rest[1].isascii() and rest[1].isdigit()):  # address and decimals
        raise InvalidChain(f"a token is given as ASSET:address:decimals, or by a name that is known: {text[:80]!r}")
    return Token(asset=asset, address=rest[0], decimals=int(rest[1]))
