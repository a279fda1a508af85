"""Receipts: how many one process verifies in a second, from their JSON to the entry. No service is needed."""

import json
import time
from typing import Any, Final

from events.checkpoint import Checkpoint, Signer, origin_of, sign
from events.codec import RecordCodec
from events.merkle import Node, assemble, inclusion_parts, leaf_hash, nodes_of
from events.types import EntryPosted, EntryType
from partita.receipts import Receipt, entry_shown, verify_receipt
from partita.results import entry_at
from projections.proofs.tiles import Tile, appended, hashes_of, root_at, tiles_of

_EVENTS: Final = 100_000
_RECEIPTS: Final = 2_000
_NOON: Final = 1_790_000_000_000_000
_NAME: Final = "bench.example/ledger"


def run() -> dict[str, Any]:
    """Verify receipts spread over a tree; seconds are of the thread's own time, since other processes run too."""
    codec = RecordCodec("EntryPosted", EntryPosted, 1)
    leaves = [codec.encode(_entry(number)) for number in range(_EVENTS)]
    begun = time.thread_time()
    tiles = appended({}, 0, [leaf_hash(leaf) for leaf in leaves])
    building = time.thread_time() - begun
    signer = Signer.generate(_NAME)
    root = root_at(_EVENTS, tiles)
    note = sign(Checkpoint(origin_of(_NAME, 0), _EVENTS, root), [signer])
    places = range(0, _EVENTS, _EVENTS // _RECEIPTS)
    texts = [json.dumps(_receipt(place, leaves[place], tiles, root, note, signer).to_dict()) for place in places]
    begun = time.thread_time()
    for text in texts:
        verify_receipt(text, [signer.verifier])
    seconds = time.thread_time() - begun
    return {
        "events_into_tiles_per_second": round(_EVENTS / building),
        "receipts_verified_per_second": round(len(texts) / seconds),
        "tree_size": _EVENTS,
        "hashes_of_a_proof": len(json.loads(texts[0])["inclusion_proof"]),
    }


def _entry(number: int) -> EntryPosted:
    head = number, 1, _NOON + number, f"command-{number}", number, b"\x07" * 32, f"account-{number % 1000}", number
    amounts = EntryType.CREDIT, 10**18 + number, "USD", 10**21 + number
    return EntryPosted(*head, *amounts, f"order {number}", '{"channel":"web"}', None)


def _receipt(place: int, leaf: bytes, tiles: dict[Tile, bytes], root: bytes, note: str, signer: Signer) -> Receipt:
    parts = inclusion_parts(place, _EVENTS)
    needed: set[Node] = nodes_of(parts)
    return Receipt(
        entry=entry_shown(entry_at(0, _entry(place))),
        leaf=leaf,
        leaf_index=place,
        tree_size=_EVENTS,
        root=root,
        inclusion_proof=assemble(parts, hashes_of(needed, {tile: tiles[tile] for tile in tiles_of(needed)})),
        checkpoint=note,
        public_key=str(signer.verifier),
    )
