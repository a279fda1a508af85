"""A group of commands against a partition: what is appended, what is answered again, what becomes a dead letter."""

from typing import Any

import pytest

from commands.codec import Outcome
from commands.errors import IdempotencyConflict, InsufficientFunds, InvalidMetadata, WrongPartition, from_event
from commands.state import Draft, PartitionState
from commands.types import Policy, PostEntry
from events.account import Account
from events.follow import StoredEvent
from events.log import Outgoing
from events.types import CommandRejected, EntryPosted, PartitionOpened
from tests.support.samples import CODECS, DEBIT, NOON, TOPICS, UNIT, decider, post, record, with_amount_bytes


class Partition:
    """The only partition of a ledger, and what was answered there."""

    def __init__(self, policy: Policy | None = None, *, partition: int = 0, partition_count: int = 1) -> None:
        self.state = PartitionState(partition)
        self.state.open(PartitionOpened(0, 1, NOON, partition, partition_count))
        self.decider = decider(policy)
        self.log: list[bytes] = []
        self.dead: list[Outgoing] = []
        self.offset = 0

    def draft(self, *values: PostEntry | bytes | None) -> tuple[Draft, list[Outgoing]]:
        """Decide a group and leave it uncommitted."""
        draft = Draft(self.state, recorded_at=NOON)
        records = [record(value, self.offset + i, self.state.partition) for i, value in enumerate(values)]
        return draft, self.decider.decide(draft, [self.decider.read(record) for record in records])

    def take(self, *values: PostEntry | bytes | None) -> list[Outcome]:
        """Decide a group, commit it, and return the outcomes."""
        draft, out = self.draft(*values)
        draft.commit()
        self.offset += len(values)
        assert self.state.next_command_offset == self.offset
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
    assert (first.event.version, second.event.version, third.event.version) == (1, 2, 2)


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
    assert ledger.state.account("alice") == Account(1, {"USD": UNIT})


def test_a_rejection_is_recorded_and_repeated_though_the_funds_are_there_now() -> None:
    ledger = Partition()
    debit = post(amount=UNIT, entry_type=DEBIT, command_id="d")
    (first,) = ledger.take(debit)
    ledger.take(post(amount=5 * UNIT, command_id="c"))
    (again,) = ledger.take(debit)
    assert again == first._replace(replayed=True)
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
    assert again == first._replace(replayed=True)
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
    assert (outcome.replayed, outcome.event.sequence, outcome.event.version) == (False, 2, 2)


def test_time_never_falls_though_the_clock_does() -> None:
    ledger = Partition()
    ledger.state.recorded_at = NOON + 5
    (outcome,) = ledger.take(post())
    assert outcome.event.recorded_at == NOON + 5


def test_replay_of_what_was_appended_is_the_state() -> None:
    ledger = Partition()
    ledger.take(post(), post(amount=7), post("bob", UNIT, DEBIT), post("bob", command_id="2"), b"junk")
    replayed = PartitionState(0)
    replayed.open(PartitionOpened(0, 1, NOON, 0, 1))
    for offset, data in enumerate(ledger.log):
        replayed.replay(StoredEvent(0, offset, data, CODECS.events.decode(data)))
    for account_id in ("alice", "bob", "nobody"):
        assert replayed.account(account_id) == ledger.state.account(account_id)
    assert replayed.next_sequence == ledger.state.next_sequence
    assert replayed.recorded_at == ledger.state.recorded_at
    assert replayed.next_command_offset == ledger.offset - 1, "the junk left no event; its offset is the group's word"
    ledger.state = replayed
    again = ledger.take(post(), post(amount=7), post("bob", UNIT, DEBIT), post("bob", command_id="2"))
    assert all(outcome.replayed for outcome in again)


def _remembered(state: PartitionState) -> tuple[object, ...]:
    numbers = (state.next_sequence, state.writer_epoch, state.recorded_at, state.next_command_offset)
    return *numbers, state.account("alice"), state.account("bob")


def _account_event(data: bytes | None) -> EntryPosted:
    event = CODECS.events.decode(data)
    assert isinstance(event, EntryPosted)
    return event
