"""`python -m bench [NAME ...]`, of those in `_benchmarks`: runs them, or all, and prints JSON."""

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from bench import batches, handler, http, mirror, path, projection, rebuild, receipts, reconcile, snapshots, store
from bench.ledger import Bench, on_stack
from partita import stack
from partita.settings import Settings

Benchmarks = Mapping[str, Callable[[Bench], dict[str, Any]]]


def _benchmarks(accounts: int, ids: int, events: int) -> Benchmarks:
    return {
        "handler": handler.run,
        "batches": batches.run,
        "store": lambda bench: store.run(bench, accounts=accounts, ids=ids),
        "reconcile": reconcile.run,
        "projection": lambda bench: projection.run(bench.addresses),
        "rebuild": lambda bench: rebuild.run(bench.addresses, events),
        "snapshots": lambda bench: snapshots.run(bench.addresses),
        "mirror": mirror.run,
        "receipts": lambda _: receipts.run(),
        "http": http.run,
        "latency": lambda bench: path.run(bench, seconds=30, rate=500),
        "path": path.run,
    }


def main(
    names: list[str] = typer.Argument(None, help="Which; all when none is named."),  # noqa: B008
    accounts: int = typer.Option(10_000, min=2_000, help="Accounts of the ledger that `store` measures."),
    ids: int = typer.Option(100_000, min=10_000, help="Command ids of that ledger: 5000000 take half an hour."),
    events: int = typer.Option(100_000, min=1000, help="Events that `rebuild` reads: 1000000 take some minutes."),
) -> None:
    """Run benchmarks on the local stack and print their results as JSON, all from one run."""
    benchmarks = _benchmarks(accounts, ids, events)
    chosen = names or list(benchmarks)
    if unknown := [name for name in chosen if name not in benchmarks]:
        raise typer.BadParameter(f"{unknown[0]}: choose from {', '.join(benchmarks)}")
    settings = Settings()
    was_up = stack.read_addresses(settings.stack_dir) is not None
    stack.up(settings.stack_dir, parts=("kafka", "registry", "postgres", "immudb"), cache=settings.cache_dir)
    try:
        results: dict[str, Any] = {"machine": {"processors": os.cpu_count(), "python": platform.python_version()}}
        with tempfile.TemporaryDirectory(prefix="partita-bench-") as state:
            bench = on_stack(settings.stack_dir, Path(state))
            for name in chosen:
                sys.stderr.write(f"{name} ...\n")
                results[name] = benchmarks[name](bench)
    finally:
        if not was_up:
            stack.down(settings.stack_dir)
    sys.stdout.write(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
