"""A long range of a real chain with many transfers: all compared, with bounded memory and few requests."""

from bench.chain import pour
from bench.reconcile import PER_BLOCK, measured
from tests.support.stack import Stack

BLOCKS = 1_000
_US = f"0x{0xA1:040x}"


def test_a_thousand_blocks_of_transfers_take_few_requests_and_little_memory(full_stack: Stack) -> None:
    url = full_stack.addresses["evm_rpc_url"]
    poured = pour(url, _US, blocks=BLOCKS, per_block=PER_BLOCK, base=1_000_000)
    found = measured(full_stack.addresses["postgres_url"], url, poured)
    assert found["requests"] <= found["requests_least"] + 3  # the first range is a narrow one
    assert found["memory_most_mib"] < 250
