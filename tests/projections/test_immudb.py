"""A real immudb: our verifier takes all that it shows, and nothing that was changed; what was trusted stays so."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from events.merkle import ProofInvalid
from projections.immudb.client import ImmudbClient
from projections.immudb.errors import (
    ImmudbConflict,
    ImmudbRefused,
    ImmudbTampered,
    ImmudbUnavailable,
    TrustedStateBusy,
    TrustedStateInvalid,
)
from projections.immudb.messages import dual_proof
from projections.immudb.proofs import check_linked, verify_dual_proof, verify_entries, verify_entry
from projections.immudb.records import EMPTY, Entry, entry_of, stored_key, value_hash
from projections.immudb.shown import Address, KeyExists
from projections.immudb.trust import TrustFile
from projections.immudb.verified import VerifiedDatabase
from tests.support.forging import forgeries
from tests.support.immudb import address, new_client, new_database
from tests.support.immudb_chain import Chain
from tests.support.stack import Stack

SIZES = [1, 2, 3, 5, 8, 13, 31, 64, 70, 256]
TRANSACTIONS = 70


@pytest.fixture(scope="module")
def filled(full_stack: Stack) -> Iterator[tuple[ImmudbClient, Chain]]:
    """A database of many transactions, and the same in our own model of one."""
    with new_client(full_stack) as client:
        yield client, filled_chain(client)


def filled_chain(client: ImmudbClient) -> Chain:
    """Fill a database, and return our own model of it."""
    chain = Chain()
    for number in range(TRANSACTIONS):
        count = SIZES[number % len(SIZES)] if number < 2 * len(SIZES) else 1 + number % 3
        pairs = [(b"%04d/%04d" % (number, entry), os.urandom(1 + entry % 50)) for entry in range(count)]
        shown = client.set_new(pairs, since=max(number, 1) if number else 0)()
        header = chain.add([entry_of(key, value) for key, value in pairs])
        chain.headers[-1] = replace(header, ts=shown.header.ts, tree_root=header.tree_root if number else EMPTY_TREE)
    return chain


EMPTY_TREE = bytes(32)


@pytest.fixture
def trust(tmp_path: Path) -> TrustFile:
    return TrustFile(tmp_path / "trusted" / "state.json")


@pytest.fixture
def database(full_stack: Stack, trust: TrustFile) -> Iterator[VerifiedDatabase]:
    with new_database(full_stack, trust.path) as made:
        yield made


def trusted(trust: TrustFile) -> Any:
    return json.loads(trust.path.read_text())


def test_what_immudb_shows_of_all_pairs_of_transactions_is_what_our_model_shows(
    filled: tuple[ImmudbClient, Chain],
) -> None:
    client, chain = filled
    assert client.state() == chain.header(TRANSACTIONS).state
    for target in range(1, TRANSACTIONS + 1):
        check_linked(chain.header(target))
        for source in {1, 2, target // 2, target - 2, target - 1, target} & set(range(1, target + 1)):
            shown = client.tx(target, since=source)
            verify_dual_proof(shown.proof, chain.header(source).state, chain.header(target).state)
            assert shown.proof == chain.dual_proof(source, target), (source, target)
            verify_entries(chain.header(target), shown.entries)
            assert list(shown.entries) == chain.entries[target - 1]


@pytest.mark.parametrize(("source", "target"), [(1, 1), (1, 2), (7, 7), (7, 8), (8, 9), (5, 70), (33, 64), (64, 65)])
def test_a_real_proof_with_any_field_changed_is_refused(
    filled: tuple[ImmudbClient, Chain], source: int, target: int
) -> None:
    client, chain = filled
    known, reached = chain.header(source).state, chain.header(target).state
    message = client._shown_tx(target, since=source).dualProof
    taken = []
    for name, forged in forged_messages(message):
        try:
            verify_dual_proof(dual_proof(forged), known, reached)
        except ProofInvalid:
            continue
        taken.append(name)
    assert taken == []


def test_a_real_entry_with_any_field_of_its_proof_changed_is_refused(filled: tuple[ImmudbClient, Chain]) -> None:
    client, _ = filled
    shown = client.get(b"0005/0007", since=1)
    assert shown is not None
    header, entry = shown.proof.target, Entry(stored_key(shown.key), value_hash(shown.value), shown.metadata)
    verify_entry(header, entry, shown.inclusion)
    for _, forged in forgeries(shown.inclusion):
        with pytest.raises(ProofInvalid):
            verify_entry(header, entry, forged)


def forged_messages(message: Any) -> Iterator[tuple[str, Any]]:
    """Yield copies of a message of protobuf, in each of which one field is another."""
    for change, name in _changes(message, ""):
        copy = type(message)()
        copy.CopyFrom(message)
        change(copy)
        yield name, copy


def _changes(message: Any, path: str) -> Iterator[tuple[Callable[[Any], None], str]]:
    """Yield, for each field of a message and of those in it, what changes it, given the outermost message."""
    for field in message.DESCRIPTOR.fields:
        name = f"{path}.{field.name}"
        if field.message_type is not None:
            parts = getattr(message, field.name)
            inner = list(parts) if field.is_repeated else [parts]
            for number, part in enumerate(inner):
                for change, inner_name in _changes(part, f"{name}[{number}]"):
                    yield _within(field, number, change), inner_name
        elif field.is_repeated:
            for number, value in enumerate(getattr(message, field.name)):
                yield _set_item(field.name, number, _other(value)), f"{name}[{number}]"
            yield _append(field.name, bytes(32)), f"{name} with one more"
        else:
            yield _set(field.name, _other(getattr(message, field.name))), name


def _other(value: Any) -> Any:
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"\x01"
    return not value if isinstance(value, bool) else value + 1


def _set(name: str, value: Any) -> Callable[[Any], None]:
    return lambda message: setattr(message, name, value)


def _set_item(name: str, number: int, value: Any) -> Callable[[Any], None]:
    return lambda message: getattr(message, name).__setitem__(number, value)


def _append(name: str, value: Any) -> Callable[[Any], None]:
    return lambda message: getattr(message, name).append(value)


def _within(field: Any, number: int, change: Callable[[Any], None]) -> Callable[[Any], None]:
    def apply(message: Any) -> None:
        inner = getattr(message, field.name)
        change(inner[number] if field.is_repeated else inner)

    return apply


def test_what_is_kept_again_is_not_written_again(database: VerifiedDatabase, trust: TrustFile) -> None:
    pairs = [(b"k/%05d" % number, b"value %d" % number) for number in range(2500)]
    assert database.keep(pairs) == (2500, 0)
    assert trusted(trust)["tx"] == 3
    assert database.keep(pairs[1000:2000]) == (0, 1000)
    more = [*pairs[2400:], (b"new", b"1")]
    assert database.keep(more) == (1, 100)
    assert trusted(trust)["tx"] == 4


def test_another_value_under_a_key_is_an_alarm(database: VerifiedDatabase) -> None:
    database.keep([(b"a", b"1"), (b"b", b"2")])
    with pytest.raises(ImmudbConflict) as raised:
        database.keep([(b"b", b"3"), (b"c", b"4")])
    assert raised.value.details["key"] == "b"
    assert database.get(b"c") is None


def test_the_first_contact_is_written_down_as_such(database: VerifiedDatabase, trust: TrustFile) -> None:
    database.keep([(b"a", b"1")])
    known = trusted(trust)
    assert (known["origin"], known["first_tx"], known["tx"]) == ("first contact", 0, 1)


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "other JSON", "gone"])
def test_a_damaged_trusted_state_stops_everything(database: VerifiedDatabase, trust: TrustFile, damage: str) -> None:
    database.keep([(b"a", b"1")])
    text = trust.path.read_text()
    match damage:
        case "cut":
            trust.path.write_text(text[: len(text) // 2])
        case "emptied":
            trust.path.write_text("")
        case "changed":
            trust.path.write_text(text.replace('"tx": 1', '"tx": 0'))
        case "other JSON":
            trust.path.write_text('["tx"]')
        case _:
            trust.path.unlink()
    before = trust.path.read_bytes() if trust.path.exists() else None
    for call in (lambda: database.keep([(b"b", b"2")]), lambda: database.get(b"a"), database.catch_up):
        with pytest.raises(TrustedStateInvalid, match="--trust-server"):
            call()
    assert before == (trust.path.read_bytes() if trust.path.exists() else None)
    was, now = database.trust_server()
    assert (was, now.origin, now.tx) == (None, "by hand", 1)
    assert database.get(b"b") is None


def test_a_history_other_than_the_trusted_one_is_told(database: VerifiedDatabase, trust: TrustFile) -> None:
    database.keep([(b"a", b"1")])
    with trust.locked() as held:
        known = held.read()
        assert known is not None
        held.write(replace(known, alh=EMPTY.alh.hex()))
    for call in (lambda: database.keep([(b"b", b"2")]), lambda: database.get(b"a"), database.catch_up):
        with pytest.raises(ImmudbTampered):
            call()


def test_a_server_that_has_less_than_it_had_is_told(database: VerifiedDatabase, trust: TrustFile) -> None:
    database.keep([(b"a", b"1")])
    with trust.locked() as held:
        known = held.read()
        assert known is not None
        held.write(replace(known, tx=9))
    for call in (lambda: database.keep([(b"b", b"2")]), lambda: database.get(b"a"), database.catch_up):
        with pytest.raises(ImmudbTampered):
            call()


def test_the_trusted_state_is_of_one_database(
    full_stack: Stack, database: VerifiedDatabase, trust: TrustFile
) -> None:
    database.keep([(b"a", b"1")])
    with new_database(full_stack, trust.path) as other, pytest.raises(TrustedStateInvalid, match="is the address"):
        other.catch_up()


def test_only_one_at_a_time_has_the_trusted_state(database: VerifiedDatabase, trust: TrustFile) -> None:
    with trust.locked(), pytest.raises(TrustedStateBusy), trust.locked(wait=0.05):
        pass
    threads = [threading.Thread(target=database.keep, args=([(b"%d" % n, b"v")],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert trusted(trust)["tx"] == 8


def test_a_key_is_read_with_its_evidence(database: VerifiedDatabase) -> None:
    database.keep([(b"%d" % number, b"v%d" % number) for number in range(5)])
    alone = database.add([(b"one", b"more")])
    assert alone is not None
    assert database.add([(b"two", b"1"), (b"one", b"more")]) is None
    assert database.get(b"two") is None
    together = database.add([(b"t%d" % number, b"v%d" % number) for number in range(7)]) or []
    for evidence in together:
        shown = database.get(evidence.key)
        assert shown is not None
        assert (shown.value, shown.inclusion, shown.header) == (evidence.value, evidence.inclusion, evidence.header)
    assert len(together) == 7
    found, first = database.get(b"one"), database.get(b"3")
    assert found is not None
    assert first is not None
    assert (found.value, found.header, found.revision) == (b"more", alone[0].header, 1)
    assert (first.value, first.header.tx, first.inclusion.width) == (b"v3", 1, 5)


def test_who_can_not_be_reached_or_refuses_is_told_within_the_time(full_stack: Stack) -> None:
    nobody = ImmudbClient(address(full_stack, "defaultdb", port=1, timeout=2.0))
    with pytest.raises(ImmudbUnavailable):
        nobody.state()
    stranger = ImmudbClient(address(full_stack, "defaultdb", password=lambda: "wrong secret"))
    with pytest.raises(ImmudbRefused) as raised:
        stranger.state()
    assert "wrong secret" not in str(raised.value.to_dict())
    misnamed = ImmudbClient(address(full_stack, "No Name"))
    with pytest.raises(ImmudbRefused):
        misnamed.state()


def test_who_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        known = Address(
            host="127.0.0.1",
            port=deaf.getsockname()[1],
            database="defaultdb",
            username="immudb",
            password=lambda: "immudb",
            timeout=0.5,
        )
        begin = time.monotonic()
        client = ImmudbClient(known)
        with pytest.raises(ImmudbUnavailable):
            client.state()
        client.close()
        assert time.monotonic() - begin < 5


def test_a_session_that_the_server_forgot_is_opened_again(full_stack: Stack) -> None:
    with new_client(full_stack) as client:
        client.connect()
        client._session = [("sessionid", "forgotten")]
        assert client.state().tx == 0


def test_keys_that_exist_are_told_apart(full_stack: Stack) -> None:
    with new_client(full_stack) as client:
        client.set_new([(b"a", b"1")], since=0)()
        with pytest.raises(KeyExists):
            client.set_new([(b"a", b"1"), (b"b", b"1")], since=1)()
        assert [found.key for found in client.find([b"a", b"b"])] == [b"a"]
