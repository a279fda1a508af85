"""The `partita` command."""

import typer

from partita.cli import (
    accounts,
    anchor,
    audit,
    batches,
    bulk,
    deadletter,
    demo,
    entries,
    history,
    holds,
    immudb,
    keys,
    migrating,
    rebuild,
    receipts,
    reconcile,
    replaying,
    roles,
    run,
    stack,
    verify,
)
from partita.cli.asking import STATUSES

app = typer.Typer(
    name="partita",
    help="Partita: an append-only settlement ledger, event-sourced on Kafka.\n\n"
    "Addresses come from PARTITA_KAFKA_BOOTSTRAP, PARTITA_SCHEMA_REGISTRY_URL and PARTITA_POSTGRES_URL, else from "
    "the local stack that is up (`partita stack up`).\n\n"
    "Exit status: 0 done, 1 failed, 2 usage, 3 rejected, 4 a service is not there, 5 the outcome is not known, "
    "6 nothing to verify against.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.add_typer(stack.app, name="stack")
app.add_typer(run.app, name="run")
app.add_typer(deadletter.app, name="deadletter")
app.add_typer(accounts.app, name="account")
app.add_typer(holds.app, name="hold")
app.add_typer(batches.app, name="batch")
app.add_typer(reconcile.app, name="discrepancy")
app.add_typer(anchor.app, name="anchor")
app.add_typer(audit.app, name="audit")
app.add_typer(immudb.app, name="immudb")
app.add_typer(keys.app, name="keys")
app.command()(demo.demo)
app.command(epilog=STATUSES)(entries.post)
app.command(epilog=STATUSES)(bulk.post_many)
app.command(epilog=STATUSES)(batches.transfer)
app.command(epilog=reconcile.STATUSES)(reconcile.reconcile)
app.command()(entries.balance)
app.command()(entries.statement)
app.command()(history.snapshot)
app.command("trial-balance")(history.trial_balance)
app.command("replay")(replaying.replay_command)
app.command()(rebuild.rebuild)
app.command()(roles.roles)
app.command()(migrating.migrate)
app.command()(verify.verify)
app.command()(receipts.receipt)
app.command()(receipts.checkpoint)
app.command(name="verify-consistency")(receipts.verify_consistency)
app.command(name="verify-receipt")(receipts.verify_receipt_command)


def main() -> None:
    """Run the command line."""
    app()
