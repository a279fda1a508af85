"""What a node of a chain does, real or not: the contract of the port, and the reader that stands on it."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from reconciler.chains import NATIVE, Tag, Token, known
from reconciler.errors import ChainUnavailable, InvalidChain, ProvidersDisagree, WrongChain
from reconciler.matching import State
from reconciler.provider import Node
from reconciler.reading import ChainReader, Limits
from reconciler.transfers import NATIVE_INDEX, Transfer
from reconciler.web3_chain import Web3Node
from tests.reconciler.samples import ETH, OTHER, STRANGER, VAULT, WALLET
from tests.reconciler.worlds import Anvil, Fake, FaultyNode, LyingNode, World

OURS = frozenset({VAULT, WALLET})
UNHURRIED = Limits(requests_per_second=1e6)


async def at_once(_: float) -> None:
    """Wait for nothing."""


def reader_of(nodes: list[Node], tokens: list[Token], **given: Any) -> ChainReader:
    fields: dict[str, Any] = {"finality": 0, "limits": UNHURRIED, "sleep": at_once}
    return ChainReader(known("anvil"), nodes, tokens, OURS, **{**fields, **given})


@asynccontextmanager
async def node_of(world: World) -> AsyncIterator[Node]:
    node = world.node()
    try:
        yield node
    finally:
        await node.close()


async def read_all(reader: ChainReader, first: int, last: int) -> list[Transfer]:
    found: list[Transfer] = []
    while first <= last:
        stretch = await reader.read(first, last)
        assert stretch.first == first
        first = stretch.last.number + 1
        found += stretch.transfers
    return found


async def test_transfers_of_tokens_and_of_the_chains_own_asset_are_read(world: World) -> None:
    usdc = Token(asset="USDC", address=world.deploy(6), decimals=6)
    first = world.head() + 1
    paid = world.pay(usdc.name, STRANGER, VAULT, 5_000_000)
    world.pay(usdc.name, STRANGER, OTHER, 1)
    back = world.pay(usdc.name, VAULT, STRANGER, 1_000_000)
    world.fail(usdc.name, STRANGER, VAULT, 7)
    coin = world.pay(NATIVE, STRANGER, WALLET, 3)
    world.fail(NATIVE, WALLET, VAULT, 4)
    twice = world.pay_twice(usdc.name, WALLET, VAULT, 2)
    async with node_of(world) as node:
        reader = reader_of([node], [usdc, ETH])
        await reader.check()
        found = await read_all(reader, first, world.head())
    assert [(t.tx_hash, t.token, t.sender, t.recipient, t.value) for t in found] == [
        (paid, usdc.name, STRANGER, VAULT, 5_000_000),
        (back, usdc.name, VAULT, STRANGER, 1_000_000),
        (coin, NATIVE, STRANGER, WALLET, 3),
        (twice, usdc.name, WALLET, VAULT, 2),
        (twice, usdc.name, WALLET, VAULT, 2),
    ]
    assert found[2].log_index == NATIVE_INDEX
    assert found[3].log_index + 1 == found[4].log_index


async def test_what_became_of_a_transaction_is_told(world: World) -> None:
    usdc = Token(asset="USDC", address=world.deploy(6), decimals=6)
    paid = world.pay(usdc.name, STRANGER, OTHER, 5)
    failed = world.fail(usdc.name, STRANGER, VAULT, 5)
    coin = world.pay(NATIVE, STRANGER, WALLET, 3)
    async with node_of(world) as node:
        reader = reader_of([node], [usdc, ETH])
        looked = {tx: await reader.lookup(tx, world.head()) for tx in (paid, failed, coin, "0x" + "e" * 64)}
        states = [found.transaction.state for found in looked.values()]
        assert states == [State.DONE, State.FAILED, State.DONE, State.UNKNOWN]
        assert [(t.recipient, t.value) for t in looked[paid].transfers] == [(OTHER, 5)]
        assert [(t.token, t.value) for t in looked[coin].transfers] == [(NATIVE, 3)]
        assert (await reader.lookup(paid, 0)).transaction.state is State.PENDING


async def test_blocks_are_told_by_number_and_by_tag(world: World) -> None:
    world.mine(5)
    async with node_of(world) as node:
        newest, before = await node.block(None), await node.block(world.head() - 1)
        assert newest
        assert before
        assert (newest.number, newest.parent) == (world.head(), before.hash)
        safe, final = await node.block(Tag.SAFE), await node.block(Tag.FINALIZED)
        assert safe
        assert final
        assert final.number <= safe.number <= newest.number
        assert await node.block(world.head() + 1) is None
        for finality, number in ((0, newest.number), (3, newest.number - 3), (Tag.FINALIZED, final.number)):
            assert (await reader_of([node], [ETH], finality=finality).settled()).number == number


async def test_a_block_commits_to_its_receipts(world: World) -> None:
    usdc = world.deploy(6)
    paid = world.pay(usdc, STRANGER, VAULT, 5)
    at = world.head()
    world.pay(usdc, STRANGER, OTHER, 6)
    last = world.head()
    async with node_of(world) as node:
        header, receipts = await node.header(at, [usdc], OURS), await node.receipts(at)
        assert header
        assert receipts
        assert (header.block, header.may_have) == (await node.block(at), True)
        assert (header.receipts_root, header.transactions) == (receipts.root, (paid,))
        assert receipts.of == {paid: await node.receipt(paid)}
        other, others = await node.header(last, [usdc], OURS), await node.receipts(last)
        assert other
        assert others
        assert not other.may_have
        assert other.receipts_root == others.root != receipts.root
        assert await node.header(last + 1, [usdc], OURS) is None
        assert await node.receipts(last + 1) is None


@pytest.mark.parametrize("count", [0, 1, 2, 16, 17, 127, 128, 129, 300])
async def test_the_receipts_of_blocks_of_any_size_have_the_root_that_a_real_node_says(
    anvil: Anvil, count: int
) -> None:
    anvil.send(STRANGER, VAULT)
    anvil.ask("evm_setAutomine", False)
    for _ in range(count):
        anvil.ask("eth_sendTransaction", {"from": STRANGER, "to": VAULT, "value": "0x1", "gas": hex(21_000)})
    anvil.mine()
    anvil.ask("evm_setAutomine", True)
    async with node_of(anvil) as node:
        header, receipts = await node.header(anvil.head(), [], []), await node.receipts(anvil.head())
    assert header
    assert receipts
    assert (len(receipts.of), receipts.root) == (count, header.receipts_root)


async def test_a_reorganisation_changes_hashes_and_takes_transactions_away(world: World) -> None:
    usdc = world.deploy(6)
    world.mine(3)
    paid = world.pay(usdc, STRANGER, VAULT, 5)
    world.mine(2)
    async with node_of(world) as node:
        numbers = [world.head() - depth for depth in range(5)]
        before = [await node.block(number) for number in numbers]
        world.reorganise(3)
        after = [await node.block(number) for number in numbers]
        assert [b != a for b, a in zip(before, after, strict=True)] == [True, True, True, False, False]
        assert await node.receipt(paid) is None


async def test_a_node_of_another_chain_and_a_token_of_other_decimals_are_refused(world: World) -> None:
    six = world.deploy(6)
    async with node_of(world) as node:
        with pytest.raises(WrongChain):
            await ChainReader(known("base"), [node], [], OURS, finality=0, limits=UNHURRIED, sleep=at_once).check()
        with pytest.raises(InvalidChain, match="has 6 decimals"):
            await reader_of([node], [Token(asset="USDC", address=six, decimals=18)]).check()
        with pytest.raises(InvalidChain, match="no token's contract"):
            await reader_of([node], [Token(asset="USDC", address=OTHER, decimals=6)]).check()


async def test_a_fee_on_transfer_counts_by_what_arrives_and_an_nft_is_no_payment(anvil: Anvil) -> None:
    costly = Token(asset="FEE", address=anvil.deploy(18, fee=10), decimals=18)
    first = anvil.head() + 1
    anvil.pay(costly.name, STRANGER, VAULT, 100)
    anvil.call(costly.name, STRANGER, "pose_as_nft", VAULT, 7)
    async with node_of(anvil) as node:
        found = await read_all(reader_of([node], [costly]), first, anvil.head())
    assert [t.value for t in found] == [90]


async def test_a_node_that_is_not_there_is_told_without_what_its_address_holds() -> None:
    node = Web3Node("http://user:pa55word@127.0.0.1:9/v3/k3y")
    with pytest.raises(ChainUnavailable) as caught:
        await reader_of([node], [ETH], limits=replace(UNHURRIED, tries=2)).check()
    await node.close()
    assert "127.0.0.1:9" in caught.value.message
    assert not {"pa55word", "k3y"} & {*str(caught.value.to_dict()).replace("/", " ").split()}
    assert "k3y" not in repr(node)


def busy_chain(seed: int, blocks: int = 40) -> tuple[Fake, Token, list[Transfer]]:
    fake = Fake()
    usdc = Token(asset="USDC", address=fake.deploy(6), decimals=6)
    rng = FaultyNode(fake, seed).rng
    for _ in range(blocks):
        fake.mine()
        for _ in range(rng.choice([0, 0, 1, 2, 5])):
            fake.add(usdc.name, rng.choice([STRANGER, OTHER]), rng.choice([VAULT, OTHER]), [rng.randrange(1, 100)])
    truth = [t for block in fake.blocks for _, _, ts in block.sent.values() for t in ts if t.recipient == VAULT]
    return fake, usdc, truth


@pytest.mark.parametrize("seed", range(100))
async def test_a_node_that_refuses_and_fails_costs_no_transfer(seed: int) -> None:
    fake, usdc, truth = busy_chain(seed)
    reader = reader_of([FaultyNode(fake, seed)], [usdc], limits=replace(UNHURRIED, tries=60))
    found = await read_all(reader, 0, fake.head())
    assert sorted(found) == sorted(truth)


@pytest.mark.parametrize("seed", range(60))
async def test_a_node_that_lies_is_found_out_by_another(seed: int) -> None:
    fake, usdc, truth = busy_chain(seed)
    if not truth:
        pytest.skip("nothing to lie about was drawn")
    number = FaultyNode(fake, seed).rng.choice(truth).block_number
    nodes: list[Node] = [fake.node(), LyingNode(fake, number, seed)]
    with pytest.raises(ProvidersDisagree, match="fake and liar"):
        await read_all(reader_of(nodes, [usdc], limits=replace(UNHURRIED, tries=3)), 0, fake.head())


async def test_a_range_grows_again_after_a_refusal() -> None:
    fake = Fake()
    usdc = Token(asset="USDC", address=fake.deploy(6), decimals=6)
    fake.mine(8000)
    node = FaultyNode(fake, 0)
    node.widest, node.most_logs, node.trouble = 10, 1000, 0.0
    reader = reader_of([node], [usdc], limits=replace(UNHURRIED, most_blocks=640))
    assert (await reader.read(0, fake.head())).last.number < 10
    node.widest = 10_000
    widths: list[int] = []
    at = 10
    while at <= fake.head():
        stretch = await reader.read(at, fake.head())
        widths.append(stretch.last.number - at + 1)
        at = stretch.last.number + 1
    assert 640 in widths
    assert widths[:-1] == sorted(widths[:-1])


def test_the_chains_libraries_leave_python_as_deep_as_it_was() -> None:
    code = (
        "import sys; n = sys.getrecursionlimit(); import reconciler.web3_chain; print(n == sys.getrecursionlimit())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "True"
