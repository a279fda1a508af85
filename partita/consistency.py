"""Consistency of two checkpoints: that the later log begins with the earlier one. The verifying is pure."""

from collections.abc import Sequence
from typing import NamedTuple

from events.checkpoint import Checkpoint, CheckpointInvalid, KeyInvalid, Verifier, partition_of, verify
from events.merkle import verify_consistency
from projections.proofs.queries import ProofReader


class Consistency(NamedTuple):
    """Two checkpoints of one log, and the proof that the newer begins with the older; it has been verified."""

    old: Checkpoint
    new: Checkpoint
    proof: Sequence[bytes]


async def show_consistency(
    proofs: ProofReader, old_note: str, new_note: str, verifiers: Sequence[Verifier], ledger_origin: str
) -> Consistency:
    """Return what shows that the log of one checkpoint begins with that of another.

    Raises:
        CheckpointInvalid: a note is none, is not signed by a key, or they are not two of a log of this ledger.
        ProofInvalid: it is not shown; somebody has signed two histories.
        KeyInvalid: there is no key to verify with.
        TreeDamaged: the read side has no tree of this size.
    """
    if not verifiers:
        raise KeyInvalid("checkpoints are verified against verifier keys, and none is known here: --key", given=0)
    old, new = (verify(note, verifiers)[0] for note in (old_note, new_note))
    if old.origin != new.origin:
        raise CheckpointInvalid(f"they are of two logs: {old.origin} and {new.origin}")
    if old.size > new.size:
        raise CheckpointInvalid(f"the first has {old.size} events, more than the second with {new.size}")
    proof = await proofs.consistency(partition_of(new.origin, ledger_origin), old.size, new.size)
    verify_consistency(old.size, new.size, old.root, new.root, proof)
    return Consistency(old, new, proof)
