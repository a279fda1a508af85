"""The payload hash tells a repeat from another command."""

import itertools
from typing import Any

import pytest

from commands.payload import payload_hash
from commands.types import PostEntry
from tests.support.samples import DEBIT, post

FULL = post(reference="ref", metadata='{"a":1}', effective_at=5, expected_version=2)


def test_the_ids_of_the_asking_are_not_part_of_it() -> None:
    assert payload_hash(FULL._replace(command_id="another", reply_key="elsewhere")) == payload_hash(FULL)


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
