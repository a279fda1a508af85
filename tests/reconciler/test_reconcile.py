"""Ledger and chain on the real stack: what agrees, everything that can differ, and what people say of it."""

import asyncio
import json
import time
import uuid
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner

from partita import BatchNotInReadModel, InsufficientFunds
from partita.cli import app
from partita.reconciliation import MIGRATIONS, ReconciliationEngine
from projections.migrate import differences, downgrade, upgrade
from reconciler import tables
from reconciler.errors import DiscrepancyNotFound, InvalidChain, NotACorrection
from tests.reconciler.samples import a_hash
from tests.reconciler.treasury import CUSTOMER, THIEF, Treasury
from tests.support.services import Service


async def test_what_agrees_is_matched_and_summed_up(treasury: Treasury) -> None:
    for whole in (5, 7):
        await treasury.enter(treasury.arrive(whole), whole, **{"from": CUSTOMER, "to": treasury.vault})
    out = treasury.anvil.pay(treasury.token.name, treasury.vault, CUSTOMER, 3_500_000)
    await treasury.enter(out, "3.5", "debit")
    report = await treasury.reconcile()
    assert (report.matched_count, treasury.of_ours(report)) == (3, {})
    (total,) = [total for total in report.totals if total.asset == treasury.asset]
    assert (total.chain_in, total.ledger_in) == (Decimal(12), Decimal(12))
    assert (total.chain_out, total.ledger_out) == (Decimal("3.5"), Decimal("3.5"))
    assert report.end_block == report.settled_block == treasury.anvil.head()


async def test_every_type_of_discrepancy_is_found_and_told_once(treasury: Treasury) -> None:
    lacking = treasury.arrive(1)
    unknown = a_hash(uuid.uuid4().int)
    await treasury.enter(unknown, 2)
    amount, asset, direction, twice, address = (treasury.arrive(whole) for whole in (3, 4, 5, 6, 7))
    await treasury.enter(amount, "3.000001")
    await treasury.enter(asset, 4, asset="OTHER")
    await treasury.enter(a_hash(1), 50)
    await treasury.enter(direction, 5, "debit")
    await treasury.enter(twice, 6)
    await treasury.enter(twice, 6)
    await treasury.enter(address, 7, **{"from": THIEF})
    elsewhere = treasury.arrive(8, to=THIEF)
    await treasury.enter(elsewhere, 8, to=treasury.vault)
    failed = treasury.anvil.fail(treasury.token.name, CUSTOMER, treasury.vault, 9)
    await treasury.enter(failed, 9)
    settled = treasury.anvil.head()
    late = treasury.arrive(10)
    await treasury.enter(late, 10)

    report = await treasury.reconcile(finality=1)
    found = treasury.of_ours(report)
    assert {tx: str(discrepancy.type) for tx, discrepancy in found.items()} == {
        lacking: "missing_in_ledger",
        unknown: "missing_on_chain",
        a_hash(1): "missing_on_chain",
        amount: "amount_mismatch",
        asset: "asset_mismatch",
        direction: "direction_mismatch",
        twice: "duplicate",
        address: "address_mismatch",
        elsewhere: "address_mismatch",
        failed: "failed_transaction",
        late: "not_yet_final",
    }
    assert (report.matched_count, report.end_block) == (1, settled + 1)
    assert (found[amount].ledger_amount, found[amount].chain_amount) == (Decimal("3.000001"), Decimal(3))
    assert found[lacking].ledger is None
    assert found[unknown].chain is None
    json.dumps(report.to_dict())

    again = await treasury.reconcile(finality=1)
    assert treasury.of_ours(again) == found
    treasury.anvil.mine()
    later = await treasury.reconcile(finality=1)
    assert (later.matched_count, set(found) - set(treasury.of_ours(later))) == (2, {late})


async def test_what_people_say_holds_and_is_not_told_again(treasury: Treasury) -> None:
    lacking, odd = treasury.arrive(1), treasury.arrive(2)
    await treasury.enter(odd, 3)
    async with ReconciliationEngine(treasury.engine, treasury.provider()) as engine:
        found = treasury.of_ours(await engine.reconcile(treasury.start))
        assert set(found) == {lacking, odd}
        await engine.ignore(found[lacking].discrepancy_id, "dust", actor="ann")
        with pytest.raises(BatchNotInReadModel):
            await engine.resolve(found[odd].discrepancy_id, "no-such-batch", "typo")
        legs = [
            {"account_id": treasury.account, "amount": 1, "entry_type": "debit", "asset": treasury.asset},
            {"account_id": "suspense", "amount": 1, "entry_type": "credit", "asset": treasury.asset},
        ]
        unposted = "unposted-" + treasury.account
        with pytest.raises(InsufficientFunds):
            await treasury.engine.create_batch([{**legs[0], "amount": 1000}], command_id=unposted)
        with pytest.raises(NotACorrection):
            await engine.resolve(found[odd].discrepancy_id, unposted, "typo")
        batch = await treasury.engine.create_batch(legs)
        await engine.resolve(found[odd].discrepancy_id, batch.batch_id, "typo")
        with pytest.raises(DiscrepancyNotFound):
            await engine.explain("no such id", "why not")
        report = await engine.reconcile(treasury.start)
        assert treasury.of_ours(report) == {}
        assert report.settled_count == 2
        await engine.reopen(found[lacking].discrepancy_id, "not dust after all")
        report = await engine.reconcile(treasury.start)
        assert {tx: d.state for tx, d in treasury.of_ours(report).items()} == {lacking: "reopened"}
        rows = await engine.list_discrepancies(settled=True)
        states = {row["tx_hash"]: (row["state"], row["batch_id"]) for row in rows}
        assert (states[lacking], states[odd]) == (("reopened", None), ("resolved", batch.batch_id))


@pytest.mark.parametrize(
    ("depth", "by"),
    [
        *((depth, "evm_revert") for depth in (1, 7, 32, 64)),
        *((depth, "anvil_reorg") for depth in (1, 2, 7)),  # 16 and more take contracts away that are older
    ],
)
async def test_a_reorganisation_is_told_and_what_comes_again_is_matched_again(
    treasury: Treasury, depth: int, by: str
) -> None:
    anvil = treasury.anvil
    await treasury.enter(treasury.arrive(1), 1)
    payment = treasury.signed(2)
    snapshot = anvil.ask("evm_snapshot")
    lost = anvil.send_signed(payment)
    await treasury.enter(lost, 2)
    anvil.mine(depth - 1)
    async with ReconciliationEngine(treasury.engine, treasury.provider()) as engine:
        before = await engine.reconcile(treasury.start)
        assert (before.matched_count, treasury.of_ours(before)) == (2, {})

        anvil.ask(by, *((snapshot,) if by == "evm_revert" else (depth, [])))
        other = treasury.arrive(4)
        anvil.mine(depth)
        after = await engine.reconcile(treasury.start)
        kinds = {tx: str(found.type) for tx, found in treasury.of_ours(after).items()}
        assert (after.matched_count, kinds) == (1, {lost: "reorganised", other: "missing_in_ledger"})

        assert anvil.send_signed(payment) == lost
        again = await engine.reconcile(treasury.start)
        assert (again.matched_count, {*treasury.of_ours(again)}) == (2, {other})


async def test_without_addresses_those_that_entries_name_are_ours(treasury: Treasury) -> None:
    await treasury.enter(treasury.arrive(1), 1, to=treasury.vault)
    unseen = treasury.arrive(2)
    found = treasury.of_ours(await treasury.reconcile(addresses=()))
    assert {tx: str(d.type) for tx, d in found.items()} == {unseen: "missing_in_ledger"}


async def test_what_can_not_be_is_refused(treasury: Treasury) -> None:
    with pytest.raises(InvalidChain, match="no range"):
        await treasury.reconcile(end=treasury.start - 1)
    with pytest.raises(InvalidChain, match="nowhere"):
        await treasury.reconcile(chain="nowhere")


async def test_the_service_follows_log_and_chain_and_posts_what_the_ledger_lacks(treasury: Treasury) -> None:
    options = treasury.settings(chain_deposit_accounts={treasury.vault: treasury.account})
    await treasury.enter(treasury.arrive(1), 1)  # before the service could do it, which would be another credit
    service = treasury.ledger.service("reconciler", **options).start()
    treasury.arrive(2)
    treasury.arrive(4)

    await _balance_is(treasury, 7, service)
    for _ in range(2):
        service.kill()
        service.start()
        treasury.arrive(1)
    await _balance_is(treasury, 9, service)
    assert service.stop() == 0, service.log_text()[-3000:]
    report = await treasury.reconcile()
    assert (report.matched_count, treasury.of_ours(report)) == (5, {})


async def _balance_is(treasury: Treasury, wanted: int, service: Service) -> None:
    deadline = time.monotonic() + 60
    while (balance := await treasury.engine.get_balance(treasury.account, treasury.asset)) != wanted:
        assert service.alive(), service.log_text()[-3000:]
        assert time.monotonic() < deadline, f"{balance} of {wanted}; the service: {service.log_text()[-3000:]}"
        await asyncio.sleep(0.05)


async def test_the_command_line_tells_all_of_it(treasury: Treasury) -> None:
    tx_hash = treasury.arrive(1)
    environment = treasury.ledger.environment(**treasury.settings())
    asked = ["reconcile", "--from", str(treasury.start)]
    listed: list[dict[str, Any]] = []
    for form, shown in ((["--json"], '"missing_in_ledger"'), (["--csv"], "missing_in_ledger,"), ([], tx_hash[:20])):
        result = await asyncio.to_thread(CliRunner().invoke, app, [*asked, *form], env=environment)
        assert result.exit_code == 3, result.output
        assert shown in result.stdout.replace("\n", "")
        if form == ["--json"]:
            listed = json.loads(result.stdout)["discrepancies"]
    (found,) = [d for d in listed if d["transaction_hash"] == tx_hash]
    assert (found["chain"]["amount"], found["chain"]["value"]) == ("1", 10**6)


async def test_the_tables_are_what_the_migrations_make(treasury: Treasury) -> None:
    await treasury.reconcile()
    database = treasury.ledger.wiring().chain_database
    assert await differences(database, tables.metadata) == []
    await downgrade(database, folder=MIGRATIONS)
    await upgrade(database, folder=MIGRATIONS)
    assert await differences(database, tables.metadata) == []
