"""What a store keeps of an account comes back as it was, in whichever of its two forms it is written."""

import json

from hypothesis import given
from hypothesis import strategies as st

from commands.records import read_account, write_account
from events.account import Account
from events.money import MAX_UNITS
from events.types import AccountStatus

units = st.integers(-MAX_UNITS, MAX_UNITS)
amounts = st.dictionaries(st.text(max_size=8), units, max_size=3)
first_four = (st.integers(0, 2**63 - 1), amounts, amounts, st.sampled_from([None, *AccountStatus]))
rest = (
    st.none() | units,
    st.lists(st.text(max_size=8), max_size=3).map(tuple),
    st.booleans(),
    amounts,
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
)
plain = st.tuples(*first_four).map(lambda fields: Account(*fields))
full = st.tuples(*first_four, *rest).map(lambda fields: Account(*fields))


@given(plain | full)
def test_every_account_comes_back(account: Account) -> None:
    read = read_account(write_account(account))
    assert read == account
    assert read.status is None or type(read.status) is AccountStatus


@given(plain)
def test_an_account_without_rules_of_its_own_is_kept_short(account: Account) -> None:
    kept = json.loads(write_account(account))
    assert len(kept) == (4 if account.status else len(Account._fields))
