"""The Avro schemas: one `.avsc` file for each command, event and outcome.

Owns the files and the reading of them. How bytes are made of them is `events.codec`; how they are registered
is `events.registry`.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

COMMANDS: Final = (
    "PostEntry",
    "OpenAccount",
    "FreezeAccount",
    "UnfreezeAccount",
    "CloseAccount",
    "ReopenAccount",
    "PlaceHold",
    "SettleHold",
    "ReleaseHold",
    "ExpireHold",
    "LockAccount",
    "UnlockAccount",
    "PostBatch",
    "ReverseBatch",
)
STEPS: Final = ("ReserveBatch", "SettleBatch", "ReleaseBatch", "ReportReservation", "ReportSettlement", "TryBatch")
"""What handlers tell each other of a batch, on the topic of the commands."""

EVENTS: Final = (
    "PartitionOpened",
    "EntryPosted",
    "CommandRejected",
    "AccountOpened",
    "AccountFrozen",
    "AccountUnfrozen",
    "AccountClosed",
    "AccountReopened",
    "HoldPlaced",
    "HoldSettled",
    "HoldReleased",
    "LockGranted",
    "LockReleased",
    "EntryReserved",
    "EntryReleased",
    "BatchEntryPosted",
    "BatchStarted",
    "BatchReserved",
    "BatchCommitted",
    "BatchSettled",
    "BatchPosted",
    "BatchRejected",
)
RECONCILIATION: Final = (
    "DiscrepancyExplained",
    "DiscrepancyIgnored",
    "DiscrepancyResolved",
    "DiscrepancyReopened",
    "CheckpointsAnchored",
)
"""What people say of discrepancies, and anchors, on a topic of their own."""

OUTCOMES: Final = tuple(f"{command}Outcome" for command in COMMANDS)
ALL: Final = COMMANDS + STEPS + EVENTS + RECONCILIATION + OUTCOMES

_FOLDER: Final = Path(__file__).parent


@cache
def load(name: str) -> dict[str, Any]:
    """Return the schema called `name` ("PostEntry") as parsed JSON; shared, so not to be changed.

    It stands by itself: an event that an outcome names is written out where it is first named.

    Raises:
        FileNotFoundError: there is no such schema.
    """
    schema: dict[str, Any] = _written_out(_read(name), set())
    return schema


def full_name(name: str) -> str:
    """Return the Avro full name, which is also the registry subject: `partita.commands.PostEntry`."""
    schema = _read(name)
    return f"{schema['namespace']}.{schema['name']}"


@cache
def _read(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((_FOLDER / f"{name}.avsc").read_text(encoding="utf-8"))
    return schema


def _written_out(schema: Any, seen: set[str]) -> Any:
    """Replace the first mention of each type by its definition, and every later definition by its name."""
    match schema:
        case str() if schema.startswith("partita.events.") and schema not in seen:
            return _written_out(_read(schema.rpartition(".")[2]), seen)
        case {"type": "record" | "enum", "name": str() as name, "namespace": str() as namespace}:
            if f"{namespace}.{name}" in seen:
                return f"{namespace}.{name}"
            seen.add(f"{namespace}.{name}")
            return {key: _written_out(value, seen) for key, value in schema.items()}
        case dict():
            return {key: _written_out(value, seen) for key, value in schema.items() if key != "default"} | {
                key: value for key, value in schema.items() if key == "default"
            }
        case list():
            return [_written_out(item, seen) for item in schema]
        case _:
            return schema
