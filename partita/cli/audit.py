"""`partita audit write | verify`: records in the audit trail."""

import asyncio
import sys
from json import JSONDecodeError, loads
from typing import Annotated, Any, Final

import typer

from partita.audit import ImmutableConfig, create_audit_trail
from partita.cli.output import Exit, Json, errors_told, print_fields, print_json
from projections.immudb.audit import AuditReceipt, Verification, VerificationStatus

app = typer.Typer(help="Records in immudb: written once, and verified.", no_args_is_help=True)

EntryId = Annotated[str, typer.Argument(metavar="ENTRY_ID", help="The record's id.", show_default=False)]

_STATUSES: Final = {
    VerificationStatus.VERIFIED: 0,
    VerificationStatus.TAMPERED: Exit.FAILED,
    VerificationStatus.MISSING: Exit.FAILED,
    VerificationStatus.UNREACHABLE: Exit.UNAVAILABLE,
}


@app.command()
def write(
    entry_id: EntryId,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A JSON object; - reads it from stdin.")],
    json: Json = False,
) -> None:
    """Write a record, once, and print its receipt: --json has all of it.

    The same id with the same data again gives the same receipt. Numbers with a fraction are refused: write amounts as
    text.
    """
    record = _object(sys.stdin.read() if data == "-" else data)

    async def made() -> AuditReceipt:
        async with await create_audit_trail(ImmutableConfig()) as trail:
            return await trail.write(entry_id, record)

    with errors_told(as_json=json):
        receipt = asyncio.run(made())
    if json:
        print_json(receipt.to_dict())
    else:
        print_fields({"entry_id": receipt.entry_id, "tx_id": receipt.tx_id, "timestamp": receipt.timestamp})


def _object(text: str) -> Any:
    try:
        return loads(text)
    except JSONDecodeError as error:
        raise typer.BadParameter(f"DATA is no JSON: {error}") from None


@app.command()
def verify(entry_id: EntryId, json: Json = False) -> None:
    """Say what became of a record: verified, tampered, missing or unreachable.

    Exit status: 0 verified, 1 tampered or missing, 4 unreachable.
    """

    async def found() -> Verification:
        async with await create_audit_trail(ImmutableConfig()) as trail:
            return await trail.verify(entry_id)

    with errors_told(as_json=json):
        verification = asyncio.run(found())
    told = verification.to_dict()
    if json:
        print_json(told)
    else:
        receipt = verification.receipt
        print_fields(
            {
                "entry_id": entry_id,
                "status": verification.status.value,
                "reason": verification.reason,
                "tx_id": receipt and receipt.tx_id,
                "timestamp": receipt and receipt.timestamp,
                "data": verification.data,
            }
        )
    raise typer.Exit(_STATUSES[verification.status])
