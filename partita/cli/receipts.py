"""`partita verify-receipt`: what an auditor needs, offline."""

from typing import Annotated, Any, Final

import typer

from events.checkpoint import KeyInvalid, Verifier
from partita.cli.output import Exit, Json, err, errors_told, out, print_fields, print_json
from partita.receipts import ReceiptInvalid, ShownEntry, entry_shown, examine_receipt, verify_receipt
from projections.immudb.evidence import Shown

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
    json: Json = False,
) -> None:
    """Verify a receipt, offline: that its entry is in the log that one of the keys has signed.

    Nothing is asked of anyone: no service, no network, no setting. `immudb`, if it is there, must show the same leaf:
    compare the state of immudb that is printed with one that you have. `anchor` is not looked at. The key within the
    receipt is not believed. Without --key it is only seen that the receipt agrees with itself, which one that was
    made up can do too.

    Exit status: 0 verified, 1 not valid, 2 wrong usage, 6 it agrees with itself and no key was given.
    """
    with errors_told(as_json=json):
        verifiers = _keys(key or ())
        text = _text(receipt.read(_MOST_BYTES + 1))
        shown = verify_receipt(text, verifiers) if verifiers else examine_receipt(text)
    if json:
        print_json(_plain(shown))
    else:
        _tell(shown)
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
