"""The commands, as they are after decoding. Fields are those of the Avro schemas, in their order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from events.money import SCALE
from events.types import EntryType

POST_ENTRY: Final = "PostEntry"


class PostEntry(NamedTuple):
    """Post one credit or debit; `amount` in units of 10^-18, `effective_at` in microseconds since 1970 UTC."""

    command_id: str
    reply_key: str | None
    account_id: str
    entry_type: EntryType
    amount: int
    asset: str
    reference: str | None = None
    metadata: str | None = None
    effective_at: int | None = None
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What an operator decides: the decimals of each asset (18 where it is not named)."""

    asset_scales: Mapping[str, int] = field(default_factory=dict)

    def scale(self, asset: str) -> int:
        """Return how many decimals an amount of `asset` may have."""
        return self.asset_scales.get(asset, SCALE)
