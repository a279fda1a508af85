"""What a partition's store holds, as keys and values: accounts, holds, answers, and how far the partition has come.

An account is under its id, a hold under account and hold id, an answer under account and command id; of a batch its
answer, its flight, what was promised for it, and its reversal are under its id. No id holds a NUL. Values are JSON,
whose integers are exact; an answer is the payload's hash and the event as it is in the log.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final, NamedTuple

from events.account import NEW_ACCOUNT, Account, Amounts, Hold
from events.batch import Flight, Promises
from events.types import AccountStatus, EntryResult, EntryType, PlacedEntry

POSITION_KEY: Final = b"p"
_HASH: Final = 32


def _plain(value: object) -> dict[str, object]:
    """Return as JSON has it what it does not know itself: the read-only mappings of new accounts."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"not kept in a store: {type(value).__name__}")


_json: Final = json.JSONEncoder(separators=(",", ":"), default=_plain).encode
"""Made once: `json.dumps` makes an encoder at each call, which is most of its time for an account."""

_decoded: Final = json.JSONDecoder().raw_decode
"""What `json.loads` calls after it has looked for white space and other encodings."""

_STATUSES: Final[Mapping[str | None, AccountStatus | None]] = {None: None, **{each: each for each in AccountStatus}}


class Kept(NamedTuple):
    """The answer to a command id: the hash of the payload it was for, and the event's bytes."""

    payload_hash: bytes
    data: bytes


class Position(NamedTuple):
    """How far a partition has come. Command offsets are of its commands topic, the rest of its events topic.

    `last_event` is the SHA-256 of the last event's bytes; `event_offset` is at or before its offset. `edge` is the
    right edge of the tree of its events (see `events.merkle`).
    """

    partition: int
    partition_count: int = 0
    next_sequence: int = 0
    writer_epoch: int = 0
    recorded_at: int = 0
    next_command_offset: int = 0
    event_offset: int = 0
    last_event: bytes = b""
    edge: tuple[bytes, ...] = ()


_MEANING: Final = 3
"""To be counted up when a value comes to mean something else, or is written otherwise, with the same fields."""

_KINDS: Final = (Position, Account, Hold, Flight, Promises, PlacedEntry, EntryResult)

FORMAT: Final = sha256(repr([_MEANING, *(kind._fields for kind in _KINDS)]).encode()).hexdigest()[:16]
"""Changes by itself with every field that comes or goes. A store in another format is not read but made anew."""


def account_key(account_id: str) -> bytes:
    """Return the key of an account."""
    return b"a" + account_id.encode()


def hold_key(account_id: str, hold_id: str) -> bytes:
    """Return the key of a hold, whose id is scoped by its account."""
    return b"h%b\0%b" % (account_id.encode(), hold_id.encode())


def answer_key(account_id: str, command_id: str) -> bytes:
    """Return the key of the answer to a command id, which is scoped by its account."""
    return b"c%b\0%b" % (account_id.encode(), command_id.encode())


def batch_key(batch_id: str) -> bytes:
    """Return the key of the answer to a batch."""
    return b"b" + batch_id.encode()


def flight_key(batch_id: str) -> bytes:
    """Return the key of a batch in flight. An empty value: one was, and did not use up its id."""
    return b"f" + batch_id.encode()


def promise_key(batch_id: str) -> bytes:
    """Return the key of what this partition has promised for a batch."""
    return b"r" + batch_id.encode()


def reversal_key(batch_id: str) -> bytes:
    """Return the key of the id of a batch's reversal."""
    return b"v" + batch_id.encode()


def conflict_key(key: bytes, payload_hash: bytes) -> bytes:
    """Return the key of the answer to a payload that came under an id used for another."""
    return b"%b\0%b" % (key, payload_hash)


_PLAIN: Final = NEW_ACCOUNT[4:]
"""What nearly all accounts have after their first four fields; then these are all that is kept."""
_FIELDS_OF_PLAIN: Final = len(NEW_ACCOUNT) - len(_PLAIN)


def write_account(account: Account) -> bytes:
    """Return an account as its value."""
    if account[4:] != _PLAIN or account.status is None:
        return _json(account).encode()
    return f'[{account.version},{_amounts(account.balances)},{_amounts(account.held)},"{account.status}"]'.encode()


def _amounts(amounts: Amounts) -> str:
    if len(amounts) == 1:  # nearly all
        ((asset, units),) = amounts.items()
        return f"{{{quoted(asset)}:{units}}}"
    return "{" + ",".join([f"{quoted(asset)}:{units}" for asset, units in amounts.items()]) + "}" if amounts else "{}"


def read_account(value: bytes) -> Account:
    """Return the account in a value."""
    fields, _ = _decoded(value.decode())
    if len(fields) == _FIELDS_OF_PLAIN:
        version, balances, held, status = fields
        return Account(version, balances, held, _STATUSES[status])
    version, balances, held, status, floor, assets, *rest = fields
    return Account(version, balances, held, _STATUSES[status], floor, tuple(assets), *rest)


def write_hold(hold: Hold) -> bytes:
    """Return a hold as its value."""
    return _json(hold).encode()


def read_hold(value: bytes) -> Hold:
    """Return the hold in a value."""
    return Hold(*json.loads(value))


def write_promises(promises: Promises) -> bytes:
    """Return what a partition has promised for a batch as its value."""
    home, attempt, legs, forced, payload_hash, entries = promises
    fields = (home, attempt, legs, forced, payload_hash.hex(), entries)
    return _json(fields).encode()


def read_promises(value: bytes) -> Promises:
    """Return what a partition has promised for a batch."""
    home, attempt, legs, forced, payload_hash, entries = json.loads(value)
    placed = tuple(_placed(entry) for entry in entries)
    return Promises(home, attempt, legs, forced, bytes.fromhex(payload_hash), placed)


def _placed(fields: list[Any]) -> PlacedEntry:
    entry = PlacedEntry._make(fields)
    return entry._replace(entry_type=EntryType(entry.entry_type))


def write_flight(flight: Flight) -> bytes:
    """Return a batch in flight as its value."""
    fields = flight._replace(
        payload_hash=flight.payload_hash.hex(),  # type: ignore[arg-type]  # as JSON has it
        reserved=sorted(flight.reserved),  # type: ignore[arg-type]
        results=list(flight.results.values()),  # type: ignore[arg-type]
    )
    return _json(fields).encode()


def read_flight(value: bytes) -> Flight:
    """Return the batch in flight in a value."""
    read = Flight._make(json.loads(value))
    results = [EntryResult(*result) for result in json.loads(value)[-1]]
    return read._replace(
        payload_hash=bytes.fromhex(str(read.payload_hash)),
        entries=tuple(_placed(list(entry)) for entry in read.entries),
        reserved=frozenset(read.reserved),
        results={result.leg: result for result in results},
    )


def write_answer(payload_hash: bytes, data: bytes) -> bytes:
    """Return the answer to a payload, the event's bytes, as its value."""
    return payload_hash + data


def read_answer(value: bytes) -> Kept:
    """Return the answer in a value."""
    return Kept(value[:_HASH], value[_HASH:])


def write_position(position: Position) -> bytes:
    """Return a position as its value."""
    *plain, last_event, edge = position
    return json.dumps([FORMAT, *plain, last_event.hex(), b"".join(edge).hex()]).encode()


def read_position(value: bytes) -> Position | None:
    """Return the position in a value; None when it was written in another format."""
    try:
        version, *fields, last_event, edge = json.loads(value)
        hashes = bytes.fromhex(edge)
        whole = tuple(hashes[at : at + _HASH] for at in range(0, len(hashes), _HASH))
        return Position._make([*fields, bytes.fromhex(last_event), whole]) if version == FORMAT else None
    except (ValueError, TypeError):
        return None
