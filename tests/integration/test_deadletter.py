"""Commands that can't be read, on the real stack: the handler's bound, and an operator's way out."""

import base64
import json
from contextlib import closing
from typing import Any

import pytest
from typer.testing import CliRunner

from commands.deadletter import dead_letter
from events.clients import MAX_MESSAGE_BYTES
from events.follow import Ends, Record, read_between
from partita.cli import app
from partita.cli.output import Exit
from partita.wiring import Wiring
from tests.support.samples import post
from tests.support.services import PARTITIONS, Ledger, Service, eventually

WITHIN = 30.0


class Operator:
    """Somebody at a terminal."""

    def __init__(self, ledger: Ledger) -> None:
        self._environment = ledger.environment()

    def run(self, *arguments: str, status: int = 0, stdin: str | None = None) -> str:
        """Run `partita deadletter`, and return what it printed on stdout."""
        shown = CliRunner().invoke(app, ["deadletter", *arguments], env=self._environment, input=stdin)
        assert shown.exit_code == status, shown.output
        return shown.stdout

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", status=status))

    def letters(self, *arguments: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.json("list", *arguments)["dead_letters"]
        return listed


def _produce(wiring: Wiring, topic: str, *values: bytes, headers: Any = None) -> None:
    producer = wiring.clients.producer()
    for value in values:
        producer.produce(topic, value, b"alice", headers=headers)
    assert producer.flush(10) == 0


def _handler(ledger: Ledger, most: int) -> Service:
    service = ledger.service("handler")
    service.environment["PARTITA_MAX_DEAD_LETTERS"] = str(most)
    return service.start()


def test_from_a_handler_that_stops_to_commands_that_are_handled_once(ledger: Ledger) -> None:
    wiring, operator = ledger.wiring(), Operator(ledger)
    assert operator.json("list", status=Exit.UNAVAILABLE)["error"] == "TopicMissing"
    wiring.ensure_topics()
    junk = [b"junk %d" % number for number in range(6)]
    _produce(wiring, wiring.topics.commands, *junk)

    handler = _handler(ledger, most=5)
    assert handler.ended() == Exit.FAILED
    assert "TooManyDeadLetters" in handler.log_text()
    before = operator.letters()
    assert len(before) < 6, "the group that passes the bound is not consumed"

    handler = _handler(ledger, most=0)
    eventually(lambda: len(operator.letters()) == 6, within=WITHIN, every=0.2)
    letters = operator.letters()
    assert [letter["key"] for letter in letters] == ["alice"] * 6
    assert {letter["reason"] for letter in letters} == {"Undecodable"}
    assert operator.json("list", "--limit", "2") == {"dead_letters": letters[-2:], "matching": 6}
    assert operator.letters("--since", letters[-1]["at"])[-1] == letters[-1]
    assert operator.letters("--since", "2999-01-01T00:00:00Z") == operator.letters("--reason", "Other") == []
    shown = operator.json("show", letters[3]["id"])
    assert base64.b64decode(shown["value_base64"]) == junk[3]
    assert "junk 3" in operator.run("show", letters[3]["id"])
    _requeue_what_stays_dead(operator, letters)
    with closing(ledger.wiring()) as wiring:
        _requeue_what_can_be_read(wiring, operator)
    assert handler.stop() == 0


def _requeue_what_stays_dead(operator: Operator, letters: list[dict[str, Any]]) -> None:
    """It comes back with its count; a second round of all does not double it."""
    ids = [letter["id"] for letter in letters[:2]]
    planned = operator.json("requeue", *ids, "--dry-run")
    assert (planned["selected"], planned["requeued"]) == (2, 0)
    assert "requeued" not in operator.run("requeue", *ids, stdin="n\n", status=Exit.FAILED)
    assert operator.json("requeue", *ids, "--yes")["requeued"] == 2
    eventually(lambda: [found["requeued"] for found in operator.letters()] == [0] * 6 + [1] * 2, within=WITHIN)
    again = operator.json("requeue", "--all", "--yes")
    assert (again["requeued"], again["repeated"]) == (6, 2)
    eventually(lambda: len(operator.letters()) == 14, within=WITHIN, every=0.2)


def _requeue_what_can_be_read(wiring: Wiring, operator: Operator) -> None:
    """Dead letters of a handler that was older than its producers; the one that runs now can read them."""
    commands = [wiring.command_codec.encode(post(command_id=f"c-{number}")) for number in range(3)]
    letter = dead_letter(wiring.topics, Record(1, 7, b"alice", commands[0]), "TooNew", "no such type")
    _produce(wiring, wiring.topics.deadletter, *commands, headers=letter.headers)
    large = dead_letter(wiring.topics, Record(1, 8, b"alice", b"x" * MAX_MESSAGE_BYTES), "TooLarge", "it is")
    _produce(wiring, wiring.topics.deadletter, b"", headers=large.headers)
    for _ in range(2):
        assert operator.json("requeue", "--reason", "TooNew", "--yes")["requeued"] == 3
    (left_out,) = operator.letters("--reason", "TooLarge")
    assert operator.json("requeue", left_out["id"], "--yes", status=Exit.FAILED)["error"] == "ValueLeftOut"
    held = operator.json("requeue", "--reason", "TooLarge", "--yes")
    assert (held["requeued"], held["left_out"]) == (0, 1)
    eventually(lambda: len(_replayed(wiring)) == 6, within=WITHIN, every=0.2)
    assert sorted(_replayed(wiring)) == [False] * 3 + [True] * 3, "requeued twice, applied once"


def _replayed(wiring: Wiring) -> list[bool]:
    """Return of every outcome that was told whether it was told before."""
    topic = wiring.topics.outcomes
    ends = Ends(wiring.clients).stable(topic, range(PARTITIONS), timeout=10)
    batches = read_between(wiring.clients, topic, dict.fromkeys(ends, 0), ends)
    return [wiring.outcome_codec.decode(record.value or b"").replayed for records in batches for record in records]


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "x"],
        ["requeue"],
        ["requeue", "1", "--all"],
        ["requeue", "1", "--reason", "Undecodable"],
        ["requeue", "--all", "--json"],
        ["requeue", *map(str, range(101))],
        ["list", "--since", "yesterday"],
        ["list", "--since", "2026-05-01T12:00:00"],
        ["list", "--limit", "0"],
    ],
    ids=lambda arguments: " ".join(arguments[:4]),
)
def test_wrong_usage_is_told_before_anything_is_asked(arguments: list[str]) -> None:
    shown = CliRunner().invoke(app, ["deadletter", *arguments], env={"PARTITA_KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    assert shown.exit_code == Exit.USAGE, shown.output
