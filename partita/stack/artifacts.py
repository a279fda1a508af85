"""Downloads, kept per user: each is made elsewhere and put in place by one rename, so it is whole or absent.

Owns the cache's layout, its locks and the checksums of what comes from the Maven repository. Package managers
(pip, npm, go) check their own downloads.
"""

import hashlib
import importlib.resources
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from partita.stack.errors import StackError
from partita.stack.processes import Process, alive, this_process
from partita.stack.progress import Teller
from partita.stack.site import locked

_AT_ONCE = 8
_ATTEMPTS = 3
_HTTP_LIMIT_S = 60
_LOCK_LIMIT_S = 1_800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One file of the Maven repository, with the checksum that it must have."""

    group: str
    artifact: str
    version: str
    classifier: str
    packaging: str
    sha256: str

    @property
    def filename(self) -> str:
        """The name of the file in the cache."""
        parts = [self.artifact, self.version, *([self.classifier] if self.classifier else [])]
        return f"{'-'.join(parts)}.{self.packaging}"


def pin_text(name: str) -> str:
    """Return the text of one of the package's pin files."""
    return (importlib.resources.files("partita.stack") / "pins" / name).read_text()


def read_pins(name: str) -> tuple[Pin, ...]:
    """Read a list of `group:artifact:version[:classifier:packaging] sha256:HEX` lines."""
    return tuple(_pin(line) for line in pin_text(name).splitlines() if line.strip())


def _pin(line: str) -> Pin:
    coordinate, _, checksum = line.partition(" sha256:")
    group, artifact, version, *rest = coordinate.split(":")
    classifier, packaging = rest or ("", "jar")
    return Pin(
        group=group, artifact=artifact, version=version, classifier=classifier, packaging=packaging, sha256=checksum
    )


def package_directory(package: str) -> Path:
    """Return the directory of an installed package of the `stack` extra, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise StackError(
            f"Python package {package} is missing; install the stack's extra: pip install 'partita[stack]'"
        )
    return Path(spec.origin).parent


@contextmanager
def workplace(cache: Path) -> Iterator[Path]:
    """Give a temporary directory on the cache's own file system, removed afterwards.

    Those of processes that were killed are removed as well.
    """
    places = cache / "tmp"
    places.mkdir(parents=True, exist_ok=True)
    me = this_process()
    for left in places.glob("*-*-*"):
        pid, started, _ = left.name.split("-", 2)
        if not alive(Process(pid=int(pid), started=int(started))):
            shutil.rmtree(left, ignore_errors=True)
    place = Path(tempfile.mkdtemp(prefix=f"{me.pid}-{me.started}-", dir=places))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def make_once(target: Path, make: Callable[[Path], Path], *, cache: Path) -> Path:
    """Return `target`; if it is absent, have it made in a temporary place and renamed to `target`.

    `make` gets that place and returns the file or directory to keep. Of several processes one makes it and the
    others wait. An interruption leaves nothing that looks finished.
    """
    if not target.exists():
        busy = f"{target.name}: another process has been fetching it for {_LOCK_LIMIT_S / 60:.0f} minutes"
        with locked(cache / "locks" / target.name, limit_s=_LOCK_LIMIT_S, busy=busy), workplace(cache) as place:
            if not target.exists():
                made = make(place)
                target.parent.mkdir(parents=True, exist_ok=True)
                made.rename(target)
    return target


def fetch_all(pins: tuple[Pin, ...], directory: Path, *, cache: Path, tell: Teller) -> tuple[Path, ...]:
    """Fetch files into `directory`, eight at once, each on its own; those already there cost nothing."""
    paths = tuple(directory / pin.filename for pin in pins)
    missing = [pin for pin, path in zip(pins, paths, strict=True) if not path.exists()]
    if not missing:
        return paths
    tell("download", 0, len(missing))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        jobs = [pool.submit(_fetch_one, pin, directory / pin.filename, cache) for pin in missing]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                tell("download", done, len(missing))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return paths


def _fetch_one(pin: Pin, target: Path, cache: Path) -> Path:
    return make_once(target, lambda place: download(pin, place), cache=cache)


def download(pin: Pin, place: Path) -> Path:
    """Fetch one file below `place`, try again if that fails or brings the wrong bytes; `StackError` in the end."""
    # A third of a second that only a first start needs.
    from jgo.maven import MavenContext  # noqa: PLC0415

    reason = ""
    for attempt in range(_ATTEMPTS):
        try:
            context = MavenContext(repo_cache=place / str(attempt), timeout=_HTTP_LIMIT_S)
            component = context.project(pin.group, pin.artifact).at_version(pin.version)
            path = Path(component.artifact(pin.classifier, pin.packaging).resolve())
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, "not found" is a RuntimeError
            reason = str(error)
            continue
        found = sha256(path)
        if found == pin.sha256:
            return path
        reason = f"checksum is {found}, not {pin.sha256}"
    raise StackError(
        f"could not download {pin.filename}: {reason}\n  Check the network (proxy, certificates) and try again."
    )


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
