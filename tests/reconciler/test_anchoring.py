"""Anchors: a root over checkpoints, on a real chain, through fees that are too low and reorganisations."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner

from events.checkpoint import Checkpoint, Signer, origin_of, sign
from partita.anchors import find_anchor
from partita.cli import app
from partita.reconciliation import Opened, opened
from reconciler.anchoring import Anchoring
from reconciler.anchors import Anchor, AnchorInvalid, check_path, path_to, root_over, verify_anchor
from reconciler.errors import AnchorKeyInvalid
from reconciler.web3_chain import Web3Node, Web3Wallet
from tests.reconciler.treasury import Treasury

SIGNER = Signer.generate("test")


def address_of(key: str) -> str:
    return Web3Wallet(Web3Node("http://127.0.0.1:9"), key, 1).address


def a_note(number: int, size: int = 7, *signers: Signer) -> str:
    root = number.to_bytes(4, "big") * 8
    return sign(Checkpoint(f"test.example/{number}", size, root), signers or (SIGNER,))


@given(st.integers(1, 40), st.data())
def test_every_checkpoint_is_shown_to_be_under_the_root_and_no_other(count: int, data: st.DataObject) -> None:
    notes = [a_note(number) for number in range(count)]
    index = data.draw(st.integers(0, count - 1))
    anchor = Anchor(
        chain_id=1,
        block_number=2,
        block_hash="0x",
        transaction_hash="0x",
        root=root_over(notes),
        checkpoint=notes[index],
        index=index,
        count=count,
        path=path_to(notes, index),
    )
    assert Anchor.from_dict(json.loads(json.dumps(anchor.to_dict()))) == anchor
    check_path(anchor, notes[index])
    check_path(anchor, a_note(index, 7, Signer.generate("another")))
    for forged in (a_note(index, 8), a_note(count)):
        with pytest.raises(AnchorInvalid):
            check_path(anchor, forged)


@pytest.mark.parametrize("given", [{}, {"format": "x"}, {"format": "partita-anchor-v1", "root": "zz"}])
def test_what_is_no_anchor_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(AnchorInvalid):
        Anchor.from_dict(given)


@pytest.mark.parametrize("key", ["", "0x12", "s3cret" * 11, "0x" + "g" * 64])
def test_a_key_that_is_none_is_not_shown(key: str) -> None:
    with pytest.raises(AnchorKeyInvalid) as caught:
        Web3Wallet(Web3Node("http://127.0.0.1:9"), key, 1)
    assert not key or key not in str(caught.value.to_dict())


@pytest.fixture
async def parts(treasury: Treasury) -> AsyncIterator[tuple[Opened, Anchoring]]:
    key = "0x" + secrets.token_hex(32)
    treasury.anvil.ask("anvil_setBalance", address_of(key), hex(10**20))
    settings = treasury.ledger.settings(**treasury.settings(anchor_key=SecretStr(key)))
    made = await opened(settings, None)
    await made.resolutions.catch_up()
    yield made, made.wiring.anchoring(made.reconciler, made.resolutions, made.partition_count)
    treasury.anvil.ask("evm_setAutomine", True)
    await made.close()


async def recorded(anchoring: Anchoring) -> Any:
    async with asyncio.timeout(30):
        while (event := await anchoring.step()) is None:  # noqa: ASYNC110  # the chain tells nobody
            await asyncio.sleep(0.02)
    return event


async def test_checkpoints_are_anchored_and_an_event_finds_its_anchor(
    treasury: Treasury, parts: tuple[Opened, Anchoring]
) -> None:
    made, anchoring = parts
    entry_id = await treasury.enter(treasury.arrive(1), 1)
    partition, sequence = map(int, entry_id.split("-"))
    assert await anchoring.begin()
    event = await recorded(anchoring)
    assert not await anchoring.begin(), "nothing is new"
    origin = origin_of(made.wiring.settings.origin, partition)
    anchor = await find_anchor(made.wiring.settings, partition, sequence)
    assert anchor
    assert anchor.transaction_hash == event.transaction_hash
    assert anchor.checkpoint.startswith(f"{origin}\n")
    node = made.reconciler.reader.nodes[0]
    assert await verify_anchor(anchor, anchor.checkpoint, node) == event.block_number
    for forged in (
        replace(anchor, transaction_hash="0x" + "1" * 64),
        replace(anchor, block_number=anchor.block_number + 1),
        replace(anchor, chain_id=1),
        replace(anchor, root=b"1" * 32),
        replace(anchor, transaction_hash=treasury.arrive(1)),
    ):
        with pytest.raises(AnchorInvalid):
            await verify_anchor(forged, anchor.checkpoint, node)
    assert await find_anchor(made.wiring.settings, partition, 10**9) is None


async def test_a_stuck_transaction_is_replaced_by_one_that_offers_more(
    treasury: Treasury, parts: tuple[Opened, Anchoring]
) -> None:
    _, anchoring = parts
    await treasury.enter(treasury.arrive(1), 1)
    anchoring.stuck_after = 0.0
    treasury.anvil.ask("evm_setAutomine", False)
    assert await anchoring.begin()
    for _ in range(3):
        assert await anchoring.step() is None
    row = await anchoring.store.open_anchor(31337, anchoring.wallet.address)
    assert row
    assert len(set(row["tx_hashes"])) == 4
    treasury.anvil.mine()
    event = await recorded(anchoring)
    assert event.transaction_hash == row["tx_hashes"][-1], "the one that offers most"


async def test_an_anchor_that_a_reorganisation_throws_out_is_sent_again(
    treasury: Treasury, parts: tuple[Opened, Anchoring]
) -> None:
    _, anchoring = parts
    await treasury.enter(treasury.arrive(1), 1)
    anchoring.reader.finality = 3
    snapshot = treasury.anvil.ask("evm_snapshot")
    assert await anchoring.begin()
    assert await anchoring.step() is None
    assert treasury.anvil.ask("evm_revert", snapshot)
    treasury.anvil.mine(2)
    assert await anchoring.step() is None, "it is sent again"
    treasury.anvil.mine(4)
    event = await recorded(anchoring)
    row = await anchoring.store.anchor(event.event_id)
    assert row["tx_hash"] == event.transaction_hash


async def test_an_anchor_outlives_its_process(treasury: Treasury, parts: tuple[Opened, Anchoring]) -> None:
    made, first = parts
    await treasury.enter(treasury.arrive(1), 1)
    assert await first.begin()
    second = made.wiring.anchoring(made.reconciler, made.resolutions, made.partition_count)
    assert await second.begin(), "it goes on with the one that is on its way"
    event = await recorded(second)
    assert await first.step() is None
    assert event.sender == first.wallet.address


async def test_the_command_line_anchors_and_shows(treasury: Treasury) -> None:
    key = "0x" + secrets.token_hex(32)
    treasury.anvil.ask("anvil_setBalance", address_of(key), hex(10**20))
    entry_id = await treasury.enter(treasury.arrive(1), 1)
    environment = treasury.ledger.environment(**treasury.settings(anchor_key=SecretStr(key)))
    for arguments in (["anchor", "--json"], ["anchor", "show", *entry_id.split("-"), "--json"]):
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["state"] == "recorded"
        assert key[2:] not in result.output
