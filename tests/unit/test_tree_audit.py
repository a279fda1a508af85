"""The audit of checkpoints: an honest log passes, and each way to lie about it is found and placed."""

from collections.abc import Callable, Sequence

import pytest

from events.checkpoint import Checkpoint, Signer, origin_of, sign
from events.follow import Record, StoredEvent
from events.merkle import EMPTY_ROOT, grow, leaf_hash, root_of
from events.tree_audit import TreeAudit
from events.types import PartitionOpened

ORIGIN = "partita.example/ledger"
SIGNER = Signer.generate(ORIGIN)
LEAVES = [f"event {number}".encode() for number in range(7)]

Note = tuple[int, bytes]
"""The size and the root that a checkpoint is to have."""


def heads(leaves: Sequence[bytes] = LEAVES, sizes: Sequence[int] = (1, 4, 7)) -> list[Note]:
    edge: list[bytes] = []
    found = []
    for size, leaf in enumerate(leaves):
        grow(edge, size, leaf_hash(leaf))
        if size + 1 in sizes:
            found.append((size + 1, root_of(edge)))
    return found


def fault(
    notes: Sequence[Note],
    leaves: Sequence[bytes] = LEAVES,
    *,
    open_from: int = 100,
    change: Callable[[str], str] = lambda note: note,
    signer: Signer = SIGNER,
    origin: str = origin_of(ORIGIN, 0),
) -> str | None:
    audit = TreeAudit(ORIGIN, 1, [SIGNER.verifier], open_from)
    for offset, (size, root) in enumerate(notes):
        note = change(sign(Checkpoint(origin, size, root), [signer]))
        audit.take_checkpoint(Record(0, offset, origin.encode(), note.encode()))
    opened = PartitionOpened(0, 1, 0, 0, 1)
    for sequence, leaf in enumerate(leaves):
        audit.take(StoredEvent(0, 10 + sequence, leaf, opened._replace(sequence=sequence)))
    result = audit.result()
    assert result.ok is (result.detail is None)
    assert result.checked == len(notes)
    return result.detail


def test_an_honest_log_passes() -> None:
    assert fault(heads()) is None
    assert fault([], []) is None


def test_a_checkpoint_that_is_published_twice_is_no_fault() -> None:
    one, four, seven = heads()
    assert fault([one, four, four, seven]) is None


def test_an_event_that_was_changed_is_found() -> None:
    changed = [*LEAVES[:5], b"forged", *LEAVES[6:]]
    assert "the first 7 events" in (fault(heads(), changed) or "")


def test_an_event_that_no_checkpoint_has_is_found() -> None:
    assert "sequence 7 and 1 after it are in no checkpoint" in (fault(heads(), [*LEAVES, b"8", b"9"]) or "")


def test_a_tail_that_was_cut_off_is_found() -> None:
    assert "is of 7 events, the log has 6" in (fault(heads(), LEAVES[:6]) or "")


def test_a_checkpoint_whose_events_came_while_the_log_was_read_is_no_fault() -> None:
    assert fault(heads(), LEAVES[:6], open_from=2) is None


def test_a_shorter_tree_that_was_signed_later_is_found() -> None:
    one, four, seven = heads()
    told = fault([one, four, seven, four])
    assert told == "checkpoint at offset 3: partition 0 has 4 events, and had 7 in the checkpoint at offset 2"


def test_a_tree_without_events_that_was_signed_hides_nothing() -> None:
    """It is no head that the tree ever had; one that waits for its turn would keep all behind it from theirs."""
    one, four, seven = heads()
    assert "a tree without events" in (fault([(0, EMPTY_ROOT), one, four, seven]) or "")


def test_another_tree_that_was_signed_is_found() -> None:
    other = heads([*LEAVES[:3], b"other", *LEAVES[4:]])
    assert "those of the checkpoint at offset 1" in (fault([heads()[0], other[1], heads()[2]]) or "")


@pytest.mark.parametrize(
    "change", [lambda note: note.replace("\n4\n", "\n5\n"), lambda _: "", lambda note: note[:-9]]
)
def test_a_note_that_was_changed_is_found(change: Callable[[str], str]) -> None:
    assert "checkpoint at offset" in (fault(heads(), change=change) or "")


def test_a_note_that_another_key_has_signed_is_found() -> None:
    assert "none of the keys" in (fault(heads(), signer=Signer.generate(ORIGIN)) or "")


@pytest.mark.parametrize("origin", [f"{ORIGIN}/1", f"{ORIGIN}/00", ORIGIN, "another/0"])
def test_a_note_of_another_log_is_found(origin: str) -> None:
    assert f"{origin} is no partition" in (fault(heads(), origin=origin) or "")
