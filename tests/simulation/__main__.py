"""Run seeds: `python -m tests.simulation 20000`, the first so many, on every core. One seed alone: `4711..4711`.

Progress goes to stderr, what is broken to stdout with its whole story. Exits with 1 at the first seed that breaks an
invariant, with 0 when all hold.
"""

import argparse
import logging
import sys
import time
import traceback
from multiprocessing import Pool

from tests.simulation.world import simulate

_CHUNK = 20
_TOLD_EVERY = 1000


def _seeds(text: str) -> range:
    first, _, last = text.rpartition("..")
    return range(int(first or 1), int(last) + 1)


def _quiet() -> None:
    """Handlers warn of what simulations do to them all the time."""
    logging.disable(logging.WARNING)


def _broken(seed: int) -> str | None:
    try:
        simulate(seed)
    except Exception:  # noqa: BLE001  # whatever it is, it is told with its seed
        return traceback.format_exc()
    return None


def main() -> int:
    """Run the seeds that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", type=_seeds, help="how many, or the first and the last one: 20000, 2001..20000")
    seeds: range = parser.parse_args().seeds
    began = time.monotonic()
    with Pool(initializer=_quiet) as pool:
        for done, broken in enumerate(pool.imap(_broken, seeds, chunksize=_CHUNK), 1):
            if broken is not None:
                print(f"seed {seeds[done - 1]}\n{broken}")
                return 1
            if done % _TOLD_EVERY == 0:
                print(f"{done} of {len(seeds)} seeds", file=sys.stderr)
    print(f"{len(seeds)} seeds in {time.monotonic() - began:.0f} s: all invariants hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
