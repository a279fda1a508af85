"""`partita receipt | verify-receipt | checkpoint | verify-consistency`: what an auditor holds, and verifies."""

import asyncio
import base64
import sys
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from events.checkpoint import KeyInvalid, Verifier
from partita.anchored import verify_anchored
from partita.cli.asking import Timeout, ask
from partita.cli.output import Exit, Json, err, errors_told, out, print_fields, print_json, uncut
from partita.receipts import Receipt, ReceiptInvalid, ShownEntry, entry_shown, examine_receipt, verify_receipt
from projections.immudb.evidence import Shown
from projections.proofs.queries import CheckpointRow

_MOST_BYTES: Final = 32 * 1024 * 1024


def verify_receipt_command(
    receipt: Annotated[
        typer.FileBinaryRead,
        typer.Argument(help="The file of the receipt; - for standard input.", show_default=False),
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(help="A verifier key of the ledger that you have from elsewhere; may be given several times."),
    ] = None,
    rpc: Annotated[
        str | None, typer.Option(help="A node of the chain that you trust: the anchor must be there.", metavar="URL")
    ] = None,
    json: Json = False,
) -> None:
    """Verify a receipt, offline: that its entry is in the log that one of the keys has signed.

    Nothing is asked of anyone: no service, no network, no setting. `immudb`, if it is there, must show the same leaf:
    compare the state of immudb that is printed with one that you have. `anchor` is looked at with --rpc only, which
    asks that node. The key within the receipt is not believed. Without --key it is only seen that the receipt agrees
    with itself, which one that was made up can do too.

    Exit status: 0 verified, 1 not valid, 2 wrong usage, 4 the node does not answer, 6 it agrees with itself and no
    key was given.
    """
    with errors_told(as_json=json):
        verifiers = _keys(key or ())
        text = _text(receipt.read(_MOST_BYTES + 1))
        shown = verify_receipt(text, verifiers) if verifiers else examine_receipt(text)
        anchor = None if rpc is None else asyncio.run(verify_anchored(Receipt.parse(text), rpc))
    if json:
        print_json({**_plain(shown), "anchored": None if anchor is None else anchor.to_dict()})
    else:
        _tell(shown)
        if anchor is not None:
            place = f"block {anchor.block_number} of chain {anchor.chain_id}, transaction {anchor.transaction_hash}"
            out.print(f"its checkpoint is anchored: {place}", markup=False)
    if shown.signed_by is None:
        raise typer.Exit(Exit.NOT_VERIFIED)


def _keys(texts: list[str] | tuple[()]) -> list[Verifier]:
    try:
        return [Verifier.parse(text) for text in texts]
    except KeyInvalid as error:
        raise typer.BadParameter(error.message, param_hint="--key") from None


def _text(data: bytes) -> str:
    if len(data) > _MOST_BYTES:
        raise ReceiptInvalid(f"it is no receipt: it is longer than {_MOST_BYTES:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ReceiptInvalid("it is no receipt: not UTF-8") from None


def _plain(shown: ShownEntry) -> dict[str, Any]:
    return {
        "verified": shown.signed_by is not None,
        "signed_by": None if shown.signed_by is None else str(shown.signed_by),
        "log": shown.origin,
        "tree_size": shown.tree_size,
        "entry": entry_shown(shown.entry),
        "immudb": None if shown.immudb is None else _of_immudb(shown.immudb),
    }


def _of_immudb(shown: Shown) -> dict[str, Any]:
    states = [{"tx": state.tx, "alh": state.alh.hex()} for state in (shown.source, shown.target)]
    return {"tx": shown.tx, "states": states}


def _tell(shown: ShownEntry) -> None:
    print_fields(entry_shown(shown.entry))
    if shown.immudb is not None:
        state = shown.immudb.target
        out.print(f"in immudb: transaction {shown.immudb.tx}, as of transaction {state.tx}, {state.alh.hex()}")
    place = f"event {shown.entry.sequence} of the {shown.tree_size:,} of {shown.origin}"
    if shown.signed_by is not None:
        out.print("[green]verified[/green]: ", end="")
        out.print(f"this entry is {place}, signed by {shown.signed_by.name}", markup=False)
        return
    err.print("[yellow]NOT VERIFIED[/yellow]: ", end="")
    err.print(
        f"the receipt agrees with itself (this entry is {place}), as one that was made up would too. Give --key, a "
        "verifier key that you have from the ledger's operator and not from the receipt.",
        markup=False,
    )


def receipt(
    entry_id: Annotated[str, typer.Argument(help="The entry's id, like 3-1042.", show_default=False)],
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Print the receipt of ENTRY_ID, a JSON document, which shows to anyone that the entry is in the log.

    It waits until the read side, `partita run proofs`, has a checkpoint with the entry. With --json, errors are
    printed as JSON too.
    """
    print_json(ask(lambda ledger: ledger.get_receipt(entry_id, timeout=timeout), as_json=json).to_dict())


def checkpoint(
    partition: Annotated[int | None, typer.Argument(help="Of this partition only: its note, to be kept.")] = None,
    json: Json = False,
) -> None:
    """Print the newest checkpoint of each partition, or the signed note of one.

    Keep notes: `partita verify-consistency` shows later that the log still begins with what they sign.
    """
    found = ask(lambda ledger: ledger.get_checkpoints(), as_json=json)
    if partition is not None:
        found = [each for each in found if each.partition == partition]
    if json:
        print_json([_checkpoint(each) for each in found])
    elif partition is None:
        table = Table("partition", "events", "published", "root")
        for each in found:
            table.add_row(str(each.partition), f"{each.tree_size:,}", each.published_at.isoformat(), each.root.hex())
        out.print(uncut(table))
    else:
        for each in found:
            sys.stdout.write(each.note)
    if not found:
        err.print("no checkpoint is there: has `partita run proofs` been started?")
        raise typer.Exit(Exit.FAILED)


def _checkpoint(row: CheckpointRow) -> dict[str, Any]:
    return {
        "partition": row.partition,
        "tree_size": row.tree_size,
        "root": base64.b64encode(row.root).decode(),
        "note": row.note,
        "public_key": row.public_key,
        "published_at": row.published_at.isoformat(),
    }


Note = Annotated[typer.FileBinaryRead, typer.Argument(help="The file of a signed note.", show_default=False)]


def verify_consistency(
    old: Note,
    new: Note,
    key: Annotated[
        list[str] | None, typer.Option(help="A verifier key that may have signed; if not given, all known here.")
    ] = None,
    json: Json = False,
) -> None:
    """Verify that the log of the NEW checkpoint begins with that of the OLD one: that nothing was rewritten.

    The proof comes from the read side, and is verified here; both notes must be signed by one of the keys.

    Exit status: 0 it does, 1 it does not, 2 wrong usage, 4 the read side is not there.
    """
    with errors_told(as_json=json):
        notes = [_text(file.read(_MOST_BYTES + 1)) for file in (old, new)]
        verifiers = _keys(key or ())
    shown = ask(lambda ledger: ledger.verify_consistency(*notes, verifiers=verifiers), as_json=json)
    if json:
        print_json(
            {
                "consistent": True,
                "log": shown.new.origin,
                "old_size": shown.old.size,
                "new_size": shown.new.size,
                "consistency_proof": [base64.b64encode(item).decode() for item in shown.proof],
            }
        )
    else:
        out.print("[green]consistent[/green]: ", end="")
        out.print(
            f"the {shown.new.size:,} events of {shown.new.origin} begin with the {shown.old.size:,} of before",
            markup=False,
        )
