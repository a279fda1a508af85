"""Where a running stack is, read from its directory. Standard library only: every program reads this at its start."""

import json
from pathlib import Path

from partita.stack.processes import is_running
from partita.stack.site import STATE_FILE, pid_file


def read_addresses(directory: Path) -> dict[str, str] | None:
    """Return the addresses of the stack in `directory`, or None if none of its processes is alive.

    While at least one part runs, the addresses of all are told: a part that is down just now then gives an
    error that names it, instead of a search for it elsewhere.
    """
    try:
        facts = json.loads((directory / STATE_FILE).read_bytes())
        parts, addresses = list(facts["parts"]), dict(facts["addresses"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not any(is_running(pid_file(directory, part)) for part in parts):
        return None
    return {str(key): str(value) for key, value in addresses.items()}
