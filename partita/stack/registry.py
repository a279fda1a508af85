"""Apicurio Schema Registry, spoken to through its Confluent API. Owns the registry's settings.

Its storage is an H2 database in a file of its own. Schema ids are part of every record, so they must outlive a
restart of the registry, and the other parts are killed and restarted one at a time: kept in our PostgreSQL, a
restart of the read side would take the write side's schemas away; kept in Kafka, a start takes 18 s instead of 6 s
(measured), as it must wait for the broker and then for its consumer group. Each commit reaches the file at once
(WRITE_DELAY=0).
"""

import http.client
import tarfile
from collections.abc import Mapping
from pathlib import Path

from partita.stack.artifacts import download, make_once, read_pins
from partita.stack.errors import UnhealthyError
from partita.stack.java import SMALL_JVM, java_executable
from partita.stack.part import Launch, Part
from partita.stack.ports import LOOPBACK
from partita.stack.progress import Teller
from partita.stack.site import Site

VERSION = "3.3.3"
API = "/apis/ccompat/v7"
HEAP = "-Xmx256m"
_PROBE_LIMIT_S = 5.0
_HTTP_OK = 200

# The same natively (as system properties) and in docker-compose.yml (as environment variables); a test compares.
SETTINGS: Mapping[str, str] = {
    "apicurio.storage.kind": "sql",
    "apicurio.storage.sql.kind": "h2",
    "apicurio.datasource.jdbc.initial-size": "2",
    "apicurio.datasource.jdbc.min-size": "2",
    "apicurio.datasource.jdbc.max-size": "20",
    'quarkus.log.category."io.quarkus.http.access-log".level': "WARN",
}


def fetch(cache: Path, tell: Teller) -> None:
    """Fetch and unpack the registry (150 MB) into the cache. `StackError` if that fails."""
    (pin,) = read_pins("registry.txt")

    def make(place: Path) -> Path:
        tell("download")
        archive = download(pin, place)
        tell("unpack")
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):  # Python before 3.11.4 has none
                tar.extraction_filter = tarfile.data_filter
            tar.extractall(place / "unpacked")  # noqa: S202  # its checksum is pinned
        return place / "unpacked"

    make_once(_home(cache), make, cache=cache)


def _home(cache: Path) -> Path:
    return cache / f"apicurio-registry-{VERSION}"


def properties(site: Site) -> dict[str, str]:
    """Return the registry's system properties: the common settings and this site's places."""
    database = site.data("registry") / "registry"
    return {
        **SETTINGS,
        "apicurio.datasource.url": f"jdbc:h2:file:{database};WRITE_DELAY=0",
        "apicurio.import.work-dir": str(site.data("registry")),
        "quarkus.http.host": LOOPBACK,
        "quarkus.http.port": str(site.ports["registry"]),
        "quarkus.management.host": LOOPBACK,
        "quarkus.management.port": str(site.ports["registry_management"]),
        "java.io.tmpdir": str(site.data("registry")),
    }


def launch(site: Site) -> Launch:
    """Return the registry's command; its database makes itself."""
    site.data("registry").mkdir(parents=True, exist_ok=True)
    settings = (f"-D{key}={value}" for key, value in properties(site).items())
    # C1 only: start-up is half the CPU of C2, and a registry is asked seldom, since clients remember schemas.
    jvm = (HEAP, *SMALL_JVM, "-XX:TieredStopAtLevel=1")
    jar = _home(site.cache) / "quarkus-run.jar"
    return Launch(argv=(str(java_executable()), *jvm, *settings, "-jar", str(jar)), cwd=site.data("registry"))


def probe(site: Site) -> str:
    """Ask for the subjects; `UnhealthyError` if they are not told."""
    connection = http.client.HTTPConnection(LOOPBACK, site.ports["registry"], timeout=_PROBE_LIMIT_S)
    try:
        connection.request("GET", f"{API}/subjects")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnhealthyError(str(error)) from error
    finally:
        connection.close()
    if answer.status != _HTTP_OK:
        raise UnhealthyError(f"GET {API}/subjects answers {answer.status}")
    return f"{body.count(b',') + 1 if body.strip() != b'[]' else 0} subjects"


def _addresses(site: Site) -> dict[str, str]:
    return {"schema_registry_url": f"http://{LOOPBACK}:{site.ports['registry']}{API}"}


PART = Part(
    name="registry",
    ports=("registry", "registry_management"),
    fetch=fetch,
    launch=launch,
    probe=probe,
    addresses=_addresses,
    passing=("Database may be already in use",),
)
