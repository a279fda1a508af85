"""Running programs: to their end, or detached so that they outlive us.

A detached program puts itself on record (boot id and its line of /proc) before it becomes the program: there is no
moment at which a program of ours runs and no file says so.
"""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from partita.stack.errors import StackError
from partita.stack.processes import Process, parse_record

_LOG_ROTATION_BYTES = 20 * 1024 * 1024
_RECORD_LIMIT_S = 10.0
_POLL_S = 0.02
_TOLD_CHARACTERS = 2_000

# Run by sh with stdout = the pid file and stderr = the log. The program is a grandchild, adopted by init: it
# outlives us, and leaves us neither a zombie nor anything to wait for.
_LAUNCHER = """
read -r boot </proc/sys/kernel/random/boot_id
( read -r stat </proc/self/stat; printf '%s %s\\n' "$boot" "$stat"; exec "$@" >&2 </dev/null ) &
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whom a program runs as."""

    uid: int
    gid: int


def run(
    argv: Sequence[str], *, part: str, cwd: Path, limit_s: float, user: User | None = None, text: str = ""
) -> str:
    """Run a program of a part to its end and return its standard output; `text` is its standard input.

    Raises `StackError`, with what the program said, when it fails or takes longer than `limit_s` seconds.
    """
    name = Path(argv[0]).name
    try:
        done = subprocess.run(  # noqa: S603  # what we run is ours or a package's, its arguments are ours
            argv, input=text, capture_output=True, text=True, timeout=limit_s, check=False, cwd=cwd,
            user=user.uid if user else None, group=user.gid if user else None, extra_groups=[] if user else None,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise StackError(f"{part}: {name} has not ended after {limit_s:.0f} s") from error
    except OSError as error:
        raise StackError(f"{part}: {name} cannot be run: {error}") from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-_TOLD_CHARACTERS:]
        raise StackError(f"{part}: {name} ended with status {done.returncode} and said:\n{said}")
    return done.stdout


def spawn(argv: Sequence[str], *, pid_file: Path, log: Path, cwd: Path, user: User | None = None) -> Process:
    """Start a detached program and return it once it is on record. Its output is appended to `log`.

    Raises `StackError` if it cannot be launched at all; a program that ends at once is for the caller to notice.
    """
    _rotate(log)
    try:
        with pid_file.open("w") as record, log.open("a") as output:
            subprocess.run(  # noqa: S603  # as above
                ["/bin/sh", "-c", _LAUNCHER, "partita", *argv],
                stdin=subprocess.DEVNULL, stdout=record, stderr=output, cwd=cwd, check=True, start_new_session=True,
                user=user.uid if user else None, group=user.gid if user else None, extra_groups=[] if user else None,
            )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        raise StackError(f"{argv[0]} cannot be launched: {error}") from error
    return _await_record(pid_file, argv[0])


def _await_record(pid_file: Path, program: str) -> Process:
    deadline = time.monotonic() + _RECORD_LIMIT_S
    while True:
        try:
            return parse_record(pid_file.read_text(errors="replace"))[1]
        except ValueError as error:
            if time.monotonic() > deadline:
                raise StackError(f"{program} was not launched within {_RECORD_LIMIT_S:.0f} s") from error
            time.sleep(_POLL_S)


def _rotate(log: Path) -> None:
    """Keep one older log, so that logs stay bounded."""
    if log.exists() and log.stat().st_size > _LOG_ROTATION_BYTES:
        log.replace(log.with_suffix(".log.1"))
