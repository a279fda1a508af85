"""The payload hash tells a repeat from another command."""

import itertools
from hashlib import sha256
from typing import Any

import pytest

from commands.payload import payload_hash
from commands.types import (
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
from events.types import BatchEntry
from tests.support.samples import CREDIT, DEBIT, UNIT, post

FULL = post(reference="ref", metadata='{"a":1}', effective_at=5, expected_version=2)


def test_the_ids_of_the_asking_are_not_part_of_it() -> None:
    another = FULL._replace(command_id="another", reply_key="elsewhere", lock_token=7, dry_run=True)
    assert payload_hash(another) == payload_hash(FULL)
    entry = BatchEntry("alice", CREDIT, UNIT, "USD")
    batches = [PostBatch("b", None, (entry._replace(lock_token=token),)) for token in (None, 7)]
    assert payload_hash(batches[0]) == payload_hash(batches[1])


@pytest.mark.parametrize(
    "fields",
    [
        {"account_id": "bob"},
        {"entry_type": DEBIT},
        {"amount": 1},
        {"amount": -FULL.amount},
        {"asset": "EUR"},
        {"reference": None},
        {"reference": ""},
        {"reference": "-"},
        {"metadata": None},
        {"metadata": "{}"},
        {"effective_at": None},
        {"effective_at": 0},
        {"expected_version": None},
        {"expected_version": 0},
    ],
)
def test_every_other_field_is_part_of_it(fields: dict[str, Any]) -> None:
    assert payload_hash(FULL._replace(**fields)) != payload_hash(FULL)


def test_shifting_text_between_fields_makes_another_hash() -> None:
    parts = ["", "-", "a", "1:a", "|", "|1:a", "a|1:a", "3:a|1", "None", "é"]
    commands: list[PostEntry] = [
        post(account, asset=asset, reference=reference, metadata=metadata)
        for account, asset in itertools.product(parts, repeat=2)
        for reference, metadata in itertools.product([None, *parts], repeat=2)
    ]
    assert len({payload_hash(command) for command in commands}) == len(commands)


def test_an_amount_of_any_size_has_a_hash() -> None:
    """Python refuses to write integers of more than 4,300 digits as decimals, and any producer may send one."""
    huge = payload_hash(post(amount=1 << 1_000_000))
    assert huge != payload_hash(post(amount=(1 << 1_000_000) + 1))
    assert huge != payload_hash(post(amount=-(1 << 1_000_000)))


def test_the_hash_is_pinned_since_it_is_in_the_log_for_ever() -> None:
    assert payload_hash(FULL).hex() == "0bc8dbec97da87515cbf0dc95f0cc7f7ce792e86283bfd835219101d26385fa1"


FULL_OF_EACH: list[Command] = [
    OpenAccount("c", None, "alice", -5, ("EUR", "USD"), "customer", "ref", "{}", 0),
    FreezeAccount("c", None, "alice", "order", 3),
    UnfreezeAccount("c", None, "alice", None, None),
    CloseAccount("c", None, "alice", True, "moved", 3),
    ReopenAccount("c", None, "alice"),
    PlaceHold("c", None, "alice", UNIT, "USD", 5, "ref", "{}", 3),
    SettleHold("c", None, "alice", "h", None, "ref", "{}", 5, 3),
    ReleaseHold("c", None, "alice", "h", "over"),
    ExpireHold("c", None, "alice", "h", 3),
    LockAccount("c", None, "alice", 10**6),
    UnlockAccount("c", None, "alice", 7),
    PostBatch(
        "c", None, (BatchEntry("alice", CREDIT, UNIT, "USD"), BatchEntry("bob", DEBIT, UNIT, "USD")), True, "ref"
    ),
    ReverseBatch("c", None, "b", "a mistake", True, 5),
]


def test_so_are_the_hashes_of_the_other_commands() -> None:
    hashes = "".join(payload_hash(command).hex() for command in FULL_OF_EACH)
    assert sha256(hashes.encode()).hexdigest() == "7e665392408cb626d2002fd939e8dfda8184602d11deb9f199d17de740d458d6"
