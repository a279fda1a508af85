"""A real chain of many transfers, made quickly: a node of the benchmark's own, and a contract that tells of many."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from partita.stack import anvil
from reconciler.chains import Token

BLOCK_GAS: Final = 100_000
"""Of a block, and of each transaction: so there is one in each block, however many wait."""
_AT_ONCE: Final = 250
_SOURCE: Final = Path(__file__).parent / "pour.vy"
_LIMIT_S: Final = 120.0


@contextmanager
def own_anvil(cache: Path) -> Iterator[str]:
    """Run an EVM node that keeps nothing, which makes blocks fast, and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    argv = [str(anvil.program(cache)), "--silent", "--port", str(port), "--chain-id", str(anvil.CHAIN_ID)]
    with subprocess.Popen(argv) as node:  # noqa: S603  # the stack's own program
        try:
            _await(url)
            yield url
        finally:
            node.terminate()


def _await(url: str) -> None:
    until = time.monotonic() + _LIMIT_S
    while True:
        try:
            _ask(url, ("eth_chainId",))
        except OSError:
            assert time.monotonic() < until, "the node does not answer"
            time.sleep(0.05)
        else:
            return


@dataclass(frozen=True, slots=True)
class Poured:
    """Blocks `first` to `last`, each with one transaction that has `per_block` transfers of `token` to `recipient`.

    The transfers have the values `base`, `base` + 1, and so on.
    """

    token: Token
    sender: str
    first: int
    last: int


def pour(url: str, recipient: str, *, blocks: int, per_block: int, base: int) -> Poured:
    """Make the transfers, and put the node's settings back."""
    sender = str(_ask(url, ("eth_accounts",))[0][0])
    code, method = _compiled()
    deployed = {"from": sender, "data": f"{code}{6:064x}", "gas": hex(3_000_000)}
    token = _receipt(url, str(_ask(url, ("eth_sendTransaction", deployed))[0]))["contractAddress"]
    newest = _ask(url, ("eth_getBlockByNumber", "latest", False))[0]
    nonce, first = int(_ask(url, ("eth_getTransactionCount", sender, "latest"))[0], 16), int(newest["number"], 16) + 1
    _ask(url, ("evm_setAutomine", False))
    _ask(url, ("evm_setBlockGasLimit", hex(BLOCK_GAS)))
    try:
        for at in range(0, blocks, _AT_ONCE):
            numbers = range(at, min(at + _AT_ONCE, blocks))
            data = [f"{method}{int(recipient, 16):064x}{base + n * per_block:064x}{per_block:064x}" for n in numbers]
            sent = [
                {"from": sender, "to": token, "nonce": hex(nonce + n), "gas": hex(BLOCK_GAS), "data": words}
                for n, words in zip(numbers, data, strict=True)
            ]
            _ask(url, *(("eth_sendTransaction", one) for one in sent))
            _ask(url, ("anvil_mine", hex(len(sent))))
    finally:
        _ask(url, ("evm_setBlockGasLimit", newest["gasLimit"]))
        _ask(url, ("evm_setAutomine", True))
    return Poured(Token(asset="USDC", address=token, decimals=6), sender.lower(), first, first + blocks - 1)


def _compiled() -> tuple[str, str]:
    argv = [sys.executable, "-m", "vyper.cli.vyper_compile", "-f", "bytecode,method_identifiers", str(_SOURCE)]
    code, methods = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()  # noqa: S603
    return code, next(value for name, value in json.loads(methods).items() if name.startswith("pour("))


def _receipt(url: str, tx_hash: str) -> Any:
    until = time.monotonic() + _LIMIT_S
    while (found := _ask(url, ("eth_getTransactionReceipt", tx_hash))[0]) is None:
        assert time.monotonic() < until, f"{tx_hash} is in no block"
        time.sleep(0.01)
    return found


def _ask(url: str, *calls: tuple[Any, ...]) -> list[Any]:
    asked = [
        {"jsonrpc": "2.0", "id": at, "method": call[0], "params": list(call[1:])} for at, call in enumerate(calls)
    ]
    request = urllib.request.Request(url, json.dumps(asked).encode(), {"Content-Type": "application/json"})  # noqa: S310  # http, the stack's
    with urllib.request.urlopen(request, timeout=_LIMIT_S) as response:  # noqa: S310  # as above
        answers = sorted(json.loads(response.read()), key=lambda answer: int(answer["id"]))
    refused = [answer["error"] for answer in answers if "error" in answer]
    assert not refused, refused[0]
    return [answer["result"] for answer in answers]
