"""Locks, from the caller's side: taking them, carrying their tokens, and waiting for those of others.

A lock is a lease in the log with a token (docs/adr/0017). Within its block the token goes with every command on the
account by itself, in the task that took the lock and in tasks that are begun there.
"""

import asyncio
import logging
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from commands.codec import Outcome
from commands.errors import AccountLocked
from commands.types import Command, LockAccount, PostBatch, ReverseBatch, UnlockAccount
from events.errors import LedgerError
from events.types import LockGranted, LockToken
from partita import input as given
from partita.results import from_micros

log = logging.getLogger(__name__)

_RELEASE_WITHIN: Final = 5.0
"""Seconds that the end of a block waits to hear that its locks are released; a lease ends by itself."""

_FOR_ANSWERS: Final = 0.1
"""The last part of a call's time, in which nothing is asked again: what is not answered in time would be unknown."""

_held: ContextVar[Mapping[tuple["Locks", str], int]] = ContextVar("partita_locks", default=MappingProxyType({}))
"""The tokens that the running task holds, by engine and account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockManager:
    """How an engine locks accounts, and how it waits for the locks of others.

    `lease` (seconds, or a `timedelta`; 1 ms to 1 h) is how long a lock lasts that is neither renewed nor released.
    Who is refused for a lock asks again after about `first_delay` seconds, then after twice as long, and so on up to
    `longest_delay`. Each delay is drawn at random between half of it and all, so that not all ask at once.
    """

    lease: timedelta | float = 10.0
    first_delay: float = 0.02
    longest_delay: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.first_delay <= self.longest_delay:
            raise ValueError("first_delay must be greater than 0, and longest_delay not less")

    def delays(self) -> Iterator[float]:
        """Yield how many seconds to wait before each next try, without end."""
        most = self.first_delay
        while True:
            yield random.uniform(most / 2, most)  # noqa: S311  # no secret
            most = min(2 * most, self.longest_delay)


class Lock:
    """Accounts that are locked, and the token of each."""

    def __init__(self, locks: "Locks") -> None:
        self._locks = locks
        self._expires_at: dict[str, datetime] = {}
        self.tokens: dict[str, int] = {}

    @property
    def expires_at(self) -> datetime:
        """When the first of the leases is over, by the clocks of the handlers."""
        return min(self._expires_at.values())

    async def renew(self, lease: timedelta | float | None = None, *, timeout: float | None = None) -> None:
        """Let the lock last for `lease` from now on; raises `LockLost` when it is over already."""
        await asyncio.gather(*(self.take(account_id, lease, timeout) for account_id in self.tokens))

    async def take(self, account_id: str, lease: timedelta | float | None, timeout: float | None) -> None:
        """Lock one more account, or keep one that is locked."""
        granted = await self._locks.lock(account_id, lease, self.tokens.get(account_id), timeout)
        self.tokens[account_id] = granted.token
        self._expires_at[account_id] = from_micros(granted.expires_at)


class Locks:
    """Asks for an engine: with the tokens of its locks, and again when somebody else's are in the way.

    `ask` asks a command once, for so many seconds; `patience` is for how long a call waits that does not say.
    """

    def __init__(
        self, ask: Callable[[Command, float], Awaitable[Outcome]], manager: LockManager, *, patience: float
    ) -> None:
        self._ask = ask
        self._manager = manager
        self._patience = patience

    async def ask(self, command: Command, timeout: float | None = None) -> Outcome:
        """Ask until no lock of others is in the way, always under the same id, for at most `timeout` seconds.

        Raises:
            AccountLocked: the account is still locked; nothing was changed.
            LedgerError: what asking once raises.
        """
        command, delays = self.signed(command), self._manager.delays()
        patience = self._patience if timeout is None else timeout
        gives_up_at = _now() + patience
        while True:
            try:
                return await self._ask(command, gives_up_at - _now())
            except AccountLocked:
                delay = next(delays)
                if _now() + delay >= gives_up_at - _FOR_ANSWERS * patience:
                    raise
            await asyncio.sleep(delay)

    def signed(self, command: Command) -> Command:
        """Return `command` with the tokens that the running task holds for its accounts."""
        held = _held.get()
        if not held or isinstance(command, UnlockAccount):
            return command
        if isinstance(command, ReverseBatch):  # whose accounts only the handler knows
            mine = [LockToken(account_id, token) for (locks, account_id), token in held.items() if locks is self]
            return command._replace(locks=mine)
        if isinstance(command, PostBatch):
            tokens = (held.get((self, entry.account_id)) for entry in command.entries)
            entries = [entry._replace(lock_token=token) for entry, token in zip(command.entries, tokens, strict=True)]
            return command._replace(entries=entries)
        if command.lock_token is None:
            return command._replace(lock_token=held.get((self, command.account_id)))
        return command

    @asynccontextmanager
    async def hold(
        self, account_ids: Iterable[str], lease: timedelta | float | None, timeout: float | None
    ) -> AsyncIterator[Lock]:
        """Lock these accounts in their one order, all or none; release them at the end. See `lock_accounts`."""
        wanted, held = sorted({*account_ids}), _held.get()
        if again := [account_id for account_id in wanted if (self, account_id) in held]:
            raise RuntimeError(f"account {again[0]} is locked here already: use the lock that there is")
        lock, gives_up_at = Lock(self), _now() + (self._patience if timeout is None else timeout)
        try:
            for account_id in wanted:
                await lock.take(account_id, lease, gives_up_at - _now())
            with _carrying({(self, account_id): token for account_id, token in lock.tokens.items()}):
                yield lock
        finally:
            await asyncio.gather(*(self._unlock(*locked) for locked in lock.tokens.items()))

    async def lock(
        self, account_id: str, lease: timedelta | float | None, token: int | None, timeout: float | None
    ) -> LockGranted:
        """Take a lock, or renew that with `token`."""
        fields: dict[str, Any] = {"lease": self._manager.lease if lease is None else lease, "lock_token": token}
        command = given.command(LockAccount, command_id=str(uuid.uuid4()), account_id=account_id, **fields)
        event = (await self.ask(command, timeout)).event
        assert isinstance(event, LockGranted), event
        return event

    async def _unlock(self, account_id: str, token: int) -> None:
        """Release a lock if possible. A fault is no fault of the block's: the lease ends by itself."""
        try:
            await self._ask(UnlockAccount(str(uuid.uuid4()), None, account_id, token), _RELEASE_WITHIN)
        except (LedgerError, RuntimeError) as error:  # RuntimeError: the engine is closed
            log.warning("lock %d of account %s was not released: %s", token, account_id, error)


@contextmanager
def _carrying(tokens: Mapping[tuple[Locks, str], int]) -> Iterator[None]:
    _held.set(MappingProxyType({**_held.get(), **tokens}))
    try:
        yield
    finally:
        _held.set(MappingProxyType({key: token for key, token in _held.get().items() if key not in tokens}))


def _now() -> float:
    return asyncio.get_running_loop().time()
