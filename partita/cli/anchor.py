"""`partita anchor` and `partita run anchor`: the ledger's checkpoints on a chain."""

import asyncio
from typing import Annotated, Final

import typer

from partita.anchors import anchor_now, find_anchor
from partita.cli.output import Exit, Json, err, errors_told, print_fields, print_json
from partita.settings import Settings
from reconciler.anchors import Anchor

app = typer.Typer(invoke_without_command=True)

STATUSES: Final = (
    "Exit status: 0 recorded, or anchored already; 4 sent but not settled in time (ask again: it goes on), or a "
    "service or the chain's node is not there; 1 failed."
)


@app.callback(epilog=STATUSES)
def anchor(
    context: typer.Context,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait until its block is settled.")] = 900.0,
    json: Json = False,
) -> None:
    """Put one root over the newest checkpoints of all partitions on the chain, and wait until it is settled.

    PARTITA_CHAIN says which chain, PARTITA_EVM_RPC_URL by which node, PARTITA_ANCHOR_KEY_FILE by which key.
    """
    if context.invoked_subcommand is not None:
        return
    with errors_told(as_json=json):
        state, found = asyncio.run(anchor_now(Settings(), timeout=timeout))
    _print(state, found, as_json=json)
    if state == "sent":
        err.print("sent, but not settled in time: the next `partita anchor` goes on with it")
        raise typer.Exit(Exit.UNAVAILABLE)


@app.command()
def show(
    partition: Annotated[int, typer.Argument(min=0, help="The partition of the event.", show_default=False)],
    sequence: Annotated[int, typer.Argument(min=0, help="Its sequence: entry 3-17 is 3 17.", show_default=False)],
    json: Json = False,
) -> None:
    """Print the oldest anchor that covers an event, with the path from its partition's checkpoint to the root."""
    with errors_told(as_json=json):
        found = asyncio.run(find_anchor(Settings(), partition, sequence))
    _print("none" if found is None else "recorded", found, as_json=json)
    if found is None:
        raise typer.Exit(Exit.FAILED)


def _print(state: str, found: Anchor | None, *, as_json: bool) -> None:
    fields = {"state": state, **(found.to_dict() if found else {})}
    (print_json if as_json else print_fields)(fields)
