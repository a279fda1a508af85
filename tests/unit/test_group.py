"""A group of commands against a partition: what is appended, what is answered again, what becomes a dead letter."""

from typing import Any

import pytest

from commands.codec import Outcome
from commands.decide import TRIED
from commands.errors import IdempotencyConflict, InsufficientFunds, InvalidMetadata, WrongPartition
from commands.records import hold_key
from commands.rejections import from_event
from commands.state import Draft, PartitionState
from commands.types import Command, FreezeAccount, PlaceHold, Policy, SettleHold
from events.account import NEW_ACCOUNT
from events.follow import StoredEvent
from events.log import Outgoing
from events.types import CommandRejected, EntryPosted, HoldPlaced, HoldSettled
from tests.support.samples import (
    CODECS,
    DEBIT,
    NOON,
    TOPICS,
    UNIT,
    an_account,
    decider,
    new_state,
    post,
    record,
    repeats,
    with_amount_bytes,
)


class Partition:
    """The only partition of a ledger, and what was answered there."""

    def __init__(self, policy: Policy | None = None, *, partition: int = 0, partition_count: int = 1) -> None:
        self.state = new_state(partition, partition_count)
        self.decider = decider(policy)
        self.log: list[bytes] = []
        self.dead: list[Outgoing] = []
        self.offset = 0

    def draft(self, *values: Command | bytes | None) -> tuple[Draft, list[Outgoing]]:
        """Decide a group and leave it uncommitted."""
        draft = Draft(self.state, recorded_at=NOON)
        records = [record(value, self.offset + i, self.state.partition) for i, value in enumerate(values)]
        readings = [self.decider.read(record) for record in records]
        return draft, self.decider.decide({draft.partition: draft}, draft, readings).messages

    def take(self, *values: Command | bytes | None) -> list[Outcome]:
        """Decide a group, commit it, and return the outcomes."""
        draft, out = self.draft(*values)
        draft.commit()
        self.offset += len(values)
        assert self.state.position.next_command_offset == self.offset
        self.log += [message.value or b"" for message in out if message.topic == TOPICS.events]
        self.dead += [message for message in out if message.topic == TOPICS.deadletter]
        return [CODECS.outcomes.decode(m.value or b"") for m in out if m.topic == TOPICS.outcomes]


def test_a_command_is_answered_by_one_event_and_its_outcome() -> None:
    ledger = Partition()
    command = post(command_id="c", reply_key="engine-1")
    _, (event, outcome) = ledger.draft(command)
    assert event[:3] == (TOPICS.events, 0, b"alice")
    assert outcome[:3] == (TOPICS.outcomes, None, b"engine-1")
    assert CODECS.outcomes.decode(outcome.value or b"") == Outcome(False, 0, _account_event(event.value))


def test_without_a_reply_key_the_outcome_goes_by_the_command_id() -> None:
    _, (_, outcome) = Partition().draft(post(command_id="c-42"))
    assert outcome.key == b"c-42"


def test_sequences_follow_each_other_and_rejections_have_theirs() -> None:
    ledger = Partition()
    outcomes = ledger.take(post(command_id="1"), post("bob", UNIT, DEBIT), post(command_id="2"))
    assert [outcome.event.sequence for outcome in outcomes] == [1, 2, 3]
    assert [outcome.event.command_offset for outcome in outcomes] == [0, 1, 2]
    assert [type(outcome.event) for outcome in outcomes] == [EntryPosted, CommandRejected, EntryPosted]


def test_commands_of_one_group_see_each_other() -> None:
    first, second, third = Partition().take(
        post(amount=UNIT, command_id="1"),
        post(amount=UNIT, entry_type=DEBIT, command_id="2"),
        post(amount=UNIT, entry_type=DEBIT, command_id="3"),
    )
    assert isinstance(second.event, EntryPosted)
    assert second.event.running_balance == 0
    assert isinstance(third.event, CommandRejected)
    assert isinstance(from_event(third.event), InsufficientFunds)
    assert [getattr(outcome.event, "version", None) for outcome in (first, second, third)] == [1, 2, 2]


@pytest.mark.parametrize("together", [True, False], ids=["one-group", "two-groups"])
def test_a_repeat_is_answered_the_same_and_appends_nothing(together: bool) -> None:
    ledger = Partition()
    command = post(command_id="c", metadata='{"b": 1, "a": 2}')
    repeat = command._replace(reply_key="another", metadata='{"a":2,"b":1}')
    if together:
        first, again = ledger.take(command, repeat)
    else:
        (first,), (again,) = ledger.take(command), ledger.take(repeat)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.event == first.event
    assert len(ledger.log) == 1
    assert ledger.state.account("alice") == an_account(1, {"USD": UNIT})


def test_a_rejection_is_recorded_and_repeated_though_the_funds_are_there_now() -> None:
    ledger = Partition()
    debit = post(amount=UNIT, entry_type=DEBIT, command_id="d")
    (first,) = ledger.take(debit)
    ledger.take(post(amount=5 * UNIT, command_id="c"))
    (again,) = ledger.take(debit)
    assert repeats(again, first)
    assert isinstance(again.event, CommandRejected)
    (new_id,) = ledger.take(debit._replace(command_id="d2"))
    assert isinstance(new_id.event, EntryPosted)


@pytest.mark.parametrize(
    "change", [{"amount": 2 * UNIT}, {"reference": "r"}, {"asset": "EUR"}, {"entry_type": DEBIT}]
)
def test_an_id_used_for_another_payload_is_a_conflict(change: dict[str, Any]) -> None:
    ledger = Partition()
    first, other = ledger.take(post(), post()._replace(**change))
    assert isinstance(first.event, EntryPosted)
    assert isinstance(other.event, CommandRejected)
    error = from_event(other.event)
    assert isinstance(error, IdempotencyConflict)
    assert (error.account_id, error.command_id) == ("alice", "c-1")
    assert ledger.state.account("alice").version == 1


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_conflict_repeated_is_answered_the_same_and_appends_nothing(groups: int) -> None:
    ledger = Partition()
    commands = [post(), post(amount=7), post(amount=7), post()]
    size = len(commands) // groups
    outcomes = [o for i in range(0, len(commands), size) for o in ledger.take(*commands[i : i + size])]
    assert [outcome.replayed for outcome in outcomes] == [False, False, True, True]
    assert outcomes[2].event == outcomes[1].event
    assert outcomes[3].event == outcomes[0].event
    assert len(ledger.log) == 2


def test_each_payload_that_conflicts_has_its_own_answer() -> None:
    ledger = Partition()
    outcomes = ledger.take(post(), post(amount=7), post(amount=8), post(amount=8), post(amount=7))
    assert [outcome.event.sequence for outcome in outcomes] == [1, 2, 3, 3, 2]


def test_a_command_id_is_scoped_by_its_account() -> None:
    outcomes = Partition().take(post("alice"), post("bob"), post("al", command_id="icec-1"))
    assert [outcome.replayed for outcome in outcomes] == [False] * 3


def test_a_conflict_on_a_rejected_id_is_a_conflict_too() -> None:
    ledger = Partition()
    rejection, other = ledger.take(post(entry_type=DEBIT), post(amount=UNIT))
    assert isinstance(rejection.event, CommandRejected)
    assert isinstance(other.event, CommandRejected)
    assert (rejection.event.code, other.event.code) == ("InsufficientFunds", "IdempotencyConflict")


def test_metadata_that_can_not_be_kept_is_rejected_and_the_rejection_repeated() -> None:
    ledger = Partition()
    bad = post(metadata="x" * 1_000_000)
    first, again = ledger.take(bad, bad)
    assert isinstance(first.event, CommandRejected)
    assert isinstance(from_event(first.event), InvalidMetadata)
    assert repeats(again, first)
    assert len(ledger.log[0]) < 1000


def test_metadata_is_recorded_canonical() -> None:
    (outcome,) = Partition().take(post(metadata='{"b":1, "a":{}}'))
    assert isinstance(outcome.event, EntryPosted)
    assert outcome.event.metadata == '{"a":{},"b":1}'


def test_a_command_in_the_wrong_partition_is_rejected_by_name() -> None:
    (outcome,) = Partition(partition=1, partition_count=12).take(post("alice"))
    assert isinstance(outcome.event, CommandRejected)
    error = from_event(outcome.event)
    assert isinstance(error, WrongPartition)
    assert error.details["partition"] == 1
    assert error.details["expected"] != 1


def test_the_assets_scale_is_the_policys() -> None:
    ledger = Partition(Policy(asset_scales={"USD": 2}))
    fine, coarse = ledger.take(post(amount=UNIT // 1000), post(amount=UNIT // 100, command_id="2"))
    assert isinstance(fine.event, CommandRejected)
    assert fine.event.code == "InvalidAmount"
    assert isinstance(coarse.event, EntryPosted)


def test_no_command_is_begun_when_there_are_enough_bytes_dead_letters_counted() -> None:
    ledger = Partition()
    draft = Draft(ledger.state, recorded_at=NOON)
    readings = [ledger.decider.read(record(b"junk" * 250, at)) for at in range(5)]
    out = ledger.decider.decide({0: draft}, draft, readings, most=1500)
    assert (len(out.messages), out.size, draft.next_command_offset) == (2, 2000, 2)


def test_a_dry_run_tells_the_outcome_and_changes_nothing() -> None:
    ledger = Partition()
    (dry,) = ledger.take(post(dry_run=True))
    assert isinstance(dry.event, EntryPosted)
    assert (dry.replayed, dry.event.sequence, dry.event.running_balance, dry.event.version) == (False, TRIED, UNIT, 1)
    assert ledger.log == []
    assert ledger.state.account("alice") is NEW_ACCOUNT
    (first,) = ledger.take(post())
    assert (first.replayed, first.event.sequence) == (False, 1), "the id was not used up"


def test_a_dry_run_is_rejected_as_the_command_would_be() -> None:
    ledger = Partition()
    debit = post(entry_type=DEBIT)
    dry, first = ledger.take(debit._replace(dry_run=True), debit)
    assert isinstance(dry.event, CommandRejected)
    assert dry.event._replace(sequence=1, command_offset=1) == first.event
    assert len(ledger.log) == 1


def test_a_dry_run_of_what_was_answered_tells_that_answer() -> None:
    ledger = Partition()
    first, again, other = ledger.take(post(), post(dry_run=True), post(amount=7, dry_run=True))
    assert repeats(again, first)
    assert isinstance(other.event, CommandRejected)
    assert (other.event.code, other.event.sequence) == ("IdempotencyConflict", TRIED)


def test_a_hold_of_a_group_is_settled_in_the_same_group() -> None:
    ledger = Partition()
    place = PlaceHold("h", None, "alice", UNIT, "USD")
    settle = SettleHold("s", None, "alice", "h")
    _, placed, settled, again = ledger.take(post(), place, settle, settle._replace(command_id="s2"))
    assert isinstance(placed.event, HoldPlaced)
    assert isinstance(settled.event, HoldSettled)
    assert isinstance(again.event, CommandRejected)
    assert (again.event.code, again.event.asset) == ("HoldNotFound", "")
    assert ledger.state.hold(hold_key("alice", "h")) is None


def test_a_hold_whose_group_was_dropped_is_none() -> None:
    ledger = Partition()
    ledger.take(post())
    ledger.draft(PlaceHold("h", None, "alice", UNIT, "USD"))
    (settled,) = ledger.take(SettleHold("s", None, "alice", "h"))
    assert isinstance(settled.event, CommandRejected)
    assert ledger.state.account("alice").held == {}


def test_an_id_used_for_another_type_of_command_is_a_conflict() -> None:
    ledger = Partition()
    _, other = ledger.take(post(), FreezeAccount("c-1", None, "alice"))
    assert isinstance(other.event, CommandRejected)
    assert (other.event.code, other.event.command_type) == ("IdempotencyConflict", "FreezeAccount")


DEAD = {
    "empty": (b"", "Undecodable", "empty value"),
    "none": (None, "Undecodable", "empty value"),
    "text": (b"not avro at all", "Undecodable", "magic byte"),
    "short": (b"\0\0", "Undecodable", "header"),
    "unknown schema": (b"\0\0\0\x13\x88rest", "Undecodable", "no schema with id 5000"),
    "header only": (b"\0\0\0\0\x01", "Undecodable", "PostEntry"),
    "no account": (CODECS.commands.encode(post("")), "InvalidAccountId", "empty"),
    "long account": (CODECS.commands.encode(post("a" * 10_000)), "InvalidAccountId", "10000 characters"),
    "no id": (CODECS.commands.encode(post(command_id="")), "InvalidCommandId", "empty"),
    "long reply key": (CODECS.commands.encode(post(reply_key="r" * 200)), "InvalidCommandId", "reply_key"),
}


@pytest.mark.parametrize(("value", "reason", "says"), DEAD.values(), ids=DEAD.keys())
def test_what_can_not_be_answered_becomes_a_dead_letter_with_its_reason(
    value: bytes | None, reason: str, says: str
) -> None:
    ledger = Partition()
    outcomes = ledger.take(post(command_id="before"), value, post(command_id="after"))
    assert [type(outcome.event) for outcome in outcomes] == [EntryPosted, EntryPosted]
    (letter,) = ledger.dead
    assert (letter.topic, letter.key, letter.value) == (TOPICS.deadletter, b"key", value)
    headers = dict(letter.headers or [])
    assert headers["reason"] == reason.encode()
    assert says in str(headers["message"])
    assert headers["source-topic"] == TOPICS.commands.encode()
    assert (headers["source-partition"], headers["source-offset"]) == (b"0", b"1")
    assert [outcome.event.sequence for outcome in outcomes] == [1, 2]


def test_an_amount_of_a_megabyte_is_rejected_by_name() -> None:
    """Not the end of the handler: Python refuses to write such an integer as text."""
    (outcome,) = Partition().take(with_amount_bytes(post(), b"\x7f" + b"\xff" * 1_000_000))
    assert isinstance(outcome.event, CommandRejected)
    assert outcome.event.code == "InvalidAmount"


def test_a_dropped_draft_leaves_no_trace() -> None:
    ledger = Partition()
    ledger.take(post(command_id="kept"))
    before = _remembered(ledger.state)
    ledger.draft(post(command_id="dropped"), post(command_id="kept", amount=7), b"junk", post("bob"))
    assert _remembered(ledger.state) == before
    (outcome,) = ledger.take(post(command_id="dropped"))
    assert isinstance(outcome.event, EntryPosted)
    assert (outcome.replayed, outcome.event.sequence, outcome.event.version) == (False, 2, 2)


def test_time_never_falls_though_the_clock_does() -> None:
    ledger = Partition()
    ledger.state.position = ledger.state.position._replace(recorded_at=NOON + 5)
    (outcome,) = ledger.take(post())
    assert outcome.event.recorded_at == NOON + 5


def test_replay_of_what_was_appended_is_the_state() -> None:
    ledger = Partition()
    ledger.take(post(), post(amount=7), post("bob", UNIT, DEBIT), post("bob", command_id="2"), b"junk")
    replayed = new_state()
    stored = [StoredEvent(0, i, data, CODECS.events.decode(data)) for i, data in enumerate(ledger.log, 1)]
    replayed.replay(stored)
    for account_id in ("alice", "bob", "nobody"):
        assert replayed.account(account_id) == ledger.state.account(account_id)
    junk_left_no_event = ledger.state.position._replace(next_command_offset=ledger.offset - 1)
    assert replayed.position._replace(event_offset=0) == junk_left_no_event._replace(event_offset=0)
    ledger.state = replayed
    again = ledger.take(post(), post(amount=7), post("bob", UNIT, DEBIT), post("bob", command_id="2"))
    assert all(outcome.replayed for outcome in again)


def _remembered(state: PartitionState) -> tuple[object, ...]:
    return state.position, state.account("alice"), state.account("bob")


def _account_event(data: bytes | None) -> EntryPosted:
    event = CODECS.events.decode(data)
    assert isinstance(event, EntryPosted)
    return event
