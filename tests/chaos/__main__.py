"""`python -m tests.chaos`: break the handlers and the broker of a bank, again and again, and see that it adds up.

Progress goes to stderr, the report to stdout. The exit status is 1 when a check fails. The same seed draws the same
faults; when they come hangs on the machine.
"""

import argparse
import asyncio
import json
import logging
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from events.membership import GroupProtocol
from partita.settings import Settings
from tests.chaos.fleet import Faults
from tests.chaos.run import ACCOUNTS, LONG, Report, run
from tests.support.services import ledger_on
from tests.support.stack import native_stack


def main() -> int:
    """Run it on a stack of its own."""
    given = _arguments()
    logging.getLogger("events.clients").setLevel(logging.CRITICAL)  # that the broker is away is known here
    faults = Faults(given.kills, given.stops, given.rebalances, given.broker_kills)
    directory = Path(tempfile.mkdtemp(prefix="partita-chaos-"))
    directory.chmod(0o755)  # PostgreSQL runs as another user
    with (
        native_stack(directory / "run" / "stack", cache=Settings().cache_dir) as stack,
        ledger_on(stack.addresses, directory, group_protocol=given.protocol) as ledger,
    ):
        report = asyncio.run(run(ledger, stack, faults, given.seed, accounts=given.accounts))
    if report.ok:
        shutil.rmtree(directory)  # else it is what there is to be seen
    if given.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        _show(report)
    return 0 if report.ok else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="draws the faults")
    for name, count in LONG._asdict().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=count, help=f"default {count}")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS, help=f"default {ACCOUNTS}")
    parser.add_argument("--protocol", type=GroupProtocol, choices=list(GroupProtocol), default=GroupProtocol.CLASSIC)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser.parse_args()


def _show(report: Report) -> None:
    found = Table("what", "how many", title=f"seed {report.seed}, {report.protocol} protocol, {report.seconds} s")
    for kind, count in report.faults.items():
        found.add_row(f"fault: {kind}", f"{count} (slowest recovery {report.slowest_recovery[kind]} s)")
    found.add_row("partitions shared out again", f"{report.shared_out_again}")
    found.add_row("transfers", f"{report.transfers:,}")
    for outcome, count in report.outcomes.items():
        found.add_row(f"told: {outcome}", f"{count:,}")
    found.add_row("unknown, then asked again", f"{report.unknown:,}")
    found.add_row("longest wait of a requester", f"{report.longest_wait} s")
    checks = Table("check", "rule", "result")
    for result in report.checks:
        checks.add_row(result.name, result.title, "holds" if result.ok else f"BROKEN: {result.detail}")
    Console().print(found, checks)


if __name__ == "__main__":
    sys.exit(main())
