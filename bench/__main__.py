"""`python -m bench [handler] [projection] [latency] [path]`: runs them on the local stack and prints JSON."""

import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any, Final

import typer

from bench import handler, path, projection
from bench.ledger import Bench, on_stack
from partita import stack
from partita.settings import Settings

BENCHMARKS: Final[dict[str, Callable[[Bench], dict[str, Any]]]] = {
    "handler": handler.run,
    "projection": lambda bench: projection.run(bench.addresses),
    "latency": lambda bench: path.run(bench, seconds=30, rate=500),
    "path": path.run,
}


def main(names: list[str] = typer.Argument(None, help="Which; all when none is named.")) -> None:  # noqa: B008
    """Run benchmarks on the local stack and print their results as JSON, all from one run."""
    chosen = names or list(BENCHMARKS)
    if unknown := [name for name in chosen if name not in BENCHMARKS]:
        raise typer.BadParameter(f"{unknown[0]}: choose from {', '.join(BENCHMARKS)}")
    settings = Settings()
    was_up = stack.read_addresses(settings.stack_dir) is not None
    stack.up(settings.stack_dir, parts=("kafka", "registry", "postgres"), cache=settings.cache_dir)
    try:
        bench = on_stack(settings.stack_dir)
        results: dict[str, Any] = {"machine": {"processors": os.cpu_count(), "python": platform.python_version()}}
        for name in chosen:
            sys.stderr.write(f"{name} ...\n")
            results[name] = BENCHMARKS[name](bench)
    finally:
        if not was_up:
            stack.down(settings.stack_dir)
    sys.stdout.write(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
