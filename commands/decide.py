"""A command, decided: the event that answers it. Pure: time, place and ids come in as data.

What each command does is in `commands.rules`; here is what all have in common.
"""

from typing import Final, NamedTuple, assert_never

from commands.errors import IdempotencyConflict, Refused, Rejected, VersionConflict, WrongPartition
from commands.rejections import details_of
from commands.rules import (
    Head,
    close_account,
    freeze_account,
    lock_account,
    locked_out,
    open_account,
    place_hold,
    post_entry,
    release_hold,
    reopen_account,
    settle_hold,
    unfreeze_account,
    unlock_account,
)
from commands.types import (
    AccountCommand,
    CloseAccount,
    ExpireHold,
    FreezeAccount,
    LockAccount,
    OpenAccount,
    PlaceHold,
    Policy,
    PostEntry,
    ReleaseHold,
    ReopenAccount,
    SettleHold,
    UnfreezeAccount,
    UnlockAccount,
)
from commands.validation import check_fields
from events.account import Account, Hold
from events.types import AccountEvent, CommandRejected

NOWHERE: Final = -1
"""The sequence of a refusal that passes: it is in no log."""

TRIED: Final = -2
"""The sequence of what a dry run tells: it is in no log."""


class Place(NamedTuple):
    """Where and when the event is to be: the next sequence of a partition, written by `writer_epoch`.

    `recorded_at` is in microseconds since 1970 UTC; `home_partition` is the partition of the command's account.
    """

    partition: int
    home_partition: int
    sequence: int
    writer_epoch: int
    recorded_at: int
    command_offset: int


def decide(
    account: Account,
    command: AccountCommand,
    digest: bytes,
    place: Place,
    policy: Policy,
    *,
    hold: Hold | None = None,
    fault: Rejected | None = None,
) -> AccountEvent:
    """Return the event that answers a command whose answer is not in the log yet.

    `digest` is the command's `payload_hash`; `hold` is the hold that it names, if there is one; `fault` is what was
    found wrong before (an id used for another payload, metadata that can't be kept).
    """
    fault = fault or check_fields(command, policy) or _misplaced(account, command, place)
    head: Head = (
        place.sequence,
        place.writer_epoch,
        place.recorded_at,
        command.command_id,
        place.command_offset,
        digest,
        command.account_id,
        account.version + 1,
    )
    answer = fault or _answer(account, hold, command, head, policy)
    if not isinstance(answer, Rejected):
        return answer
    if isinstance(answer, Refused) and not command.dry_run:
        head = (NOWHERE, *head[1:])
    return _rejected(answer, account, hold, command, head)


def _misplaced(account: Account, command: AccountCommand, place: Place) -> Rejected | None:
    if place.home_partition != place.partition:
        return WrongPartition(command.account_id, place.partition, place.home_partition)
    if account.locked_until > place.recorded_at or command.lock_token is not None:
        token = command.token if isinstance(command, UnlockAccount) else command.lock_token
        if fault := locked_out(account, command.account_id, token, place.recorded_at):
            return fault
    if command.expected_version is not None and command.expected_version != account.version:
        return VersionConflict(command.account_id, command.expected_version, account.version)
    return None


def _answer(  # noqa: C901  # a case for each command
    account: Account, hold: Hold | None, command: AccountCommand, head: Head, policy: Policy
) -> AccountEvent | Rejected:
    match command:
        case PostEntry():
            return post_entry(account, command, head, policy)
        case PlaceHold():
            return place_hold(account, command, head, policy)
        case SettleHold():
            return settle_hold(account, hold, command, head, policy)
        case ReleaseHold() | ExpireHold():
            return release_hold(account, hold, command, head, recorded_at=head[2])
        case OpenAccount():
            return open_account(account, command, head)
        case FreezeAccount():
            return freeze_account(account, command, head)
        case UnfreezeAccount():
            return unfreeze_account(account, command, head)
        case CloseAccount():
            return close_account(account, command, head)
        case ReopenAccount():
            return reopen_account(account, command, head)
        case LockAccount():
            return lock_account(command, head, recorded_at=head[2])
        case UnlockAccount():
            return unlock_account(account, command, head, recorded_at=head[2])
        case _ as unreachable:
            assert_never(unreachable)


def conflict(command: AccountCommand) -> IdempotencyConflict:
    """Return the fault of a command whose id was used for another payload."""
    return IdempotencyConflict(command.account_id, command.command_id)


def _rejected(
    fault: Rejected, account: Account, hold: Hold | None, command: AccountCommand, head: Head
) -> CommandRejected:
    asset = _asset(command, hold)
    return CommandRejected(
        *head[:7],
        command_type=type(command).__name__,
        code=fault.code,
        message=fault.message,
        details=details_of(fault),
        version=account.version,
        asset=_storable(asset),
        balance=account.balance(asset),
    )


def _asset(command: AccountCommand, hold: Hold | None) -> str:
    """Return the asset that the command is about; empty when it is about the account."""
    match command:
        case PostEntry() | PlaceHold():
            return command.asset
        case _:
            return "" if hold is None else hold.asset


def _storable(asset: str) -> str:
    """An asset that broke the rule for assets is recorded as far as it can be kept."""
    return "".join(character for character in asset[:64] if character.isprintable())
