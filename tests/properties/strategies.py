"""Commands, events and outcomes of every valid kind, for Hypothesis."""

import json
from typing import Any, get_args

from hypothesis import strategies as st

from commands.codec import Outcome
from commands.types import (
    STEP_TYPES,
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
    ReportSettlement,
    ReserveBatch,
    ReverseBatch,
    SettleHold,
    Step,
    TryBatch,
    UnfreezeAccount,
    UnlockAccount,
)
from commands.validation import MAX_TIME
from events.money import MAX_UNITS
from events.types import (
    EVENT_TYPES,
    BatchEntry,
    BatchPosted,
    BatchResult,
    BatchSettled,
    BatchStarted,
    EntryResult,
    EntryType,
    Event,
    LockGranted,
    LockToken,
    PlacedEntry,
)
from tests.support.samples import OUTCOME_EVENTS

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
identifiers = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=40)
counts = st.integers(0, 2**63 - 1)
amounts = st.integers(1, MAX_UNITS)
units = st.integers(-MAX_UNITS, MAX_UNITS)
times = st.integers(0, MAX_TIME)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
metadata = st.dictionaries(text, json_values, max_size=4).map(json.dumps)

_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "sequence": counts,
    "writer_epoch": counts,
    "recorded_at": times,
    "command_id": identifiers,
    "command_offset": counts,
    "payload_hash": st.binary(min_size=32, max_size=32),
    "account_id": identifiers,
    "version": counts,
    "reply_key": st.none() | identifiers,
    "entry_type": st.sampled_from(EntryType),
    "amount": amounts,
    "asset": identifiers,
    "running_balance": units,
    "balance": units,
    "held": units,
    "remaining": units,
    "reference": st.none() | text,
    "metadata": st.none() | metadata,
    "reason": st.none() | text,
    "effective_at": st.none() | times,
    "expires_at": st.none() | times,
    "expected_version": st.none() | counts,
    "dry_run": st.booleans(),
    "floor": st.none() | units,
    "assets": st.lists(identifiers, max_size=4).map(tuple),
    "account_type": st.none() | text,
    "permanent": st.booleans(),
    "expired": st.booleans(),
    "hold_id": identifiers,
    "lock_token": st.none() | counts,
    "token": counts,
    "lease": counts,
    "attempt": counts,
    "batch_id": identifiers,
    "leg": st.integers(0, 999),
    "legs": st.integers(1, 1000),
    "home": st.integers(0, 999),
    "balanced": st.booleans(),
    "force": st.booleans(),
    "forced": st.booleans(),
    "reserved": st.booleans(),
    "reversal_of": st.none() | identifiers,
    "partition": st.integers(0, 999),
    "partition_count": st.integers(1, 1000),
    "command_type": text,
    "code": text,
    "message": text,
    "details": st.dictionaries(text, text, max_size=4),
}


def of(kind: type[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return values of a type of command or event, its fields as here unless told."""
    if kind is LockGranted:
        fields = {"expires_at": times, **fields}
    if kind in _LISTS:
        fields = {"entries": st.lists(of(_LISTS[kind]), max_size=3).map(tuple), **fields}
    if kind is TryBatch:
        fields = {"reply_key": identifiers, "results": st.lists(of(EntryResult), max_size=3).map(tuple), **fields}
    if kind is ReverseBatch:
        fields = {"locks": st.lists(of(LockToken), max_size=3).map(tuple), **fields}
    return st.builds(kind, **{name: {**_FIELDS, **fields}[name] for name in kind._fields})


_LISTS: dict[type[Any], type[Any]] = {
    PostBatch: BatchEntry,
    ReserveBatch: PlacedEntry,
    TryBatch: PlacedEntry,
    ReportSettlement: EntryResult,
    BatchStarted: PlacedEntry,
    BatchSettled: EntryResult,
    BatchPosted: BatchResult,
}
"""What the entries of these are."""

account_commands: st.SearchStrategy[AccountCommand] = st.one_of(
    [of(kind, amount=st.none() | amounts) if kind is SettleHold else of(kind) for kind in get_args(AccountCommand)]
)
commands: st.SearchStrategy[Command] = account_commands | of(PostBatch) | of(ReverseBatch)
steps: st.SearchStrategy[Step] = st.one_of([of(kind) for kind in STEP_TYPES])
events: st.SearchStrategy[Event] = st.one_of([of(kind) for kind in EVENT_TYPES])
outcomes: st.SearchStrategy[tuple[type[Any], Outcome]] = st.sampled_from(
    [(command, event) for command, kinds in OUTCOME_EVENTS.items() for event in kinds]
).flatmap(
    lambda pair: st.tuples(
        st.just(pair[0]),
        st.builds(Outcome, st.booleans(), st.integers(0, 999), of(pair[1]), st.none(), st.none()),
    )
)
"""A type of command, and an outcome that it can have, of no tree."""

_few: dict[str, st.SearchStrategy[Any]] = {
    "command_id": st.sampled_from([f"c-{i}" for i in range(12)]),
    "reply_key": st.none(),
    "account_id": st.sampled_from(["alice", "bob", "счёт"]),
    "amount": st.sampled_from([1, 3, 10**18, 10**36, MAX_UNITS - 1, MAX_UNITS]) | amounts,
    "asset": st.sampled_from(["USD", "EUR"]),
    "reference": st.none() | st.sampled_from(["", "r"]),
    "metadata": st.sampled_from([None, None, "{}", '{"b":1,"a":2}', '{"a":2, "b":1}', "[]"]),
    "effective_at": st.sampled_from([None, None, 5, -1]),
    "expires_at": st.sampled_from([None, 5, MAX_TIME]),
    "expected_version": st.sampled_from([None, None, None, None, 0, 1, 2]),
    "hold_id": st.sampled_from([f"c-{i}" for i in range(6)]),
    "floor": st.sampled_from([0, -3, -(10**18), None, 1]),
    "assets": st.sampled_from([(), (), ("USD",)]),
    "reason": st.none(),
    "lock_token": st.sampled_from([None, None, None, 1, 2, 3]),
    "token": st.integers(1, 4),
    "lease": st.sampled_from([1000, 3_600_000_000, 5]),
    "account_type": st.none(),
}
few_entries: st.SearchStrategy[PostEntry] = of(PostEntry, **_few, dry_run=st.just(False))
"""Entries that get in each other's way: few accounts, few ids, amounts from the smallest to the largest."""

_OFTEN = (PostEntry, PostEntry, PlaceHold, SettleHold, ReleaseHold)
_SELDOM = (
    ExpireHold,
    OpenAccount,
    FreezeAccount,
    UnfreezeAccount,
    CloseAccount,
    ReopenAccount,
    LockAccount,
    UnlockAccount,
)
few_commands: st.SearchStrategy[AccountCommand] = st.sampled_from(_OFTEN * 2 + _SELDOM).flatmap(
    lambda kind: of(kind, **_few, dry_run=st.sampled_from([False] * 9 + [True]))
)
"""Commands of every type that get in each other's way."""
