"""Who waits for which outcome: calls that ask any number of commands, and one future for each call.

No I/O: commands are sent and outcomes received by `partita.requester`. All of it happens in one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from commands.codec import Outcome
from commands.decide import TRIED
from commands.errors import OutcomeUnknown
from commands.payload import payload_hash
from commands.types import BatchCommand, Command, ReverseBatch
from events.errors import LedgerError
from events.types import Answer as Event
from events.types import BatchPosted, BatchRejected

Answer = Outcome | LedgerError
"""The outcome of a command, or why there is none."""


class Question(NamedTuple):
    """What an outcome must answer: the ids, and the payload, since an id may wrongly have two.

    The account id of a batch is empty; `reversal_of` is the batch that a reversal undoes. A dry run of the same
    command is another question: its outcome must not be taken for that of the command.
    """

    account_id: str
    command_id: str
    payload_hash: bytes
    reversal_of: str | None
    dry_run: bool

    @classmethod
    def of(cls, command: Command) -> "Question":
        """Return the question that `command` asks."""
        account_id = "" if isinstance(command, BatchCommand) else command.account_id
        reversal_of = command.batch_id if isinstance(command, ReverseBatch) else None
        return cls(account_id, command.command_id, payload_hash(command), reversal_of, command.dry_run)

    @classmethod
    def answered_by(cls, event: Event) -> "Question":
        """Return the question that `event` answers."""
        dry_run = event.sequence == TRIED
        if isinstance(event, BatchPosted | BatchRejected):
            return cls("", event.command_id, event.payload_hash, event.reversal_of, dry_run)
        return cls(event.account_id, event.command_id, event.payload_hash, None, dry_run)


class Call:
    """Commands that one caller asks, and what came of each. It gives up when it hears nothing for so many seconds."""

    def __init__(self, commands: Sequence[Command], patience: float) -> None:
        self.commands = commands
        self.unanswered = 0
        self._patience = patience
        self._answers: list[Answer | None] = [None] * len(commands)
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._limit = 0
        self._below_limit: asyncio.Future[None] | None = None

    @property
    def gives_up_at(self) -> float:
        """When the call gives up, in the event loop's time, if nothing is answered until then."""
        return self._heard_at + self._patience

    def refuse(self, at: int, error: LedgerError) -> None:
        """Take it that the command at this place was not sent."""
        self._answers[at] = error

    def take(self, at: int, answer: Answer) -> None:
        """Take the answer to the command at this place, which was sent."""
        self._answers[at] = answer
        self.unanswered -= 1
        self._heard_at = self._loop.time()
        if self._below_limit is not None and self.unanswered < self._limit and not self._below_limit.done():
            self._below_limit.set_result(None)

    async def fewer_than(self, limit: int) -> None:
        """Return when fewer than `limit` of the commands that were sent are unanswered.

        Raises:
            TimeoutError: the call gives up.
        """
        while self.unanswered >= limit:
            self._limit, self._below_limit = limit, self._loop.create_future()
            patient_until = self.gives_up_at
            try:
                async with asyncio.timeout_at(patient_until):
                    await self._below_limit
            except TimeoutError:
                if self.gives_up_at <= patient_until:
                    raise

    def answers(self) -> list[Answer]:
        """Return the answers in the order of the commands; `OutcomeUnknown` where there is none."""
        return [
            OutcomeUnknown(Question.of(command).account_id, command.command_id, self._patience)
            if answer is None
            else answer
            for command, answer in zip(self.commands, self._answers, strict=True)
        ]


class Waiting:
    """The calls that wait, by what they ask. Those who ask the same are answered in their order."""

    def __init__(self) -> None:
        self._asked: dict[Question, deque[tuple[Call, int]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._asked.values()))

    def add(self, question: Question, call: Call, at: int) -> None:
        """Let `call` wait for the answer to its command at this place, which was sent."""
        self._asked.setdefault(question, deque()).append((call, at))
        call.unanswered += 1

    def tell(self, outcome: Outcome) -> None:
        """Give an outcome to who asked for it first, if anyone still waits."""
        question = self._waiting_for(Question.answered_by(outcome.event))
        if waiting := self._asked.get(question):
            call, at = waiting.popleft()
            if not waiting:
                del self._asked[question]
            call.take(at, outcome)

    def _waiting_for(self, answered: Question) -> Question:
        """Return the question that is asked and answered so; if none is, any.

        A dry run is told also what was answered before it. Who asks for a reversal that the batch has already is told
        of that, which another command asked for.
        """
        for question in (answered, answered._replace(dry_run=True)):
            if question in self._asked:
                return question
        if answered.reversal_of is None:
            return answered
        reversals = (question for question in self._asked if question.reversal_of == answered.reversal_of)
        return next(reversals, answered)

    def fail(self, question: Question, call: Call, at: int, error: LedgerError) -> None:
        """Give an error to the one command of `call` that asked this, if it still waits."""
        if self._remove(question, call, at):
            call.take(at, error)

    def give_up(self) -> None:
        """End all calls: whatever comes of their commands, it will not be heard."""
        asked, self._asked = self._asked, {}
        for question, waiting in asked.items():
            for call, at in waiting:
                call.take(at, OutcomeUnknown(question.account_id, question.command_id, 0.0))

    def forget(self, call: Call, asked: Sequence[Question]) -> None:
        """Let `call`, which asked this, wait no longer."""
        if call.unanswered:
            for at, question in enumerate(asked):
                self._remove(question, call, at)

    def _remove(self, question: Question, call: Call, at: int) -> bool:
        waiting = self._asked.get(question, ())
        if (call, at) not in waiting:
            return False
        self._asked[question].remove((call, at))
        if not self._asked[question]:
            del self._asked[question]
        return True
