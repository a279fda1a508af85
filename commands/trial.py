"""A dry run of a batch, by as many handlers as have its accounts: each adds what its entries would come to.

One message, `TryBatch`, goes from handler to handler; the first that refuses answers it, or the last. It is all that
there is of a dry run: no handler keeps anything of it. It tells of each partition as it was when it was asked.
"""

from collections.abc import Iterator, Mapping, Sequence

from commands.batch_events import posted, rejected
from commands.decide import TRIED
from commands.promises import refusal
from commands.state import Draft, Drafts
from commands.types import Policy, PostBatch, ReverseBatch, TryBatch
from events.types import BatchPosted, BatchRejected, EntryResult, EntryType, PlacedEntry


def tried(drafts: Drafts, draft: Draft, step: TryBatch, policy: Policy) -> BatchPosted | BatchRejected | TryBatch:
    """Return the answer to a dry run, or what is left to ask when the partitions of `drafts` are asked."""
    entries = untried(step)
    mine = {entry.partition: found for entry in entries if (found := drafts.get(entry.partition)) is not None}
    asked = [entry for entry in entries if entry.partition in mine]
    head = TRIED, draft.writer_epoch, draft.recorded_at, step.batch_id, step.command_offset, step.payload_hash
    refused = refusal(
        asked,
        lambda entry: mine[entry.partition].account(entry.account_id),
        policy,
        forced=step.forced,
        now=lambda entry: mine[entry.partition].recorded_at,
    )
    if refused is not None:
        return rejected(head, kind_of(step), refused, step.reversal_of)
    results = [*step.results, *_results(asked, mine)]
    if len(results) < len(step.entries):
        return step._replace(results=results)
    return posted(head, step, sorted(results))  # by the number of the entry


def kind_of(step: TryBatch) -> type[PostBatch | ReverseBatch]:
    """Return the type of the command that asked for it."""
    return PostBatch if step.reversal_of is None else ReverseBatch


def untried(step: TryBatch) -> list[PlacedEntry]:
    """Return the entries whose partitions were not asked yet."""
    legs = {result.leg for result in step.results}
    return [entry for entry in step.entries if entry.leg not in legs]


def _results(entries: Sequence[PlacedEntry], mine: Mapping[int, Draft]) -> Iterator[EntryResult]:
    """Yield what each entry would come to, after those before it."""
    balances: dict[tuple[str, str], int] = {}
    versions: dict[str, int] = {}
    for entry in entries:
        account = mine[entry.partition].account(entry.account_id)
        change = entry.amount if entry.entry_type is EntryType.CREDIT else -entry.amount
        key = entry.account_id, entry.asset
        balances[key] = balances.get(key, account.balance(entry.asset)) + change
        versions[entry.account_id] = versions.get(entry.account_id, account.version) + 1
        yield EntryResult(entry.leg, TRIED, versions[entry.account_id], balances[key])
