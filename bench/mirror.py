"""How fast the mirror is by itself: fills a topic with events, then measures it being copied and verified."""

import time
import uuid
from contextlib import closing
from typing import Any, Final

from bench.cpu import CpuMeter
from bench.ledger import Bench
from bench.projection import measure
from partita.wiring import Wiring
from projections.mirror import ImmudbMirror

MIRRORED: Final = "bench.events"
"""What keys begin with, whatever the topic is called that was made for the run."""


def run(bench: Bench, events: int = 100_000, singles: int = 200) -> dict[str, Any]:
    """Measure on a stack and return the same as `projection.run`; each event is in immudb, and proven to be.

    `processor_seconds` is this process's while it mirrors, `immudb_processor_seconds` immudb's in all.
    """
    settings = bench.settings().model_copy(
        update={
            "immudb_host": bench.addresses["immudb_host"],
            "immudb_port": int(bench.addresses["immudb_port"]),
            "immudb_database": f"bench{uuid.uuid4().hex[:10]}",
        }
    )
    meter, begun = CpuMeter({"immudb": bench.parts["immudb"]}), time.monotonic()
    with closing(Wiring(settings).verified_database()) as immudb:
        result = measure(bench.addresses, ImmudbMirror(immudb, MIRRORED), events, singles)
        result["transactions"] = immudb.catch_up().tx
    result["immudb_processor_seconds"] = round(meter.shares()["immudb"] * (time.monotonic() - begun), 1)
    return result
