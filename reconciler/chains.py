"""The chains that Partita knows, and what is to be known of any other: ids, finality, tokens. Pure.

Addresses are lower-case text, 0x and 40 digits. Any chain can be used by configuration: a `Chain` is data.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reconciler.errors import InvalidChain

_ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}", re.ASCII)
_MOST_DECIMALS: Final = 255
_MOST_CONFIRMATIONS: Final = 100_000

NATIVE: Final = "native"
"""Stands for the chain's own asset where a token's address is asked for."""


class Tag(StrEnum):
    """Blocks that a node itself calls settled: `safe` will hardly, `finalized` will never be taken back."""

    SAFE = "safe"
    FINALIZED = "finalized"


Finality = Tag | int
"""What counts as settled: a tag of the node's, or so many blocks on top (0: the newest block counts)."""


def finality(value: object) -> Finality:
    """Return the rule that `value` gives: "finalized", "safe", or a number of confirmations, also as text.

    Raises:
        InvalidChain: it is none.
    """
    if isinstance(value, str) and value in {*Tag}:
        return Tag(value)
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _MOST_CONFIRMATIONS:
        return number
    raise InvalidChain(f"finality is finalized, safe, or a number of confirmations: {value!r}"[:200])


def address(text: object) -> str:
    """Return an address as it is compared, in lower case; raises `InvalidChain`."""
    lowered = text.strip().lower() if isinstance(text, str) else ""
    if not _ADDRESS.fullmatch(lowered):
        raise InvalidChain(f"an address is 0x and 40 hexadecimal digits: {text!r}"[:120])
    return lowered


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that is reconciled: `address` None is the chain's own asset. `asset` is its name in the ledger."""

    asset: str
    address: str | None
    decimals: int

    def __post_init__(self) -> None:
        if not self.asset:
            raise InvalidChain("a token needs the name of its asset in the ledger")
        if not 0 <= self.decimals <= _MOST_DECIMALS:
            raise InvalidChain(f"{self.asset}: 0 to {_MOST_DECIMALS} decimals, not {self.decimals}")
        if self.address is not None:
            object.__setattr__(self, "address", address(self.address))

    @property
    def name(self) -> str:
        """The address, or `native`."""
        return self.address or NATIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain: the name that metadata and settings use, its id (EIP-155), when it settles, and its tokens."""

    name: str
    chain_id: int
    finality: Finality
    native: Token
    tokens: Sequence[Token] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What an entry may call it: its name, its id, and its id as CAIP-2 has it."""
        return self.name, str(self.chain_id), f"eip155:{self.chain_id}"

    @property
    def names_of_entries(self) -> tuple[str, ...]:
        """The same, and no name: an entry that names a transaction and no chain is told of by every chain's."""
        return *self.names, ""

    def token(self, name: str) -> Token | None:
        """Return the token of this address or asset, or the chain's own asset for `native`."""
        lowered = name.strip().lower()
        everything = (self.native, *self.tokens)
        return next((token for token in everything if lowered in {token.name, token.asset.lower()}), None)


def _usdc(contract: str) -> Token:
    return Token(asset="USDC", address=contract, decimals=6)


def _own(asset: str) -> Token:
    return Token(asset=asset, address=None, decimals=18)


KNOWN: Final = (
    Chain(
        name="ethereum",
        chain_id=1,
        finality=Tag.FINALIZED,
        native=_own("ETH"),
        tokens=(_usdc("0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"),),
    ),
    Chain(
        name="base",
        chain_id=8453,
        finality=Tag.FINALIZED,
        native=_own("ETH"),
        tokens=(_usdc("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),),
    ),
    Chain(
        name="arbitrum",
        chain_id=42161,
        finality=Tag.FINALIZED,
        native=_own("ETH"),
        tokens=(_usdc("0xaf88d065e77c8cC2239327C5EDb3A432268e5831"),),
    ),
    Chain(
        name="optimism",
        chain_id=10,
        finality=Tag.FINALIZED,
        native=_own("ETH"),
        tokens=(_usdc("0x0b2C639c533813f4Aa9D7837CAf62653d097Ff85"),),
    ),
    Chain(
        name="polygon",
        chain_id=137,
        finality=Tag.FINALIZED,
        native=_own("POL"),
        tokens=(_usdc("0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359"),),
    ),
    # A node of one's own: every block counts at once, since none may follow. No USDC is there.
    Chain(name="anvil", chain_id=31337, finality=0, native=_own("ETH")),
)
"""Chains known by name. The USDC contracts are those that Circle lists for native USDC, not the bridged USDC.e."""


def known(name: str) -> Chain:
    """Return the known chain of this name or id; raises `InvalidChain`."""
    lowered = name.strip().lower()
    for chain in KNOWN:
        if lowered in chain.names:
            return chain
    listed = ", ".join(chain.name for chain in KNOWN)
    raise InvalidChain(f"{name[:40]!r} is no chain that is known by name ({listed}): describe it as a Chain")
