"""`partita run all`: every service in a process of its own, stopped together."""

import json
import os
import signal
from pathlib import Path

from tests.support.services import Ledger, Service, eventually


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


def test_when_one_dies_the_other_is_stopped_and_the_whole_has_failed(ledger: Ledger) -> None:
    service = ledger.service("all", "--json").start()
    ledger.await_handler(service)
    handler, *others = children(service)
    os.kill(handler, signal.SIGKILL)
    assert service.ended() == 1
    assert statuses(service)["handler"] == -signal.SIGKILL
    assert len(others) == 3
    assert not any(Path(f"/proc/{other}").exists() for other in others)


def test_told_to_stop_before_the_services_know_how_it_has_not_failed(ledger: Ledger) -> None:
    service = ledger.service("all").start()
    eventually(lambda: len(children(service)) == 4)
    assert service.stop() == 0
