"""What the API takes: the body of each command. Fields that there are not are refused."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from events.types import EntryType
from partita.web.values import AccountId, AmountIn, AssetIn, FloorIn, Json, Text, TimeIn, Version


class Body(BaseModel):
    """The base of all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def given(self) -> dict[str, object]:
        """Return what was given, by the names of `LedgerEngine`. null is nothing; as a floor, that there is none."""
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: value for name, value in fields.items() if value is not None or name == "floor"}


class _Noted(Body):
    reference: Annotated[Text | None, Field(description="Your own reference")] = None
    metadata: Annotated[Json | None, Field(description="Your own object, up to 16 KiB")] = None


class _Expecting(Body):
    expected_version: Annotated[
        Version | None, Field(description="Refuse the command unless the account is at this version")
    ] = None


class Leg(_Noted, _Expecting):
    """One entry of a batch."""

    account_id: AccountId
    amount: AmountIn
    entry_type: EntryType
    asset: AssetIn | None = None
    effective_at: Annotated[TimeIn | None, Field(description="When it counts from, if not when it is recorded")] = (
        None
    )


class PostEntry(Leg):
    """A credit or a debit of one account."""


class PostBatch(_Noted):
    """Up to 1,000 entries that are posted together, all or none."""

    entries: Annotated[list[Leg], Field(min_length=1, max_length=1000)]
    balanced: Annotated[bool, Field(strict=True, description="Debits and credits must be equal, by asset")] = False


class Transfer(_Noted):
    """A debit of one account and a credit of another with the same amount."""

    source: AccountId
    target: AccountId
    amount: AmountIn
    asset: AssetIn | None = None
    effective_at: TimeIn | None = None


class Rollback(Body):
    """Undo a posted batch by its reversal."""

    reason: Text | None = None
    force: Annotated[bool, Field(strict=True, description="Take balances below their floors if need be")] = False
    effective_at: TimeIn | None = None


class OpenAccount(_Noted, _Expecting):
    """Open an account with rules of its own."""

    account_id: AccountId
    floor: Annotated[FloorIn | None, Field(description="No balance falls below it; null is no floor")] = "0"
    assets: Annotated[
        list[AssetIn], Field(max_length=1000, description="The only ones; any when there are none")
    ] = []
    account_type: Annotated[Text | None, Field(description="Your own kind of account")] = None


class Reasoned(_Expecting):
    """Why, in your own words."""

    reason: Text | None = None


class CloseAccount(Reasoned):
    """Close an account that has neither a balance nor a hold."""

    permanent: Annotated[bool, Field(strict=True, description="It can never be reopened")] = False


class PlaceHold(_Noted, _Expecting):
    """Reserve funds."""

    amount: AmountIn
    asset: AssetIn | None = None
    expires_at: Annotated[TimeIn | None, Field(description="From when it may be ended as expired")] = None


class SettleHold(_Noted, _Expecting):
    """Debit what a hold reserves."""

    amount: Annotated[AmountIn | None, Field(description="So much of it; all when not given")] = None
    effective_at: TimeIn | None = None


class Expecting(_Expecting):
    """Nothing but what the account's version must be."""
