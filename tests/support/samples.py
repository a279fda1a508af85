"""Values to test with: codecs without a registry, and commands, events and records that are right unless told."""

from typing import Any

import schemas
from commands.codec import OutcomeCodec, command_codec
from commands.group import Codecs, Decider
from commands.types import Policy, PostEntry
from events.codec import Undecodable, event_codec
from events.follow import Record
from events.money import UNITS_PER_WHOLE
from events.topics import Topics
from events.types import CommandRejected, EntryPosted, EntryType

UNIT = UNITS_PER_WHOLE
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


def decider(policy: Policy | None = None) -> Decider:
    """Return a decider on these codecs."""
    return Decider(TOPICS, CODECS, policy or Policy())


def post(account_id: str = "alice", amount: int = UNIT, entry_type: EntryType = CREDIT, **fields: Any) -> PostEntry:
    """Return a command; `amount` in units."""
    return PostEntry("c-1", None, account_id, entry_type, amount, "USD")._replace(**fields)


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


def record(value: PostEntry | bytes | None, offset: int, partition: int = 0) -> Record:
    """Return a command, or any bytes, as the commands topic holds it."""
    if isinstance(value, PostEntry):
        return Record(partition, offset, value.account_id.encode(), CODECS.commands.encode(value))
    return Record(partition, offset, b"key", value)


def with_amount_bytes(command: PostEntry, data: bytes) -> bytes:
    """Return the wire bytes of a command whose amount is these bytes, however many: what any producer may send."""
    units = b"\x0bamount here"
    value = CODECS.commands.encode(command._replace(amount=int.from_bytes(units, "big")))
    length, size = len(data) << 1, bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return value.replace(bytes([len(units) << 1]) + units, bytes([*size, length]) + data)
