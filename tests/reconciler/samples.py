"""Transfers and entries for tests, with addresses that are told apart at a glance."""

from typing import Any

from events.money import UNITS_PER_WHOLE
from events.types import EntryType
from reconciler.chains import NATIVE, Token
from reconciler.matching import State, Terms, Transaction
from reconciler.transfers import NATIVE_INDEX, Expectation, Transfer


def an_address(number: int) -> str:
    return f"0x{number:040x}"


def a_hash(number: int) -> str:
    return f"0x{number:064x}"


VAULT, WALLET, STRANGER, OTHER = (an_address(number) for number in (0xA1, 0xA2, 0xB1, 0xB2))
USDC = Token(asset="USDC", address=an_address(0xC1), decimals=6)
DAI = Token(asset="DAI", address=an_address(0xC2), decimals=18)
FINE = Token(asset="FINE", address=an_address(0xC3), decimals=24)
ETH = Token(asset="ETH", address=None, decimals=18)
TOKENS = {token.name: token for token in (USDC, DAI, FINE, ETH)}
TERMS = Terms(tokens=TOKENS, ours=frozenset({VAULT, WALLET}))
TX = a_hash(1)
DONE = Transaction(TX, State.DONE, 7, a_hash(0x77))


def transfer(value: int = 5_000_000, **given: Any) -> Transfer:
    fields: dict[str, Any] = {
        "tx_hash": TX,
        "log_index": 0,
        "block_number": 7,
        "block_hash": a_hash(0x77),
        "token": USDC.name,
        "sender": STRANGER,
        "recipient": VAULT,
        "value": value,
    }
    return Transfer(**{**fields, **given})


def native(value: int = UNITS_PER_WHOLE, **given: Any) -> Transfer:
    return transfer(value, **{"token": NATIVE, "log_index": NATIVE_INDEX, **given})


def entry(number: int = 1, whole: int = 5, **given: Any) -> Expectation:
    fields: dict[str, Any] = {
        "entry_id": f"0-{number}",
        "recorded_at": number,
        "account_id": "alice",
        "entry_type": EntryType.CREDIT,
        "amount": whole * UNITS_PER_WHOLE,
        "asset": "USDC",
        "chain": "anvil",
        "tx_hash": TX,
    }
    return Expectation(**{**fields, **given})
