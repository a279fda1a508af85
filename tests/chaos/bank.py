"""The bank: accounts with money, transfers that never end, and a record of what each requester was told."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

from partita import BrokerUnavailable, LedgerBatch, LedgerEngine, OutcomeUnknown, Rejected

OPENING: Final = 1_000
_AT_ONCE: Final = 40
_ATTEMPT: Final = 10.0
_PATIENCE: Final = 180.0
_LOOK: Final = 0.02


class Transfer(NamedTuple):
    """What a requester asked for."""

    source: str
    target: str
    amount: int


Told = LedgerBatch | Rejected


@dataclass
class Bank:
    """Transfers between random accounts, within and across partitions.

    One in ten is too large, one in ten is asked again after it was answered. An unknown outcome is asked again with
    the same id until it is known. `waited` is the longest that any requester had to wait, in seconds.
    """

    engine: LedgerEngine
    accounts: int
    random: Random
    asked: dict[str, Transfer] = field(default_factory=dict)
    told: dict[str, list[Told]] = field(default_factory=dict)
    unknown: int = 0
    answered: int = 0
    waited: float = 0.0
    closing: bool = False
    _pending: dict[int, float] = field(default_factory=dict)

    async def open(self) -> None:
        """Give every account its money."""
        entries = [
            {"account_id": account, "amount": OPENING, "entry_type": "credit", "command_id": f"open-{account}"}
            for account in map(_account, range(self.accounts))
        ]
        results = await self.engine.create_entries(entries)
        assert not [result for result in results if isinstance(result, Exception)]

    async def run(self) -> None:
        """Transfer, `_AT_ONCE` at a time, until `closing`, and until all that was asked is answered."""
        async with asyncio.TaskGroup() as tellers:
            for teller in range(_AT_ONCE):
                tellers.create_task(self._serve(teller))

    async def _serve(self, teller: int) -> None:
        while not self.closing:
            again = bool(self.told) and self.random.random() < 0.1
            transfer_id = self.random.choice(list(self.told)[-1000:]) if again else self._new()
            begun = self._pending[teller] = time.monotonic()
            told = await self._transfer(transfer_id)
            self.told.setdefault(transfer_id, []).append(told)
            self.answered += 1
            self.waited = max(self.waited, time.monotonic() - begun)
            del self._pending[teller]

    def _new(self) -> str:
        source, target = map(_account, self.random.sample(range(self.accounts), 2))
        amount = OPENING * self.accounts if self.random.random() < 0.1 else self.random.randint(1, OPENING // 4)
        transfer_id = f"transfer-{len(self.asked)}"
        self.asked[transfer_id] = Transfer(source, target, amount)
        return transfer_id

    async def _transfer(self, transfer_id: str) -> Told:
        asked = self.asked[transfer_id]
        async with asyncio.timeout(_PATIENCE):
            while True:
                try:
                    return await self.engine.transfer(*asked, command_id=transfer_id, timeout=_ATTEMPT)
                except Rejected as rejection:
                    return rejection
                except (OutcomeUnknown, BrokerUnavailable):
                    self.unknown += 1
                    await asyncio.sleep(_LOOK)  # a broker that is away refuses at once

    async def advanced(self, by: int) -> None:
        """Return when so many more are answered."""
        await self._until(self.answered + by)

    async def _until(self, answered: int) -> None:
        async with asyncio.timeout(_PATIENCE):
            while self.answered < answered:  # noqa: ASYNC110  # looked at rarely; an event would cost every answer
                await asyncio.sleep(_LOOK)

    async def settled(self) -> float:
        """Return when all that is asked now is answered, and how many seconds that took."""
        begun = time.monotonic()
        async with asyncio.timeout(_PATIENCE):
            while any(since <= begun for since in self._pending.values()):  # noqa: ASYNC110  # as above
                await asyncio.sleep(_LOOK)
        return time.monotonic() - begun

    def outcomes(self) -> Counter[str]:
        """Count what was told, by the name of the outcome."""
        return Counter(
            "posted" if isinstance(t, LedgerBatch) else t.code for told in self.told.values() for t in told
        )


def _account(number: int) -> str:
    return f"bank-{number}"
