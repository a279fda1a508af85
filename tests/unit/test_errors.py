"""What a caller is told: every error is data, and comes through the log as it was."""

import inspect
import json
from decimal import Decimal
from typing import Any

import pytest

import partita
from commands import errors
from commands.codec import Outcome
from commands.errors import Rejected
from commands.rejections import details_of, from_event
from events.errors import LedgerError
from partita.results import entry_of
from projections.errors import (
    AccountNotInReadModel,
    BatchNotInReadModel,
    EntryNotFound,
    InvalidCursor,
    ReadModelBehind,
)
from tests.support.samples import CODECS, posted, rejected

TINY = Decimal("0.000000000000000001")
REJECTIONS: list[Rejected] = [
    *(
        kind("the reason")
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.InvalidCommand) and kind is not errors.InvalidCommand
    ),
    errors.InsufficientFunds("alice", Decimal("12.5"), TINY, "USD"),
    errors.BalanceOutOfRange("alice", "USD", Decimal(10**20 - 1), TINY),
    errors.AccountNotFound("alice"),
    errors.AccountAlreadyOpen("alice"),
    errors.AccountIsFrozen("alice"),
    errors.AccountIsClosed("alice", permanent=True),
    errors.AccountIsClosed("alice", permanent=False),
    errors.AccountNotFrozen("alice"),
    errors.AccountNotClosed("alice"),
    errors.AccountNotEmpty("alice", "USD", Decimal(7), TINY),
    errors.AssetNotAllowed("alice", "EUR"),
    errors.HoldNotFound("alice", "h-1"),
    errors.HoldExceeded("alice", "h-1", TINY, Decimal(7)),
    errors.HoldNotExpired("alice", "h-1", "2026-01-01T00:00:00+00:00"),
    errors.BatchUnbalanced("USD", TINY, Decimal(7)),
    errors.BatchNotFound("b-1"),
    errors.AccountLocked("alice", "2026-01-01T00:00:00+00:00"),
    errors.LockLost("alice", 3),
    errors.VersionConflict("alice", 3, 2),
    errors.IdempotencyConflict("alice", "c-1"),
    errors.WrongPartition("alice", 1, 7),
]
OTHERS: list[LedgerError] = [
    errors.OutcomeUnknown("alice", "c-1", 30.0),
    partita.BrokerUnavailable("no answer", bootstrap="host:1", cause="refused"),
    partita.RegistryUnavailable("no answer", url="http://host:1", cause="refused"),
    partita.SchemaIncompatible("refused", subject="partita.commands.PostEntry"),
    partita.PartitionCountMismatch("other", expected=12, found=6),
    partita.TopicMissing("none", topic="ledger.commands"),
    partita.UnsafeTopic("not for ever", topic="ledger.events", setting="retention.ms", value="604800000"),
    partita.NotConfigured("not set", setting="PARTITA_KAFKA_BOOTSTRAP"),
    partita.ReadModelUnavailable("no answer", cause="refused"),
    partita.TablesOutdated(place="host:1/db", schema="ledger", found=None, wanted="0007", is_newer=False),
    ReadModelBehind(partition=3, wanted=7, reached=None, waited=1.5),
    EntryNotFound("3-7"),
    AccountNotInReadModel("alice"),
    BatchNotInReadModel("b-1"),
    InvalidCursor("not ours"),
    partita.InvalidPointInTime("a time needs its zone"),
    partita.ImmudbUnavailable("no answer", place="host:1/db", cause="refused"),
    partita.ImmudbRefused("refused", place="host:1/db", cause="invalid user name or password"),
    partita.ImmudbConflict("other data", entry_id="payout-7"),
    partita.ImmudbTampered("another history", place="host:1/db", cause="transaction 3 is not as it is known"),
    partita.ImmudbKeyInvalid("no key", path="key.pem"),
    partita.InvalidAuditRecord("a float", field="data.amount"),
    partita.TrustedStateInvalid("cut", path="state.json"),
    partita.TrustedStateBusy("held", path="state.json"),
    partita.MirrorBehind(partition=3, wanted=7, reached=None, waited=1.5),
    partita.ReceiptIncomplete(
        entry_of(Outcome(False, 3, posted())), "mirror", partita.ImmudbUnavailable("no answer", cause="refused")
    ),
    partita.ReceiptRefused(
        entry_of(Outcome(False, 3, posted())), "projection", partita.CopyDiffers("another amount", field="amount")
    ),
    partita.CopyDiffers("another amount", entry_id="3-7", field="amount"),
    partita.ChainUnavailable("no answer", node="host:1"),
    partita.ProvidersDisagree("different", nodes=["host:1", "host:2"], what="block 7"),
    partita.WrongChain("another", node="host:1", found=1, expected=8453),
    partita.TooManyAddresses("too many", most=100_000),
    partita.InvalidChain("no address", given="0x12"),
    partita.ReorganisedTooDeep("gone", chain="base", block=7),
    partita.ReconciliationConflict("moved", chain_id=8453),
    partita.DiscrepancyNotFound("none", discrepancy_id="5f1c"),
    partita.NotACorrection("rejected", batch_id="b-1"),
    partita.AnchorInvalid("another root", root="00"),
    partita.AnchorKeyInvalid("no key", setting="anchor_key"),
    partita.AnchorStuck("no block", root="00"),
    partita.InvalidStatement("no reason", characters=0),
    partita.KeyInvalid("none", given=0),
    partita.ReceiptInvalid("another amount", field="entry.amount"),
    partita.ReceiptNotReady("3-7", reached=None, waited=1.5, halted=None),
    partita.CheckpointInvalid("another", name="ledger.example/main"),
    partita.ProofInvalid("not shown", index=3, size=7),
    partita.TreeDamaged("a tile is cut", partition=3),
]


@pytest.mark.parametrize("error", [*REJECTIONS, *OTHERS], ids=lambda error: error.code)
def test_every_error_is_data(error: LedgerError) -> None:
    told = error.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["error"] == error.code == type(error).__name__
    assert told["message"] == str(error) == error.message
    assert told["details"].keys() == error.details.keys()
    assert told["details"]
    assert told["retriable"] is error.retriable
    assert "E-" not in json.dumps(told["details"])


def test_every_public_error_is_tested_here() -> None:
    public = {
        name
        for name in partita.__all__
        if inspect.isclass(getattr(partita, name)) and issubclass(getattr(partita, name), LedgerError)
    }
    assert public - {"LedgerError", "Rejected", "InvalidCommand"} <= {error.code for error in [*REJECTIONS, *OTHERS]}


@pytest.mark.parametrize("error", REJECTIONS, ids=lambda error: error.code)
def test_a_rejection_comes_out_of_the_log_as_it_went_in(error: Rejected) -> None:
    event = rejected(code=error.code, message=error.message, details=details_of(error))
    read: Any = CODECS.events.decode(CODECS.events.encode(event))
    again = from_event(read)
    assert type(again) is type(error)
    assert again.details == error.details
    assert again.to_dict() == error.to_dict()
    assert vars(again) == vars(error)


def test_insufficient_funds_carries_its_numbers() -> None:
    error = errors.InsufficientFunds("alice", Decimal("12.5"), TINY, "USD")
    assert (error.account_id, error.available, error.requested) == ("alice", Decimal("12.5"), TINY)
    assert error.to_dict()["details"]["requested"] == "0.000000000000000001"


def test_a_rule_newer_than_this_client_is_a_rejection_with_its_own_code() -> None:
    error = from_event(
        rejected(code="AccountFrozen", message="frozen", details={"account_id": "alice", "since": "7"})
    )
    assert isinstance(error, Rejected)
    assert error.to_dict() == {
        "error": "AccountFrozen",
        "message": "frozen",
        "details": {"account_id": "alice", "since": "7"},
        "retriable": False,
    }


def test_a_detail_newer_than_this_client_is_no_crash() -> None:
    details = {"account_id": "alice", "available": "1", "requested": "2", "asset": "USD", "floor": "0"}
    error = from_event(rejected(details=details))
    assert isinstance(error, Rejected)
    assert error.code == "InsufficientFunds"
    assert error.details["floor"] == "0"


def test_only_what_may_pass_is_worth_another_try() -> None:
    assert {error.code for error in REJECTIONS if error.retriable} == {"AccountLocked"}
    assert {error.code for error in OTHERS if error.retriable} == {
        "OutcomeUnknown",
        "BrokerUnavailable",
        "ChainUnavailable",
        "ReconciliationConflict",
        "RegistryUnavailable",
        "TopicMissing",
        "ReadModelUnavailable",
        "ReadModelBehind",
        "ImmudbUnavailable",
        "TrustedStateBusy",
        "MirrorBehind",
        "ReceiptIncomplete",
        "ReceiptNotReady",
    }
