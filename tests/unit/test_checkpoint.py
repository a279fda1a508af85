"""Checkpoints: the published form of signed notes, and what is refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.checkpoint import (
    Checkpoint,
    CheckpointInvalid,
    KeyInvalid,
    Signer,
    Verifier,
    origin_of,
    read,
    sign,
    verify,
)

# The example of the Go package golang.org/x/mod/sumdb/note, which other verifiers are tested with too.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ROOT = bytes(range(32))


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.generate("partita.example/ledger")


def test_a_published_key_and_note_are_read(signer: Signer) -> None:
    verifier = Verifier.parse(PETER)
    assert str(verifier) == PETER
    body, _, signature = NOTE.rpartition("\n\n")
    data = base64.b64decode(signature.split(" ")[2])
    assert data[:4] == verifier.key_hash
    assert verifier.signed(body + "\n", data[4:])
    assert not verifier.signed(body, data[4:])


def test_a_checkpoint_is_signed_and_verified(signer: Signer) -> None:
    checkpoint = Checkpoint(origin_of("partita.example/ledger", 3), 1042, ROOT)
    note = sign(checkpoint, [signer])
    assert note.startswith("partita.example/ledger/3\n1042\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n— ")
    assert verify(note, [signer.verifier]) == (checkpoint, signer.verifier)
    assert read(note) == checkpoint


def test_keys_come_back_from_their_texts(signer: Signer) -> None:
    again = Signer.parse(signer.secret())
    assert again.verifier == signer.verifier == Verifier.parse(f" {signer.verifier}\n")
    note = sign(Checkpoint("log/0", 1, ROOT), [again])
    verify(note, [signer.verifier])


def test_a_key_that_is_rotated_signs_beside_the_old_one(signer: Signer) -> None:
    new = Signer.generate("partita.example/ledger")
    note = sign(Checkpoint("log/0", 1, ROOT), [new, signer])
    assert verify(note, [signer.verifier])[1] == signer.verifier
    assert verify(note, [new.verifier])[1] == new.verifier


def test_a_secret_key_is_never_shown(signer: Signer) -> None:
    seed = signer.secret().split("+", 4)[4]
    assert seed not in repr(signer)
    with pytest.raises(KeyInvalid) as told:
        Signer.parse(signer.secret()[:-6] + "AAAAA=")
    assert seed[:20] not in str(told.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note.replace("\n7\n", "\n8\n", 1),
        lambda note: note.replace("log/0", "log/1", 1),
        lambda note: note.replace("\n7\n", "\n07\n", 1),
        lambda note: note.replace("\n7\n", "\n-7\n", 1),
        lambda note: note.replace("\n7\n", "\n\u0667\n", 1),
        lambda note: note.replace("\n\n", "\n", 1),
        lambda note: note.replace("AAEC", "BAEC", 1),
        lambda note: note.rstrip("\n"),
        lambda note: note + "\n",
        lambda note: note + "— somebody\n",
        lambda _: "",
        lambda note: note.rpartition("— ")[0],
    ],
)
def test_a_note_that_was_changed_is_refused(signer: Signer, change: object) -> None:
    note = sign(Checkpoint("log/0", 7, ROOT), [signer])
    with pytest.raises(CheckpointInvalid):
        verify(change(note), [signer.verifier])  # type: ignore[operator]


def test_a_note_of_somebody_else_is_refused(signer: Signer) -> None:
    note = sign(Checkpoint("log/0", 7, ROOT), [Signer.generate(signer.verifier.name)])
    with pytest.raises(CheckpointInvalid, match="none of the keys"):
        verify(note, [signer.verifier])
    with pytest.raises(CheckpointInvalid, match="none is given"):
        verify(note, [])


@pytest.mark.parametrize(
    "text", ["", "a", "a+b+c", PETER[:-4], PETER.replace("c74f", "c74e"), PETER + "A", "+".join("abc")]
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(KeyInvalid):
        Verifier.parse(text)


def test_a_secret_key_is_not_taken_for_a_verifier_key_nor_the_other_way_round(signer: Signer) -> None:
    with pytest.raises(KeyInvalid, match="secret key"):
        Verifier.parse(signer.secret())
    with pytest.raises(KeyInvalid, match="no secret key"):
        Signer.parse(str(signer.verifier))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "\x00"])
def test_a_name_that_would_break_a_note_is_refused(name: str) -> None:
    with pytest.raises(KeyInvalid):
        Signer.generate(name)


@given(st.text(max_size=200))
def test_any_text_is_a_checkpoint_or_is_refused(text: str) -> None:
    try:
        checkpoint = read(text)
    except CheckpointInvalid:
        return
    assert text.startswith(checkpoint.body)
