"""Locks, one story each: a lease with a token, for callers who read, think and write. It is noon."""

import pytest

from commands.errors import AccountLocked, InsufficientFunds, InvalidLease, LockLost
from commands.types import AccountCommand, FreezeAccount, LockAccount, PlaceHold, ReleaseHold, UnlockAccount
from events.types import LockGranted, LockReleased
from tests.support.samples import DEBIT, NOON, UNIT, hold_placed, lock_granted, lock_released, post, posted
from tests.support.story import given

SECOND = 1_000_000
LOCK = LockAccount("c-1", None, "alice", 5 * SECOND)
UNLOCK = UnlockAccount("c-1", None, "alice", 1)
FIVE = posted(amount=5 * UNIT)
LOCKED = lock_granted(token=2, expires_at=NOON + 1)
OVER = lock_granted(token=2, expires_at=NOON)


def test_a_lock_is_a_lease_with_a_token_that_grows() -> None:
    given(FIVE).when(LOCK).then(LockGranted, token=2, expires_at=NOON + 5 * SECOND, version=2)
    given(FIVE, OVER).when(LOCK).then(LockGranted, token=3)
    given(FIVE, LOCKED, lock_released()).when(LOCK).then(LockGranted, token=4)


OTHERS: list[AccountCommand] = [
    post(),
    post(entry_type=DEBIT),
    LOCK,
    FreezeAccount("c-1", None, "alice"),
    PlaceHold("c-1", None, "alice", UNIT, "USD"),
    ReleaseHold("c-1", None, "alice", "h-1"),
]


@pytest.mark.parametrize("command", OTHERS)
def test_a_locked_account_takes_nothing_from_others_and_the_refusal_passes(command: AccountCommand) -> None:
    story = given(FIVE, hold_placed(), LOCKED)
    refused = story.when(command).then_refused(AccountLocked, account_id="alice")
    assert refused.details["expires_at"].startswith("2026-09-21T")


@pytest.mark.parametrize("command", OTHERS)
def test_the_holder_of_the_token_may_do_anything(command: AccountCommand) -> None:
    story = given(FIVE, hold_placed(), LOCKED).when(command._replace(lock_token=2))
    assert story.event is not None
    assert story.event.sequence == 7


def test_the_rules_hold_under_a_lock_as_well() -> None:
    given(FIVE, LOCKED).when(post(amount=6 * UNIT, entry_type=DEBIT, lock_token=2)).then_rejected(InsufficientFunds)


@pytest.mark.parametrize("token", [1, 3])
def test_another_token_is_of_no_use(token: int) -> None:
    given(FIVE, LOCKED).when(post(lock_token=token)).then_refused(LockLost, account_id="alice", token=token)


def test_an_expired_holder_is_refused_whether_somebody_else_has_the_lock_or_not() -> None:
    given(FIVE, OVER).when(post(lock_token=2)).then_refused(LockLost, token=2)
    given(FIVE, OVER, lock_granted(token=3)).when(post(lock_token=2)).then_refused(LockLost, token=2)
    given(FIVE, LOCKED, lock_released(token=2)).when(post(lock_token=2)).then_refused(LockLost, token=2)


def test_an_expired_lock_keeps_nobody_out() -> None:
    given(FIVE, OVER).when(post()).then_posted(version=3)


def test_a_lock_is_renewed_under_its_token() -> None:
    given(FIVE, LOCKED).when(LOCK._replace(lock_token=2)).then(LockGranted, token=2, expires_at=NOON + 5 * SECOND)
    given(FIVE, OVER).when(LOCK._replace(lock_token=2)).then_refused(LockLost)


def test_a_lock_is_ended_by_its_holder_only() -> None:
    given(FIVE, LOCKED).when(UNLOCK._replace(token=2)).then(LockReleased, token=2)
    given(FIVE, LOCKED).when(UNLOCK).then_refused(LockLost, token=1)
    given(FIVE, OVER).when(UNLOCK._replace(token=2)).then_refused(LockLost, token=2)
    given(FIVE).when(UNLOCK).then_refused(LockLost, token=1)


@pytest.mark.parametrize("lease", [0, 999, 3_600_000_001, -1])
def test_a_lease_has_its_bounds(lease: int) -> None:
    given(FIVE).when(LOCK._replace(lease=lease)).then_rejected(InvalidLease)
