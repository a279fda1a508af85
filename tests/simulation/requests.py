"""What requesters ask: commands that get in each other's way, with few accounts, few holds and small amounts."""

from random import Random
from typing import Any, get_args

from commands.types import (
    AccountCommand,
    CloseAccount,
    Command,
    ExpireHold,
    FreezeAccount,
    LockAccount,
    OpenAccount,
    PlaceHold,
    PostBatch,
    PostEntry,
    ReleaseHold,
    ReopenAccount,
    ReverseBatch,
    SettleHold,
    UnfreezeAccount,
    UnlockAccount,
)
from events.partitioner import partition_of
from events.types import BatchEntry, BatchPosted, LockGranted, LockToken
from tests.support.fake_ledger import FakeLedger
from tests.support.samples import CODECS, CREDIT, DEBIT, TOPICS, UNIT

ACCOUNTS = ("alice", "alice", "alice", "bob", "carol", "счёт")
ASSETS = ("USD", "USD", "USD", "EUR")
IDLE = "idle"
"""An account that is seldom anything but empty, so that it can be closed."""

_NO_HOLD, _NO_BATCH = "nowhere", "never"
_OF_BATCHES = 0.5
"""Of repeats: so often is it one of the last batches, which may be in flight."""

_RECENT = 4
_LONGEST_HOLD = 200
"""In looks at the ledger's clock, which goes on by one with each."""

_LEASES = (1000, 3000)


class Requests:
    """Draws commands. Every one has a reply key of its own, so that its outcome is known from all others."""

    def __init__(self, random: Random, ledger: FakeLedger) -> None:
        self._random = random
        self._ledger = ledger
        self._asked: list[Command] = []
        self._holds: list[tuple[str, str]] = []
        self._batches: list[Command] = []
        self._reversed: list[str] = []
        self._locked: list[str] = []
        self._draws = {
            self._entry: 20,
            self._place: 9,
            self._settle: 7,
            self._release: 3,
            self._expire: 2,
            self._open: 3,
            self._change_status: 5,
            self._batch: 16,
            self._reverse: 7,
            self._lock: 6,
            self._unlock: 2,
        }

    def new(self) -> Command:
        """Return a command that was not asked before."""
        (draw,) = self._random.choices(list(self._draws), list(self._draws.values()))
        command = draw(self._random.choice(ACCOUNTS))
        if isinstance(command, get_args(AccountCommand)):
            command = self._conditional(command)
        if self._random.random() < 0.08:
            command = command._replace(dry_run=True)
        self._remember(command)
        return self._ask(command)

    def _conditional(self, command: Any) -> Command:
        """Return a command on an account with what it demands of it: a version, or a lock."""
        if self._random.random() < 0.06:
            command = command._replace(expected_version=self._random.randint(0, 6))
        if token := self._a_token(command.account_id):
            command = command._replace(lock_token=token)
        changed: Command = command
        return changed

    def _remember(self, command: Command) -> None:
        match command:
            case PlaceHold():
                self._holds.append((command.account_id, command.command_id))
            case PostBatch() | ReverseBatch():
                self._batches.append(command)
            case LockAccount():
                self._locked.append(command.account_id)
            case _:
                pass

    def repeat(self) -> Command:
        """Return an earlier command, or now and then another one under its id."""
        if not self._asked:
            return self.new()
        recent = self._batches[-_RECENT:] if self._random.random() < _OF_BATCHES else []
        earlier = self._random.choice(recent or self._asked)
        chance = self._random.random()
        if chance > 0.3:
            return self._ask(earlier)
        match earlier:
            case PostBatch():
                another = self._batch("")._replace(command_id=earlier.command_id)
                self._remember(another)
                return self._ask(another)
            case ReverseBatch():
                return self._ask(earlier._replace(force=not earlier.force))
            case _ if chance < 0.2:
                return self._ask(earlier._replace(expected_version=self._random.randint(0, 3)))
            case _:
                return self._ask(self._entry(earlier.account_id)._replace(command_id=earlier.command_id))

    def again(self, command: Command) -> Command:
        """Return the command as one that is asked again."""
        return self._ask(command)

    def _ask(self, command: Command) -> Command:
        command = command._replace(reply_key=f"r-{len(self._asked)}")
        self._asked.append(command)
        return command

    def _head(self, account_id: str) -> tuple[str, None, str]:
        return f"c-{len(self._asked)}", None, account_id

    def _amount(self) -> int:
        return self._random.randint(1, 4) * UNIT

    def _a_token(self, account_id: str) -> int | None:
        """Return, mostly when the account may be locked, its lock's token, and at times a wrong one."""
        if account_id not in self._locked or self._random.random() < 0.4:
            return None
        token = self._token(account_id)
        return token and token + (self._random.random() < 0.1)

    def _entry(self, account_id: str) -> AccountCommand:
        if self._random.random() < 0.5:
            entry_type, amount = CREDIT, 4 * self._amount()
        else:
            entry_type, amount = DEBIT, self._amount()
        return PostEntry(*self._head(account_id), entry_type, amount, self._random.choice(ASSETS))

    def _place(self, account_id: str) -> AccountCommand:
        expires = None if self._random.random() < 0.5 else self._ledger.now + self._random.randint(0, _LONGEST_HOLD)
        return PlaceHold(*self._head(account_id), self._amount(), self._random.choice(ASSETS), expires)

    def _hold(self, account_id: str) -> tuple[str, None, str, str]:
        """Return the first fields of a command on one of the last holds, or on one that there is not."""
        if not self._holds or self._random.random() < 0.1:
            return *self._head(account_id), _NO_HOLD
        account_id, hold_id = self._random.choice(self._holds[-_RECENT:])
        return *self._head(account_id), hold_id

    def _settle(self, account_id: str) -> AccountCommand:
        return SettleHold(*self._hold(account_id), None if self._random.random() < 0.5 else self._amount())

    def _release(self, account_id: str) -> AccountCommand:
        return ReleaseHold(*self._hold(account_id))

    def _expire(self, account_id: str) -> AccountCommand:
        return ExpireHold(*self._hold(account_id))

    def _open(self, account_id: str) -> AccountCommand:
        floor = self._random.choice((0, -3 * UNIT, None))
        account_id = self._random.choice((account_id, IDLE))
        return OpenAccount(*self._head(account_id), floor, self._random.choice(((), ("USD",))))

    def _change_status(self, account_id: str) -> AccountCommand:
        """Draw a change of one of the accounts; an account in use is soon unfrozen again."""
        if self._random.random() < 0.5:
            kinds: tuple[type[Any], ...] = (
                FreezeAccount,
                FreezeAccount,
                UnfreezeAccount,
                UnfreezeAccount,
                CloseAccount,
            )
        else:
            account_id, kinds = IDLE, (CloseAccount, ReopenAccount)
        command: AccountCommand = self._random.choice(kinds)(*self._head(account_id))
        return command

    def _lock(self, account_id: str) -> AccountCommand:
        return LockAccount(*self._head(account_id), self._random.choice(_LEASES))

    def _unlock(self, account_id: str) -> AccountCommand:
        if self._locked:
            account_id = self._random.choice(self._locked)
        return UnlockAccount(*self._head(account_id), self._token(account_id) or 1)

    def _batch(self, _: str) -> PostBatch:
        """Draw money that moves between accounts, mostly of small amounts that mostly are there."""
        asset, amount = self._random.choice(ASSETS), self._random.randint(1, 2) * UNIT
        payers = [self._leg(DEBIT, amount, asset)]
        payees = [self._leg(CREDIT, amount, asset)]
        if self._random.random() < 0.3:
            payers.append(self._leg(DEBIT, amount, asset))
            payees.append(self._leg(CREDIT, amount, asset))
        if self._random.random() < 0.2:
            payees.append(self._leg(CREDIT, amount, asset))  # more is credited than debited
        entries = self._random.sample([*payers, *payees], len(payers) + len(payees))
        return PostBatch(f"c-{len(self._asked)}", None, entries, balanced=self._random.random() < 0.3)

    def _leg(self, entry_type: Any, amount: int, asset: str) -> BatchEntry:
        account_id = self._random.choice((*ACCOUNTS, *ACCOUNTS, IDLE) if entry_type is CREDIT else ACCOUNTS)
        version = self._random.randint(0, 6) if self._random.random() < 0.03 else None
        token = self._a_token(account_id)
        return BatchEntry(account_id, entry_type, amount, asset, expected_version=version, lock_token=token)

    def _reverse(self, _: str) -> ReverseBatch:
        """Draw a reversal of one of the last batches, that were posted or not, or of one that there is not."""
        posted = self._posted() if self._random.random() < 0.7 else [batch.command_id for batch in self._batches[-2:]]
        again = self._reversed[-1:] if self._random.random() < 0.4 else []
        batch_id = self._random.choice(again or posted or [_NO_BATCH])
        self._reversed.append(batch_id)
        locks = [LockToken(account_id, token) for account_id in ACCOUNTS if (token := self._a_token(account_id))]
        force = self._random.random() < 0.5
        return ReverseBatch(f"{batch_id}~{len(self._asked)}", None, batch_id, force=force, locks=locks)

    # What requesters know.

    def _token(self, account_id: str) -> int | None:
        """Return the token of the account's last lock, held or over."""
        home = partition_of(account_id, self._ledger.partitions)
        for record in reversed(self._ledger.cluster.visible(TOPICS.events, home)):
            if record.key == account_id.encode():
                event = CODECS.events.decode(record.value)
                if isinstance(event, LockGranted):
                    return event.token
        return None

    def _posted(self) -> list[str]:
        """Return the ids of the batches that were posted."""
        events = (CODECS.events.decode(r.value) for r in self._ledger.cluster.all_visible(TOPICS.events))
        return [event.command_id for event in events if isinstance(event, BatchPosted)]
