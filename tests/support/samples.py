"""Values to test with: codecs without a registry, and commands, events and records that are right unless told."""

from typing import Any

import schemas
from commands.checkpoints import Checkpoints
from commands.codec import Outcome, OutcomeCodec, command_codec
from commands.group import Codecs, Decider
from commands.state import PartitionState
from commands.types import (
    CloseAccount,
    Command,
    ExpireHold,
    FreezeAccount,
    LockAccount,
    OpenAccount,
    PlaceHold,
    Policy,
    PostBatch,
    PostEntry,
    ReleaseHold,
    ReopenAccount,
    ReverseBatch,
    SettleHold,
    UnfreezeAccount,
    UnlockAccount,
    key_of,
)
from events.account import Account
from events.checkpoint import Signer
from events.codec import Undecodable, event_codec
from events.follow import Record, StoredEvent
from events.money import UNITS_PER_WHOLE
from events.topics import Topics
from events.types import (
    AccountClosed,
    AccountFrozen,
    AccountOpened,
    AccountReopened,
    AccountStatus,
    AccountUnfrozen,
    BatchPosted,
    BatchRejected,
    CommandRejected,
    EntryPosted,
    EntryType,
    HoldPlaced,
    HoldReleased,
    HoldSettled,
    LockGranted,
    LockReleased,
    PartitionOpened,
)
from tests.support.memory_store import MemoryStores

UNIT = UNITS_PER_WHOLE
OUTCOME_EVENTS: dict[type[Any], tuple[type[Any], ...]] = {
    PostEntry: (EntryPosted, CommandRejected),
    OpenAccount: (AccountOpened, CommandRejected),
    FreezeAccount: (AccountFrozen, CommandRejected),
    UnfreezeAccount: (AccountUnfrozen, CommandRejected),
    CloseAccount: (AccountClosed, CommandRejected),
    ReopenAccount: (AccountReopened, CommandRejected),
    PlaceHold: (HoldPlaced, CommandRejected),
    SettleHold: (HoldSettled, CommandRejected),
    ReleaseHold: (HoldReleased, CommandRejected),
    ExpireHold: (HoldReleased, CommandRejected),
    LockAccount: (LockGranted, CommandRejected),
    UnlockAccount: (LockReleased, CommandRejected),
    PostBatch: (BatchPosted, BatchRejected),
    ReverseBatch: (BatchPosted, BatchRejected),
}
"""What each type of command can be answered with."""
NOON = 1_790_000_000_000_000
"""A time, in microseconds since 1970."""
TOPICS = Topics(prefix="t")
IDS = {name: number for number, name in enumerate(schemas.ALL, 1)}
CREDIT, DEBIT = EntryType.CREDIT, EntryType.DEBIT


def no_such_schema(schema_id: int) -> dict[str, Any]:
    """Be a registry that knows nothing."""
    raise Undecodable(f"there is no schema with id {schema_id}")


def codecs() -> Codecs:
    """Return codecs of our own schemas."""
    events = event_codec(IDS, no_such_schema)
    return Codecs(command_codec(IDS, no_such_schema), events, OutcomeCodec(IDS, events, no_such_schema))


CODECS = codecs()
SIGNER = Signer.generate("partita.test/t")
CHECKPOINTS = Checkpoints(topics=TOPICS, ledger_origin=SIGNER.verifier.name, signers=[SIGNER])
"""One key for all tests: who reads a checkpoint needs to know it."""


def repeats(again: Outcome, first: Outcome) -> bool:
    """Whether it is the same outcome once more; only the tree that it tells of may have grown."""
    return again.replayed and again[1:3] == first[1:3] and (again.tree_size or 0) >= (first.tree_size or 0)


def decider(policy: Policy | None = None) -> Decider:
    """Return a decider on these codecs."""
    return Decider(TOPICS, CODECS, policy or Policy())


def post(account_id: str = "alice", amount: int = UNIT, entry_type: EntryType = CREDIT, **fields: Any) -> PostEntry:
    """Return a command; `amount` in units."""
    return PostEntry("c-1", None, account_id, entry_type, amount, "USD")._replace(**fields)


def an_account(version: int, balances: dict[str, int], **fields: Any) -> Account:
    """Return an account that is open."""
    return Account(version, balances, status=AccountStatus.OPEN)._replace(**fields)


def new_state(partition: int = 0, partition_count: int = 1) -> PartitionState:
    """Return the state of a partition that was opened, on a disk of its own."""
    state = PartitionState(partition, MemoryStores().open(partition))
    event = PartitionOpened(0, 1, NOON, partition, partition_count)
    state.replay([StoredEvent(partition, 0, CODECS.events.encode(event), event)])
    return state


def posted(account_id: str = "alice", amount: int = UNIT, **fields: Any) -> EntryPosted:
    """Return an event that says that an entry was posted."""
    return EntryPosted(
        sequence=1,
        writer_epoch=1,
        recorded_at=NOON,
        command_id="c-1",
        command_offset=0,
        payload_hash=b"\x01" * 32,
        account_id=account_id,
        version=1,
        entry_type=CREDIT,
        amount=amount,
        asset="USD",
        running_balance=amount,
        reference=None,
        metadata=None,
        effective_at=None,
    )._replace(**fields)


def _head(account_id: str, **fields: Any) -> dict[str, Any]:
    """Return the fields that every event of an account has."""
    head = {
        "sequence": 1,
        "writer_epoch": 1,
        "recorded_at": NOON,
        "command_id": "c-1",
        "command_offset": 0,
        "payload_hash": b"\x03" * 32,
        "account_id": account_id,
        "version": 1,
    }
    return {**head, **fields}


def opened(account_id: str = "alice", *, floor: int | None = 0, **fields: Any) -> AccountOpened:
    """Return an event that says that an account was opened."""
    rules = {"assets": (), "account_type": None, "reference": None, "metadata": None}
    return AccountOpened(**{**_head(account_id), "floor": floor, **rules, **fields})


def frozen(account_id: str = "alice", **fields: Any) -> AccountFrozen:
    """Return an event that says that an account was frozen."""
    return AccountFrozen(**{**_head(account_id), "reason": None, **fields})


def unfrozen(account_id: str = "alice", **fields: Any) -> AccountUnfrozen:
    """Return an event that says that an account was unfrozen."""
    return AccountUnfrozen(**{**_head(account_id), "reason": None, **fields})


def closed(account_id: str = "alice", **fields: Any) -> AccountClosed:
    """Return an event that says that an account was closed."""
    return AccountClosed(**{**_head(account_id), "permanent": False, "reason": None, **fields})


def reopened(account_id: str = "alice", **fields: Any) -> AccountReopened:
    """Return an event that says that an account was reopened."""
    return AccountReopened(**{**_head(account_id), "reason": None, **fields})


def lock_granted(account_id: str = "alice", **fields: Any) -> LockGranted:
    """Return an event that says that an account was locked."""
    return LockGranted(**{**_head(account_id), "token": 1, "expires_at": NOON + 1, **fields})


def lock_released(account_id: str = "alice", **fields: Any) -> LockReleased:
    """Return an event that says that a lock was ended."""
    return LockReleased(**{**_head(account_id), "token": 1, **fields})


def hold_placed(account_id: str = "alice", hold_id: str = "h-1", **fields: Any) -> HoldPlaced:
    """Return an event that says that funds were reserved."""
    amounts = {"amount": UNIT, "asset": "USD", "balance": UNIT, "held": UNIT, "expires_at": None}
    texts = {"reference": None, "metadata": None}
    return HoldPlaced(**{**_head(account_id, command_id=hold_id), "hold_id": hold_id, **amounts, **texts, **fields})


def hold_settled(account_id: str = "alice", hold_id: str = "h-1", **fields: Any) -> HoldSettled:
    """Return an event that says that held funds were taken."""
    amounts = {"amount": UNIT, "asset": "USD", "remaining": 0, "running_balance": 0, "held": 0}
    texts = {"reference": None, "metadata": None, "effective_at": None}
    return HoldSettled(**{**_head(account_id), "hold_id": hold_id, **amounts, **texts, **fields})


def hold_released(account_id: str = "alice", hold_id: str = "h-1", **fields: Any) -> HoldReleased:
    """Return an event that says that a hold was ended."""
    amounts = {"amount": UNIT, "asset": "USD", "balance": UNIT, "held": 0}
    rest = {"expired": False, "reason": None}
    return HoldReleased(**{**_head(account_id), "hold_id": hold_id, **amounts, **rest, **fields})


def rejected(account_id: str = "alice", **fields: Any) -> CommandRejected:
    """Return an event that says that a command was rejected."""
    return CommandRejected(
        sequence=1,
        writer_epoch=1,
        recorded_at=NOON,
        command_id="c-1",
        command_offset=0,
        payload_hash=b"\x02" * 32,
        account_id=account_id,
        command_type="PostEntry",
        code="InsufficientFunds",
        message="not enough",
        details={"account_id": account_id, "asset": "USD", "available": "0", "requested": "1"},
        version=0,
        asset="USD",
        balance=0,
    )._replace(**fields)


def record(value: Command | bytes | None, offset: int, partition: int = 0) -> Record:
    """Return a command, or any bytes, as the commands topic holds it."""
    if value is None or isinstance(value, bytes):
        return Record(partition, offset, b"key", value)
    return Record(partition, offset, key_of(value).encode(), CODECS.commands.encode(value))


def with_amount_bytes(command: PostEntry, data: bytes) -> bytes:
    """Return the wire bytes of a command whose amount is these bytes, however many: what any producer may send."""
    units = b"\x0bamount here"
    value = CODECS.commands.encode(command._replace(amount=int.from_bytes(units, "big")))
    length, size = len(data) << 1, bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return value.replace(bytes([len(units) << 1]) + units, bytes([*size, length]) + data)
