"""Commands, events and outcomes of every valid kind, for Hypothesis."""

import json

from hypothesis import strategies as st

from commands.codec import Outcome
from commands.types import PostEntry
from commands.validation import MAX_TIME
from events.money import MAX_UNITS
from events.types import AccountEvent, CommandRejected, EntryPosted, EntryType, PartitionOpened

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
identifiers = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=40)
longs = st.integers(-(2**63), 2**63 - 1)
counts = st.integers(0, 2**63 - 1)
amounts = st.integers(1, MAX_UNITS)
units = st.integers(-MAX_UNITS, MAX_UNITS)
times = st.integers(0, MAX_TIME)
entry_types = st.sampled_from(EntryType)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
metadata = st.dictionaries(text, json_values, max_size=4).map(json.dumps)

commands = st.builds(
    PostEntry,
    command_id=identifiers,
    reply_key=st.none() | identifiers,
    account_id=identifiers,
    entry_type=entry_types,
    amount=amounts,
    asset=identifiers,
    reference=st.none() | text,
    metadata=st.none() | metadata,
    effective_at=st.none() | times,
    expected_version=st.none() | counts,
)
opened = st.builds(PartitionOpened, counts, counts, times, st.integers(0, 999), st.integers(1, 1000))
posted = st.builds(
    EntryPosted,
    sequence=counts,
    writer_epoch=counts,
    recorded_at=times,
    command_id=identifiers,
    command_offset=counts,
    payload_hash=st.binary(min_size=32, max_size=32),
    account_id=identifiers,
    version=counts,
    entry_type=entry_types,
    amount=amounts,
    asset=identifiers,
    running_balance=units,
    reference=st.none() | text,
    metadata=st.none() | metadata,
    effective_at=st.none() | times,
)
rejected = st.builds(
    CommandRejected,
    sequence=counts,
    writer_epoch=counts,
    recorded_at=times,
    command_id=identifiers,
    command_offset=counts,
    payload_hash=st.binary(min_size=32, max_size=32),
    account_id=identifiers,
    command_type=text,
    code=text,
    message=text,
    details=st.dictionaries(text, text, max_size=4),
    version=counts,
    asset=text,
    balance=units,
)
account_events: st.SearchStrategy[AccountEvent] = posted | rejected
events = opened | account_events
outcomes = st.builds(Outcome, st.booleans(), st.integers(0, 999), account_events)

few_commands = st.builds(
    PostEntry,
    command_id=st.sampled_from([f"c-{i}" for i in range(12)]),
    reply_key=st.none(),
    account_id=st.sampled_from(["alice", "bob", "счёт"]),
    entry_type=entry_types,
    amount=st.sampled_from([1, 3, 10**18, 10**36, MAX_UNITS - 1, MAX_UNITS]) | amounts,
    asset=st.sampled_from(["USD", "EUR"]),
    reference=st.none() | st.sampled_from(["", "r"]),
    metadata=st.sampled_from([None, None, "{}", '{"b":1,"a":2}', '{"a":2, "b":1}', "[]"]),
    effective_at=st.sampled_from([None, None, 5, -1]),
    expected_version=st.sampled_from([None, None, None, 0, 1, 2]),
)
"""Commands that get in each other's way: few accounts, few ids, amounts from the smallest to the largest."""
