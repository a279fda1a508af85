"""The local stack: Kafka, Schema Registry, PostgreSQL, immudb and an EVM node, without a container engine.

This package owns fetching the parts, starting and stopping them, and telling where they are. It does not own
what runs on them: topics, schemas and tables belong to the services.

Names are resolved on first use, so that `partita.stack.addresses` (which the settings read at every start of
every program) costs nothing but the standard library.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from partita.stack.addresses import read_addresses as read_addresses
    from partita.stack.errors import StackError as StackError
    from partita.stack.lifecycle import down as down
    from partita.stack.lifecycle import fetch as fetch
    from partita.stack.lifecycle import start_part as start_part
    from partita.stack.lifecycle import status as status
    from partita.stack.lifecycle import stop_part as stop_part
    from partita.stack.lifecycle import up as up
    from partita.stack.part import ALL_PARTS as ALL_PARTS
    from partita.stack.part import CORE_PARTS as CORE_PARTS
    from partita.stack.progress import Progress as Progress
    from partita.stack.report import PartStatus as PartStatus
    from partita.stack.report import StackStatus as StackStatus

_HOMES = {
    "ALL_PARTS": "part",
    "CORE_PARTS": "part",
    "PartStatus": "report",
    "Progress": "progress",
    "StackError": "errors",
    "StackStatus": "report",
    "down": "lifecycle",
    "fetch": "lifecycle",
    "read_addresses": "addresses",
    "start_part": "lifecycle",
    "status": "lifecycle",
    "stop_part": "lifecycle",
    "up": "lifecycle",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
