"""Which transaction an entry names, by the keys of its metadata that docs/reconciliation.md defines. Pure.

An entry that has the key `transaction_hash` names one. If what it says can't be, it is kept with the problem, and
reported: it must not look like an entry that names none.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from events.follow import StoredEvent
from events.types import BatchEntryPosted, EntryPosted, HoldSettled, entry_id
from reconciler.chains import address
from reconciler.errors import InvalidChain
from reconciler.transfers import Expectation

CHAIN: Final = "chain"
TRANSACTION: Final = "transaction_hash"
TOKEN: Final = "token"  # noqa: S105  # a key of metadata
FROM: Final = "from"
TO: Final = "to"
LOG_INDEX: Final = "log_index"

_HASH: Final = re.compile(r"0x[0-9a-f]{64}", re.ASCII)
_MOST_TEXT: Final = 100
_MOST_INDEX: Final = 2**31 - 1


def expectation(stored: StoredEvent) -> Expectation | None:
    """Return what an event expects of a chain; None when it is no entry or names no transaction."""
    event = stored.event
    if not isinstance(event, EntryPosted | HoldSettled | BatchEntryPosted):
        return None
    if event.metadata is None or TRANSACTION not in event.metadata:  # cheap, since most entries name none
        return None
    metadata = json.loads(event.metadata)
    if not isinstance(metadata, dict) or TRANSACTION not in metadata:
        return None
    return Expectation(
        entry_id=entry_id(stored.partition, event.sequence),
        recorded_at=event.recorded_at,
        account_id=event.account_id,
        entry_type=event.entry_type,
        amount=event.amount,
        asset=event.asset,
        **_named(metadata),
    )


def _named(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that metadata gives, as far as they can be, and what is wrong with the others."""
    fields: dict[str, Any] = {
        "chain": _text(metadata.get(CHAIN)).lower(),
        "tx_hash": _text(metadata[TRANSACTION]).lower(),
    }
    problems = []
    if not fields["chain"]:
        problems.append(f"{CHAIN} is not given")
    if not _HASH.fullmatch(fields["tx_hash"]):
        problems.append(f"{TRANSACTION} is not 0x and 64 hexadecimal digits")
    for key, name in ((FROM, "sender"), (TO, "recipient")):
        try:
            fields[name] = None if metadata.get(key) is None else address(metadata[key])
        except InvalidChain:
            problems.append(f"{key} is no address")
    if (token := metadata.get(TOKEN)) is not None:
        fields["token"] = _text(token).lower()
    if (index := metadata.get(LOG_INDEX)) is not None:
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index <= _MOST_INDEX:
            fields["log_index"] = index
        else:
            problems.append(f"{LOG_INDEX} is no number of a log")
    return {**fields, "problem": "; ".join(problems) or None}


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value).strip()[:_MOST_TEXT]
