"""Bugs of the trees and their checkpoints."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from commands import state
from commands.checkpoints import Checkpoints
from commands.handler import Handler
from commands.state import Draft, PartitionState
from events.checkpoint import Checkpoint, sign
from events.follow import StoredEvent
from events.log import Outgoing
from events.merkle import EMPTY_ROOT, grow, leaf_hash
from tests.simulation.planted import Bugs
from tests.support.samples import SIGNER

BUGS = Bugs()


@BUGS.plant
def an_event_is_left_out_of_the_tree() -> AbstractContextManager[object]:
    """Every seventh has a leaf of nothing."""

    def record(edge: list[bytes], size: int, leaf: bytes) -> None:
        grow(edge, size, leaf if size % 7 else leaf_hash(b""))

    return patch.object(state, "grow", record)


@BUGS.plant
def a_replay_grows_another_tree() -> AbstractContextManager[object]:
    """What comes from the log is hashed without the id of its schema."""
    original = Draft.replay

    def replay(self: Draft, stored: Sequence[StoredEvent]) -> None:
        with patch.object(state, "leaf_hash", lambda data: leaf_hash(data[5:])):
            original(self, stored)

    return patch.object(Draft, "replay", replay)


@BUGS.plant
def the_tree_grows_before_the_commit() -> AbstractContextManager[object]:
    """A draft grows the tree of its state: an aborted transaction leaves its leaves there."""
    original = Draft.__init__
    edges: dict[int, tuple[PartitionState, list[bytes]]] = {}  # with the state, whose id no other gets then

    def init(self: Draft, state: PartitionState, **given: Any) -> None:
        original(self, state, **given)
        _, self.edge = edges.setdefault(id(state), (state, self.edge))

    return patch.object(Draft, "__init__", init)


@BUGS.plant
def a_checkpoint_is_one_event_behind() -> AbstractContextManager[object]:
    """It is of the tree before the last event."""
    original = Checkpoints.of

    def of(self: Checkpoints, draft: Draft) -> Outgoing:
        made = original(self, draft)
        origin = (made.key or b"").decode()
        note = sign(Checkpoint(origin, draft.next_sequence - 1, draft.root), [SIGNER])
        return made._replace(value=note.encode())

    return patch.object(Checkpoints, "of", of)


@BUGS.plant
def a_checkpoint_is_forgotten() -> AbstractContextManager[object]:
    """None is published for a partition to which only a batch has written."""
    original = Handler._append_heads

    def append_heads(self: Handler, drafts: Any, outcomes: Any) -> None:
        first = next(iter(drafts))
        with patch.object(Draft, "has_grown", property(lambda draft: draft is first)):
            original(self, drafts, outcomes)

    return patch.object(Handler, "_append_heads", append_heads)


@BUGS.plant
def requesters_are_told_of_no_tree() -> AbstractContextManager[object]:
    """An outcome leaves as it was before the tree was known."""
    original = Handler._append_heads

    def append_heads(self: Handler, drafts: Any, outcomes: list[Outgoing]) -> None:
        original(self, drafts, [])
        self._log.append(outcomes)

    return patch.object(Handler, "_append_heads", append_heads)


@BUGS.plant
def a_root_is_that_of_nothing() -> AbstractContextManager[object]:
    """A tree of one event has the root of the empty one."""
    of_draft = Draft.root.__get__

    def root(self: Draft) -> bytes:
        return EMPTY_ROOT if self.next_sequence == 1 else bytes(of_draft(self))

    return patch.object(Draft, "root", property(root))
