"""What the API answers with."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from events.types import AccountStatus, EntryType
from partita.web.values import AmountOut, Json, TimeOut
from projections.records import BatchStatus, HoldStatus
from projections.snapshots.queries import Clock


class Answer(BaseModel):
    """The base of all: made from the records of the ledger, never changed."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Balance(Answer):
    """What an account has of one asset."""

    asset: str
    balance: Annotated[AmountOut, Field(description="Credits less debits, what is held included")]
    held: Annotated[AmountOut, Field(description="What open holds and batches in flight reserve of it")]
    available: Annotated[AmountOut, Field(description="The balance less what is held; the floor is not counted in")]
    version: Annotated[int, Field(description="The account's at the last change of this asset; 0 before the first")]
    updated_at: TimeOut | None


class AccountBalance(Balance):
    """What one account has of one asset; all 0 when it never had any."""

    account_id: str


class BalanceAt(Answer):
    """What an account had of one asset at a time."""

    account_id: str
    asset: str
    balance: Annotated[AmountOut, Field(description="Credits less debits until then, what was held included")]


class AccountBalanceAt(BalanceAt):
    """What one account had of one asset at a time; 0 when it had none yet."""

    at: TimeOut
    time: Clock


class Account(Answer):
    """An account: its rules, its status, and what it has."""

    account_id: str
    status: AccountStatus
    permanent: Annotated[bool, Field(description="Whether it was closed for ever")]
    floor: Annotated[AmountOut | None, Field(description="No balance falls below it; null is no floor")]
    assets: Annotated[list[str], Field(description="The only assets that it may hold; any when there are none")]
    account_type: str | None
    reference: str | None
    metadata: Json | None
    version: Annotated[int, Field(description="Counts its entries and changes; see `expected_version`")]
    opened_at: TimeOut
    updated_at: TimeOut
    balances: list[Balance]


class Entry(Answer):
    """One credit or debit of one account. It never changes."""

    entry_id: Annotated[str, Field(description="<partition>-<sequence>; dry-run for one that is in no log")]
    account_id: str
    version: Annotated[int, Field(description="The account's after it")]
    entry_type: EntryType
    amount: AmountOut
    asset: str
    running_balance: Annotated[AmountOut, Field(description="The balance of account and asset after it")]
    command_id: str
    hold_id: Annotated[str | None, Field(description="The hold that it settles")]
    batch_id: Annotated[str | None, Field(description="The batch that it is part of")]
    leg: Annotated[int | None, Field(description="Its number there, from 0")]
    reference: str | None
    metadata: Json | None
    partition: int
    sequence: Annotated[int, Field(description="Its place in the partition; -2 for a dry run")]
    recorded_at: TimeOut
    effective_at: TimeOut


class Hold(Answer):
    """Funds that are reserved, or were."""

    account_id: str
    hold_id: str
    asset: str
    amount: Annotated[AmountOut, Field(description="What was reserved at first")]
    remaining: Annotated[AmountOut, Field(description="What is reserved still; 0 when it has ended")]
    status: HoldStatus
    expires_at: TimeOut | None
    reference: str | None
    metadata: Json | None
    placed_at: TimeOut
    ended_at: TimeOut | None
    version: Annotated[int, Field(description="The account's at its last change")]


class HoldChange(Answer):
    """A hold was placed, released or expired just now, or when the command was first asked."""

    account_id: str
    hold_id: str
    asset: str
    status: HoldStatus
    amount: AmountOut
    remaining: AmountOut
    balance: AmountOut
    held: Annotated[AmountOut, Field(description="What all holds reserve after it")]
    version: int
    command_id: str
    recorded_at: TimeOut


class AccountChange(Answer):
    """An account was opened, frozen, unfrozen, closed or reopened just now, or when the command was first asked."""

    account_id: str
    status: AccountStatus
    version: int
    command_id: str
    recorded_at: TimeOut


class BatchSummary(Answer):
    """A batch, without its entries."""

    batch_id: str
    status: BatchStatus
    reversal_of: Annotated[str | None, Field(description="The batch that it undoes")]
    reversed_by: Annotated[str | None, Field(description="The batch that has undone it")]
    size: Annotated[int | None, Field(description="How many entries it has; null when it was refused at once")]
    reference: str | None
    metadata: Json | None
    code: Annotated[str | None, Field(description="The rule that it broke")]
    message: str | None
    details: Json | None
    leg: Annotated[int | None, Field(description="Which entry broke the rule")]
    started_at: TimeOut
    ended_at: TimeOut | None


class Batch(BatchSummary):
    """Entries that are posted together: all of them are here once it is POSTED, and none before."""

    entries: list[Entry]


class PostedBatch(Answer):
    """A batch that was posted just now, or when the command was first asked."""

    batch_id: str
    status: BatchStatus
    reversal_of: str | None
    reference: str | None
    metadata: Json | None
    recorded_at: TimeOut
    entries: list[Entry]


class Rejection(Answer):
    """A command that broke a rule."""

    command_id: str
    account_id: Annotated[str | None, Field(description="null for a batch")]
    command_type: str
    code: Annotated[str, Field(description="The rule", examples=["InsufficientFunds"])]
    message: str
    details: Annotated[Json, Field(description="What the rule saw, by name, as text")]
    leg: int | None
    reversal_of: str | None
    partition: int
    sequence: int
    recorded_at: TimeOut


class Change(Answer):
    """A change of an account that is no entry."""

    account_id: str
    version: int
    change: Annotated[str, Field(description="The event's type", examples=["HoldPlaced"])]
    command_id: str
    hold_id: str | None
    asset: str | None
    amount: AmountOut | None
    held: AmountOut | None
    reason: str | None
    reference: str | None
    metadata: Json | None
    details: Json
    partition: int
    sequence: int
    recorded_at: TimeOut


class CommandState(StrEnum):
    """PENDING while nothing is known of the command; then what came of it."""

    PENDING = "PENDING"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"


class Command(Answer):
    """What became of a command, as far as the tables have got: one of the four below, once it is not PENDING."""

    command_id: str
    account_id: Annotated[str | None, Field(description="null for a batch")]
    state: CommandState
    entry: Entry | None = None
    change: Change | None = None
    batch: Batch | None = None
    rejection: Rejection | None = None


class Pending(Answer):
    """The outcome did not come in time. The command may be accepted yet, or rejected, or may never have arrived."""

    command_id: str
    account_id: str | None
    state: CommandState = CommandState.PENDING
    status_url: Annotated[str, Field(description="Where to ask what became of it")]
    detail: str


class Position(Answer):
    """How far the tables have got in one partition."""

    partition: int
    next_offset: Annotated[int, Field(description="Where in the topic of events they go on")]
    next_sequence: Annotated[int, Field(description="All events below it are in the tables")]
    recorded_at: Annotated[TimeOut | None, Field(description="When the last of them was recorded")]
    halted: Annotated[str | None, Field(description="Why the projection has stopped there, if it has")]
    lag: Annotated[int | None, Field(description="Offsets still to be read; null when Kafka does not answer")]


class Positions(Answer):
    """How far the tables have got."""

    positions: list[Position]


class Accounts(Answer):
    """A page of accounts."""

    accounts: list[Account]
    next_cursor: Annotated[str | None, Field(description="Gives the page after; null when this is the last")]


class Balances(Answer):
    """A page of balances at a time."""

    at: TimeOut
    time: Clock
    balances: list[BalanceAt]
    next_cursor: Annotated[str | None, Field(description="Gives the page after, with the same `at` and `time`")]


class TrialBalance(Answer):
    """The sums over all accounts of one asset at a time."""

    asset: str
    credits: AmountOut
    debits: AmountOut
    balance: Annotated[AmountOut, Field(description="Credits less debits")]
    floorless: Annotated[
        AmountOut, Field(description="What accounts without a floor have of it: below 0 by what came in")
    ]
    others: Annotated[AmountOut, Field(description="What all the others have")]
    held: Annotated[AmountOut, Field(description="What open holds reserve; a part of the balances, by recorded time")]
    in_flight: Annotated[AmountOut, Field(description="What batches that are not done reserve; so too")]


class TrialBalances(Answer):
    """The sums over all accounts at a time, by asset."""

    at: TimeOut
    time: Clock
    assets: list[TrialBalance]


class Entries(Answer):
    """A page of entries."""

    entries: list[Entry]
    next_cursor: Annotated[str | None, Field(description="Gives the page after; null when this is the last")]


class Holds(Answer):
    """A page of holds."""

    holds: list[Hold]
    next_cursor: Annotated[str | None, Field(description="Gives the page after; null when this is the last")]


class Batches(Answer):
    """A page of batches."""

    batches: list[BatchSummary]
    next_cursor: Annotated[str | None, Field(description="Gives the page after; null when this is the last")]


class Rejections(Answer):
    """A page of rejections."""

    rejections: list[Rejection]
    next_cursor: Annotated[str | None, Field(description="Gives the page after; null when this is the last")]


Base64 = Annotated[str, Field(examples=["n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="])]


class Receipt(Answer):
    """What shows to anyone, offline, that an entry is in the log."""

    entry: Annotated[dict[str, Any], Field(description="The entry, as the log has it")]
    leaf: Annotated[Base64, Field(description="The event's bytes, as they are on the topic")]
    leaf_index: int
    tree_size: int
    root: Base64
    inclusion_proof: list[Base64]
    checkpoint: Annotated[str, Field(description="The signed note")]
    public_key: Annotated[str, Field(description="The key that is said to have signed it: compare it with your own")]
    immudb: Annotated[
        dict[str, Any] | None, Field(description="What shows that immudb has the event, where there is a mirror")
    ] = None
    anchor: Annotated[
        dict[str, Any] | None, Field(description="What shows that the checkpoint was on a chain, once it is anchored")
    ] = None


class Checkpoint(Answer):
    """The signed head of the tree of one partition."""

    partition: int
    tree_size: int
    root: Base64
    note: Annotated[str, Field(description="The signed note, as C2SP tlog-checkpoint has it")]
    public_key: str | None
    published_at: TimeOut


class Checkpoints(Answer):
    """The newest checkpoint of each partition that has one, or a page of those of one partition."""

    checkpoints: list[Checkpoint]
    next_cursor: str | None = None


class ConsistencyProof(Answer):
    """The hashes by which the root of the new tree is shown to continue that of the old one."""

    partition: int
    old_size: int
    new_size: int
    proof: list[Base64]


class Part(StrEnum):
    """What the API stands on."""

    KAFKA = "kafka"
    READ_MODEL = "read_model"
    SNAPSHOTS = "snapshots"
    PROOFS = "proofs"
    CHECKPOINTS = "checkpoints"


class Readiness(Answer):
    """Whether all is there that the API needs; `missing` says what is not, by the code of its error."""

    ready: bool
    missing: Annotated[Mapping[Part, str], Field(examples=[{"kafka": "BrokerUnavailable"}])]
    halted: Annotated[
        Mapping[Part, list[int]], Field(description="Partitions in which a projection has stopped, by what it is of")
    ]


class Liveness(Answer):
    """The process answers."""

    alive: bool = True


class Problem(Answer):
    """An error, as RFC 9457 has it."""

    type: Annotated[str, Field(description="A page that explains it", examples=["/problems/InsufficientFunds"])]
    title: Annotated[str, Field(description="What it means, the same for all of its kind")]
    status: int
    detail: Annotated[str, Field(description="What happened, for people")]
    code: Annotated[str, Field(description="What happened, for programs", examples=["InsufficientFunds"])]
    details: Annotated[dict[str, Any], Field(description="What the rule saw, by name")]
    retriable: Annotated[bool, Field(description="Whether the same request can succeed later")]


class ProblemKind(Answer):
    """What a kind of problem means."""

    code: str
    status: int
    title: str
    description: str
