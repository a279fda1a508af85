"""Who waits for which outcome: each question is answered once, in the order of asking, and nothing waits for ever."""

import asyncio
from collections.abc import Sequence

import pytest

from commands.codec import Outcome
from commands.decide import NOWHERE, TRIED
from commands.errors import OutcomeUnknown
from commands.payload import payload_hash
from commands.types import PostEntry
from partita import BrokerUnavailable
from partita.waiting import Call, Question, Waiting
from tests.support.samples import UNIT, post, posted, rejected

FOR_EVER = 3600.0


def outcome(command: PostEntry, *, sequence: int = 7, replayed: bool = False) -> Outcome:
    event = posted(command_id=command.command_id, account_id=command.account_id, payload_hash=payload_hash(command))
    return Outcome(replayed, 0, event._replace(sequence=sequence))


def asked(waiting: Waiting, commands: Sequence[PostEntry], patience: float = FOR_EVER) -> Call:
    call = Call(commands, patience)
    for at, command in enumerate(commands):
        waiting.add(Question.of(command), call, at)
    return call


async def test_the_answers_of_a_call_are_in_its_order_however_they_come() -> None:
    waiting = Waiting()
    commands = [post(command_id=f"c-{i}") for i in range(3)]
    call = asked(waiting, commands)
    for i in (2, 0, 1):
        assert call.unanswered
        waiting.tell(outcome(commands[i], sequence=i))
    await call.fewer_than(1)
    assert call.answers() == [outcome(command, sequence=i) for i, command in enumerate(commands)]
    assert not len(waiting)


async def test_who_asks_the_same_is_answered_in_the_order_of_asking() -> None:
    waiting = Waiting()
    first, second = asked(waiting, [post()]), asked(waiting, [post()])
    waiting.tell(outcome(post()))
    assert (first.unanswered, second.unanswered) == (0, 1)
    waiting.tell(outcome(post(), replayed=True))
    assert second.answers() == [outcome(post(), replayed=True)]


async def test_an_outcome_for_another_payload_or_for_nobody_is_not_taken() -> None:
    waiting = Waiting()
    call = asked(waiting, [post(amount=UNIT)])
    waiting.tell(outcome(post(amount=2 * UNIT)))
    waiting.tell(outcome(post(account_id="bob", amount=UNIT)))
    assert call.unanswered == 1


async def test_the_outcome_of_a_dry_run_is_not_taken_for_that_of_the_command() -> None:
    waiting = Waiting()
    wet, dry = asked(waiting, [post()]), asked(waiting, [post(dry_run=True)])
    waiting.tell(outcome(post(), sequence=TRIED))
    assert (wet.unanswered, dry.unanswered) == (1, 0)


async def test_a_refusal_of_a_dry_run_that_comes_late_is_not_taken_for_that_of_the_command() -> None:
    waiting = Waiting()
    wet = asked(waiting, [post()])
    refused = rejected(sequence=TRIED, code="AccountLocked", payload_hash=payload_hash(post()))
    waiting.tell(Outcome(False, 0, refused))
    assert wet.unanswered == 1
    waiting.tell(Outcome(False, 0, refused._replace(sequence=NOWHERE)))
    assert wet.unanswered == 0


async def test_a_dry_run_of_what_was_answered_before_is_told_of_that() -> None:
    waiting = Waiting()
    dry = asked(waiting, [post(dry_run=True)])
    waiting.tell(outcome(post(), sequence=7, replayed=True))
    assert dry.answers() == [outcome(post(), sequence=7, replayed=True)]


async def test_a_call_goes_on_when_few_enough_are_unanswered() -> None:
    waiting = Waiting()
    commands = [post(command_id=f"c-{i}") for i in range(4)]
    call = asked(waiting, commands)
    window = asyncio.create_task(call.fewer_than(3))
    for i, done in enumerate((False, True)):
        waiting.tell(outcome(commands[i]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert window.done() is done
    await window


async def test_a_call_gives_up_when_it_hears_nothing_and_forgets() -> None:
    waiting = Waiting()
    commands = [post(command_id="c-1"), post(command_id="c-2")]
    call = asked(waiting, commands, patience=0.05)
    waiting.tell(outcome(commands[0]))
    with pytest.raises(TimeoutError):
        await call.fewer_than(1)
    waiting.forget(call, [Question.of(command) for command in commands])
    assert not len(waiting)
    known, unknown = call.answers()
    assert known == outcome(commands[0])
    assert isinstance(unknown, OutcomeUnknown)
    assert (unknown.account_id, unknown.command_id) == ("alice", "c-2")


async def test_a_call_that_heard_something_meanwhile_does_not_give_up() -> None:
    waiting = Waiting()
    commands = [post(command_id=f"c-{i}") for i in range(2)]
    call = asked(waiting, commands, patience=0.02)
    done = asyncio.create_task(call.fewer_than(1))
    await asyncio.sleep(0)  # it waits, for 0.02 s
    before = call.gives_up_at
    waiting.tell(outcome(commands[0]))
    assert call.gives_up_at > before
    call._heard_at += FOR_EVER
    await asyncio.sleep(0.1)
    assert not done.done()
    waiting.tell(outcome(commands[1]))
    await done


async def test_what_never_left_is_told_to_who_sent_it_and_to_nobody_else() -> None:
    waiting = Waiting()
    first, second = asked(waiting, [post()]), asked(waiting, [post()])
    error = BrokerUnavailable("refused")
    for _ in range(2):
        waiting.fail(Question.of(post()), second, 0, error)
    assert second.answers() == [error]
    assert first.unanswered == 1


async def test_when_outcomes_can_not_be_heard_any_more_every_call_ends() -> None:
    waiting = Waiting()
    calls = [asked(waiting, [post(command_id=f"c-{i}")]) for i in range(3)]
    waiting.give_up()
    for call in calls:
        await call.fewer_than(1)
        assert isinstance(call.answers()[0], OutcomeUnknown)
    assert not len(waiting)


async def test_a_rejection_answers_too() -> None:
    waiting = Waiting()
    call = asked(waiting, [post()])
    event = rejected(command_id=post().command_id, payload_hash=payload_hash(post()))
    waiting.tell(Outcome(False, 0, event))
    assert call.unanswered == 0
