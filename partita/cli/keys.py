"""`partita keys`: the keys that sign checkpoints."""

from typing import Annotated

import typer

from events.checkpoint import Verifier
from partita.cli.output import Json, errors_told, out, print_json
from partita.keys import SigningKeys
from partita.settings import Settings

app = typer.Typer(help="The keys that sign checkpoints: auditors need the verifier keys.", no_args_is_help=True)


def _keys() -> SigningKeys:
    return Settings().signing_keys


@app.command()
def new(
    rotate: Annotated[bool, typer.Option("--rotate", help="Put it before the keys that are there.")] = False,
    json: Json = False,
) -> None:
    """Make a signing key in PARTITA_SIGNING_KEY_FILE, and print its verifier key.

    A key that is there already is left as it is, unless --rotate: then both sign from the next start of each handler
    on, until `partita keys retire` takes the old one away. Receipts of before stay verifiable with the old one.
    """
    with errors_told(as_json=json):
        keys = _keys()
        verifier = keys.rotate() if rotate else keys.make()
    if json:
        print_json({"verifier_key": str(verifier), "file": str(keys.path)})
    else:
        out.print(str(verifier), markup=False)


@app.command(name="list")
def list_keys(json: Json = False) -> None:
    """Print every verifier key that the ledger ever had, the newest first, and which of them sign now."""
    with errors_told(as_json=json):
        keys = _keys()
        signing = {signer.verifier for signer in keys.signers()} if keys.path.exists() else set()
        found = [{"verifier_key": str(key), "signs": key in signing} for key in keys.verifiers()]
    if json:
        print_json({"file": str(keys.path), "keys": found})
        return
    for key in found:
        out.print(f"{key['verifier_key']}  {'signs' if key['signs'] else 'retired'}", markup=False)


@app.command()
def retire(
    key: Annotated[str, typer.Argument(help="Its verifier key, as `partita keys list` prints it.")],
    json: Json = False,
) -> None:
    """Let a key sign no more, from the next start of each handler on. What it has signed stays verifiable."""
    with errors_told(as_json=json):
        _keys().retire(Verifier.parse(key))
    if json:
        print_json({"retired": key})
