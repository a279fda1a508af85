"""The life of an account, one story each: opened, frozen, closed, and what it takes meanwhile."""

from decimal import Decimal

import pytest

from commands.errors import (
    AccountAlreadyOpen,
    AccountIsClosed,
    AccountIsFrozen,
    AccountNotClosed,
    AccountNotEmpty,
    AccountNotFound,
    AccountNotFrozen,
    AssetNotAllowed,
    BalanceOutOfRange,
    InsufficientFunds,
    InvalidAccountType,
    InvalidAsset,
    InvalidFloor,
    InvalidReason,
    Rejected,
    VersionConflict,
)
from commands.types import (
    AccountCommand,
    CloseAccount,
    FreezeAccount,
    OpenAccount,
    PlaceHold,
    Policy,
    ReopenAccount,
    UnfreezeAccount,
)
from events.account import NEW_ACCOUNT
from events.money import MAX_UNITS
from events.types import (
    AccountClosed,
    AccountEvent,
    AccountFrozen,
    AccountOpened,
    AccountReopened,
    AccountStatus,
    AccountUnfrozen,
)
from tests.support.samples import DEBIT, UNIT, closed, frozen, hold_placed, opened, post, posted, reopened, unfrozen
from tests.support.story import given

OPEN = OpenAccount("c-1", None, "alice")
FREEZE = FreezeAccount("c-1", None, "alice", "court order")
UNFREEZE = UnfreezeAccount("c-1", None, "alice")
CLOSE = CloseAccount("c-1", None, "alice")
REOPEN = ReopenAccount("c-1", None, "alice")
EXPLICIT = Policy(implicit_opening=False)


def test_an_account_is_opened_with_rules_of_its_own() -> None:
    command = OPEN._replace(floor=-5 * UNIT, assets=("USD", "EUR"), account_type="customer", metadata="{}")
    story = given().when(command)
    story.then(
        AccountOpened, version=1, floor=-5 * UNIT, assets=("USD", "EUR"), account_type="customer", metadata="{}"
    )


def test_it_is_opened_once() -> None:
    given(opened()).when(OPEN).then_rejected(AccountAlreadyOpen, account_id="alice")
    given(posted()).when(OPEN).then_rejected(AccountAlreadyOpen)
    given(opened(), closed()).when(OPEN).then_rejected(AccountAlreadyOpen)


def test_a_first_credit_opens_an_account_if_the_operator_lets_it() -> None:
    assert given(posted()).account.status is AccountStatus.OPEN
    given(policy=EXPLICIT).when(post()).then_rejected(AccountNotFound, account_id="alice")
    given(opened(), policy=EXPLICIT).when(post()).then_posted(version=2)


def test_a_debit_or_hold_opens_nothing() -> None:
    given().when(post(entry_type=DEBIT)).then_rejected(InsufficientFunds)
    given().when(PlaceHold("c-1", None, "alice", UNIT, "USD")).then_rejected(InsufficientFunds)
    assert given().account is NEW_ACCOUNT


def test_a_credit_limit_may_be_used_to_the_last_unit() -> None:
    story = given(opened(floor=-5 * UNIT))
    story.when(post(amount=5 * UNIT, entry_type=DEBIT)).then_posted(running_balance=-5 * UNIT)
    story.when(post(amount=5 * UNIT + 1, entry_type=DEBIT)).then_rejected(
        InsufficientFunds, available=Decimal(5), requested=Decimal("5.000000000000000001")
    )


def test_the_floor_counts_for_every_asset() -> None:
    story = given(opened(floor=-UNIT), posted(amount=UNIT, entry_type=DEBIT))
    story.when(post(amount=UNIT, entry_type=DEBIT, asset="EUR")).then_posted(running_balance=-UNIT)
    story.when(post(amount=1, entry_type=DEBIT)).then_rejected(InsufficientFunds, available=Decimal(0))


def test_an_account_without_floor_lets_money_into_the_ledger() -> None:
    story = given(opened(floor=None))
    story.when(post(amount=MAX_UNITS, entry_type=DEBIT)).then_posted(running_balance=-MAX_UNITS)


def test_but_no_balance_has_more_than_38_digits() -> None:
    story = given(opened(floor=None), posted(amount=MAX_UNITS, entry_type=DEBIT))
    story.when(post(amount=1, entry_type=DEBIT)).then_rejected(BalanceOutOfRange, requested=Decimal("-1E-18"))


def test_an_account_takes_only_the_assets_that_it_was_opened_for() -> None:
    story = given(opened(assets=("EUR",)))
    story.when(post(asset="EUR")).then_posted(version=2)
    story.when(post()).then_rejected(AssetNotAllowed, account_id="alice", asset="USD")
    story.when(PlaceHold("c-1", None, "alice", UNIT, "USD")).then_rejected(AssetNotAllowed)


@pytest.mark.parametrize("command", [post(), post(entry_type=DEBIT), PlaceHold("c-1", None, "alice", UNIT, "USD")])
def test_a_frozen_account_takes_nothing_until_it_is_unfrozen(command: AccountCommand) -> None:
    given(posted(amount=5 * UNIT), frozen()).when(command).then_rejected(AccountIsFrozen, account_id="alice")
    story = given(posted(amount=5 * UNIT), frozen(), unfrozen()).when(command)
    assert story.event is not None
    assert story.event.version == 4


def test_freezing_and_unfreezing() -> None:
    given(opened()).when(FREEZE).then(AccountFrozen, version=2, reason="court order")
    given(opened(), frozen()).when(UNFREEZE).then(AccountUnfrozen, version=3, reason=None)


def test_a_closed_account_takes_nothing_until_it_is_reopened() -> None:
    given(opened()).when(CLOSE._replace(reason="moved")).then(AccountClosed, permanent=False, reason="moved")
    given(opened(), closed()).when(post()).then_rejected(AccountIsClosed, account_id="alice", permanent=False)
    given(opened(), closed()).when(REOPEN).then(AccountReopened, version=3)
    given(opened(), closed(), reopened()).when(post()).then_posted(version=4)


def test_an_account_keeps_its_rules_while_it_is_closed() -> None:
    story = given(opened(floor=-UNIT, assets=("USD",)), closed(), reopened())
    assert (story.account.floor, story.account.assets) == (-UNIT, ("USD",))


def test_an_account_closed_for_ever_stays_closed() -> None:
    given(opened()).when(CLOSE._replace(permanent=True)).then(AccountClosed, permanent=True)
    given(opened(), closed(permanent=True)).when(REOPEN).then_rejected(AccountIsClosed, permanent=True)


@pytest.mark.parametrize("unit", [1, -1])
def test_only_an_empty_account_is_closed(unit: int) -> None:
    change = posted(amount=1) if unit > 0 else posted(amount=1, entry_type=DEBIT)
    given(opened(floor=None), change).when(CLOSE).then_rejected(
        AccountNotEmpty, asset="USD", balance=Decimal(f"{unit}E-18"), held=Decimal(0)
    )
    given(posted(amount=1), posted(amount=1, entry_type=DEBIT)).when(CLOSE).then(AccountClosed)


def test_an_account_with_a_hold_is_not_empty() -> None:
    given(opened(floor=None), hold_placed(amount=UNIT)).when(CLOSE).then_rejected(
        AccountNotEmpty, balance=Decimal(0), held=Decimal(1)
    )


def test_a_frozen_account_may_be_closed() -> None:
    given(opened(), frozen()).when(CLOSE).then(AccountClosed)


NOT_NOW = [
    ((), FREEZE, AccountNotFound),
    ((), UNFREEZE, AccountNotFound),
    ((), CLOSE, AccountNotFound),
    ((), REOPEN, AccountNotFound),
    ((opened(),), UNFREEZE, AccountNotFrozen),
    ((opened(),), REOPEN, AccountNotClosed),
    ((opened(), frozen()), FREEZE, AccountIsFrozen),
    ((opened(), frozen()), REOPEN, AccountNotClosed),
    ((opened(), closed()), FREEZE, AccountIsClosed),
    ((opened(), closed()), UNFREEZE, AccountIsClosed),
    ((opened(), closed()), CLOSE, AccountIsClosed),
]


@pytest.mark.parametrize(("before", "command", "rule"), NOT_NOW)
def test_what_can_not_be_done_now_names_why(
    before: tuple[AccountEvent, ...], command: AccountCommand, rule: type[Rejected]
) -> None:
    event = given(*before).when(command).then_rejected(rule)
    assert event.command_type == type(command).__name__
    assert (event.asset, event.balance) == ("", 0)


@pytest.mark.parametrize("command", [FREEZE, UNFREEZE, CLOSE, REOPEN, OPEN])
def test_another_version_than_expected_is_refused(command: AccountCommand) -> None:
    given(opened()).when(command._replace(expected_version=7)).then_rejected(VersionConflict, expected=7, actual=1)


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        (OPEN._replace(floor=1), InvalidFloor),
        (OPEN._replace(floor=-MAX_UNITS - 1), InvalidFloor),
        (OPEN._replace(assets=("",)), InvalidAsset),
        (OPEN._replace(assets=("USD", "USD")), InvalidAsset),
        (OPEN._replace(assets=tuple(f"A{i}" for i in range(101))), InvalidAsset),
        (OPEN._replace(account_type=""), InvalidAccountType),
        (OPEN._replace(account_type="x" * 65), InvalidAccountType),
        (FREEZE._replace(reason="r" * 1025), InvalidReason),
        (CLOSE._replace(reason="\0"), InvalidReason),
    ],
)
def test_bad_fields_are_named(command: AccountCommand, rule: type[Rejected]) -> None:
    given().when(command).then_rejected(rule)
