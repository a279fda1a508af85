"""`partita run all`: every service in a process of its own, stopped together."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from partita.services import run_together
from partita.settings import Settings
from tests.support.services import Ledger, Service, eventually
from tests.support.stack import Stack


def children(service: Service) -> list[int]:
    assert service.process is not None
    pid = service.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def statuses(service: Service) -> dict[str, int]:
    """Return what it printed on stdout, which is the end of what it wrote."""
    text = service.log_text()
    found: dict[str, int] = json.loads(text[text.rindex("{") :])
    return found


def test_they_serve_and_stop_together(ledger: Ledger) -> None:
    service = ledger.service("all", "--json").start()
    ledger.await_handler(service)
    assert service.stop() == 0
    assert statuses(service) == {"handler": 0, "balances": 0, "snapshots": 0, "proofs": 0}


def test_those_of_a_chain_are_among_them_when_they_are_configured(ledger: Ledger, full_stack: Stack) -> None:
    node = SecretStr(full_stack.addresses["evm_rpc_url"])
    key = SecretStr(f"0x{1:064x}")
    service = ledger.service("all", "--json", evm_rpc_url=node, anchor_key=key).start()
    ledger.await_handler(service)
    eventually(lambda: "beginning after block" in service.log_text())
    assert service.stop() == 0
    names = ["handler", "balances", "snapshots", "proofs", "reconciler", "anchor"]
    assert statuses(service) == dict.fromkeys(names, 0)
    assert "not mirror: PARTITA_IMMUDB_HOST is not set" in service.log_text()


@pytest.mark.parametrize(
    ("given", "left_out"),
    [
        ({}, {"mirror": "PARTITA_IMMUDB_HOST", "reconciler": "PARTITA_EVM_RPC_URL", "anchor": "PARTITA_EVM_RPC_URL"}),
        ({"immudb_host": "127.0.0.1"}, {"reconciler": "PARTITA_EVM_RPC_URL", "anchor": "PARTITA_EVM_RPC_URL"}),
        (
            {"evm_rpc_url": "http://127.0.0.1:1"},
            {"mirror": "PARTITA_IMMUDB_HOST", "anchor": "PARTITA_ANCHOR_KEY_FILE"},
        ),
        ({"evm_rpc_url": "http://127.0.0.1:1", "anchor_key_file": "key"}, {"mirror": "PARTITA_IMMUDB_HOST"}),
    ],
)
def test_what_is_left_out_is_told_with_the_setting_that_it_lacks(
    given: dict[str, Any], left_out: dict[str, str]
) -> None:
    told = run_together(Settings(**given))
    assert {name: lacks for name, lacks in told.items() if lacks is not None} == left_out


def test_when_one_dies_the_other_is_stopped_and_the_whole_has_failed(ledger: Ledger) -> None:
    service = ledger.service("all", "--json").start()
    ledger.await_handler(service)
    handler, *others = children(service)
    os.kill(handler, signal.SIGKILL)
    assert service.ended() == 1
    assert statuses(service)["handler"] == -signal.SIGKILL
    assert len(others) == 3
    assert not any(Path(f"/proc/{other}").exists() for other in others)


def test_without_what_the_ledger_does_not_need_the_others_go_on(ledger: Ledger, full_stack: Stack) -> None:
    node = SecretStr(full_stack.addresses["evm_rpc_url"])
    service = ledger.service("all", "--json", evm_rpc_url=node, chain="base").start()
    ledger.await_handler(service)
    for name in ("reconciler", "anchor"):
        eventually(lambda name=name: f"{name} has ended with status 1; the others go on" in service.log_text())  # type: ignore[misc]  # a default binds it
    assert service.stop() == 1
    ended = {"handler": 0, "balances": 0, "snapshots": 0, "proofs": 0, "reconciler": 1, "anchor": 1}
    assert statuses(service) == ended


def test_told_to_stop_before_the_services_know_how_it_has_not_failed(ledger: Ledger) -> None:
    service = ledger.service("all").start()
    eventually(lambda: len(children(service)) == 4)
    assert service.stop() == 0
