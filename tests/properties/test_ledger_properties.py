"""Whatever is asked, and however often: money is conserved, nothing is done twice, and the log is the state."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from commands.codec import Outcome
from commands.payload import payload_hash
from commands.records import hold_key
from commands.state import Draft
from commands.types import AccountCommand, PostEntry
from commands.validation import canonical
from events.account import NEW_ACCOUNT, evolve
from events.batch import PASSING
from events.follow import SequenceCheck
from events.types import AccountEvent, EntryPosted
from tests.properties import strategies as some
from tests.support.fake_ledger import FakeLedger
from tests.support.fake_log import Loss
from tests.support.samples import CODECS, CREDIT, NOON, TOPICS, decider, new_state, record

ACCOUNTS = ("alice", "bob", "счёт")
groups_of_commands = st.lists(st.lists(some.few_commands, min_size=1, max_size=8), max_size=8)


class OnePartition:
    """A partition, groups decided against it, and what came of them. A group may be dropped before its commit."""

    def __init__(self) -> None:
        self.state = new_state()
        self.events: list[bytes] = []
        self.outcomes: list[Outcome] = []
        self.asked: list[AccountCommand] = []
        self.offset = 0

    def take(self, commands: Sequence[AccountCommand], *, commit: bool = True) -> None:
        draft = Draft(self.state, recorded_at=NOON)
        records = [record(command, self.offset + i) for i, command in enumerate(commands)]
        out = decider().decide({0: draft}, draft, [decider().read(record) for record in records]).messages
        if commit:
            draft.commit()
            self.offset += len(commands)
            self.asked += commands
            self.events += [message.value or b"" for message in out if message.topic == TOPICS.events]
            self.outcomes += [
                CODECS.outcomes.decode(message.value or b"") for message in out if message.topic == TOPICS.outcomes
            ]


@given(st.lists(st.lists(some.few_entries, min_size=1, max_size=8), max_size=8))
def test_balances_are_credits_less_debits_and_never_below_zero(groups: list[list[PostEntry]]) -> None:
    ledger = OnePartition()
    for group in groups:
        ledger.take(group)
    flows: Counter[tuple[str, str]] = Counter()
    for event in map(CODECS.events.decode, ledger.events):
        if isinstance(event, EntryPosted):
            flows[event.account_id, event.asset] += event.amount if event.entry_type is CREDIT else -event.amount
            assert 0 <= flows[event.account_id, event.asset] == event.running_balance < 10**38
    for name in ACCOUNTS:
        assert all(units == flows[name, asset] >= 0 for asset, units in ledger.state.account(name).balances.items())


@given(groups_of_commands, st.data())
def test_replay_of_the_bytes_is_the_state(groups: list[list[AccountCommand]], data: st.DataObject) -> None:
    """Also when groups were decided and dropped on the way: they leave no trace."""
    ledger = OnePartition()
    for group in groups:
        if data.draw(st.booleans()):
            ledger.take(group[::-1], commit=False)
        ledger.take(group)
    replayed, check = new_state(), SequenceCheck(0, 1)
    accounts = dict.fromkeys(ACCOUNTS, NEW_ACCOUNT)
    for offset, event in enumerate(ledger.events, 1):
        stored = check.decode(CODECS.events, record(event, offset))
        replayed.replay([stored])
        assert isinstance(stored.event, AccountEvent)
        accounts[stored.event.account_id] = evolve(accounts[stored.event.account_id], stored.event)
    assert replayed.position.next_sequence == ledger.state.position.next_sequence == len(ledger.events) + 1
    assert replayed.position.last_event == ledger.state.position.last_event
    assert replayed.position.recorded_at == ledger.state.position.recorded_at
    for key in [hold_key(account, f"c-{i}") for account in ACCOUNTS for i in range(12)]:
        assert replayed.hold(key) == ledger.state.hold(key)
    for name in ACCOUNTS:
        assert replayed.account(name) == ledger.state.account(name) == accounts[name]
    again = OnePartition()
    again.state, again.offset = replayed, ledger.offset
    recorded = [(c, o.event) for c, o in zip(ledger.asked, ledger.outcomes, strict=True) if o.event.sequence >= 0]
    again.take([command for command, _ in recorded])
    assert again.events == []
    assert [outcome.event for outcome in again.outcomes] == [event for _, event in recorded]
    assert all(outcome.replayed for outcome in again.outcomes)


@given(groups_of_commands)
def test_every_command_has_one_outcome_and_the_same_one_each_time(groups: list[list[AccountCommand]]) -> None:
    ledger = OnePartition()
    for group in groups:
        ledger.take(group)
    told = defaultdict(list)
    for command, outcome in zip(ledger.asked, ledger.outcomes, strict=True):
        assert outcome.event.command_id == command.command_id
        if outcome.event.sequence < 0:
            assert command.dry_run or getattr(outcome.event, "code", "") in PASSING
            assert not outcome.replayed
            continue
        told[command.account_id, command.command_id, _digest(command)].append(outcome)
    for outcomes in told.values():
        assert [outcome.replayed for outcome in outcomes] == [False] + [True] * (len(outcomes) - 1)
        assert len({outcome.event.sequence for outcome in outcomes}) == 1
    assert len(ledger.events) == len(told)


def _digest(command: AccountCommand) -> bytes:
    return payload_hash(canonical(command)[0])


steps = st.one_of(
    st.tuples(st.just("ask"), some.few_commands),
    st.tuples(st.just("turn"), st.sampled_from("ab")),
    st.tuples(st.just("lose"), st.sampled_from("ab"), st.sampled_from(Loss)),
    st.tuples(st.just("crash"), st.sampled_from("ab")),
    st.tuples(st.just("expire"), st.sampled_from("ab")),
    st.tuples(st.just("time out")),
    st.tuples(st.just("hold")),
    st.tuples(st.just("release")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=60))
def test_two_handlers_that_crash_and_swap_partitions_do_everything_once(story: list[tuple[object, ...]]) -> None:
    """A small simulation: whatever befalls the handlers and the cluster, in whatever order."""
    simulation = Simulation()
    for step in story:
        simulation.do(*step)
    simulation.settle()


class Simulation:
    """Two handlers on the fake cluster. A handler that fails is started anew, as `commands.service` does it."""

    def __init__(self) -> None:
        self.ledger = FakeLedger(partitions=3, group_size=4)
        self.members = {name: self.ledger.member(name) for name in "ab"}
        self.asked: list[AccountCommand] = []

    def do(self, what: object, *given: object) -> None:
        cluster = self.ledger.cluster
        match what, *given:
            case "ask", command if isinstance(command, AccountCommand):
                self.ledger.ask(command)
                self.asked.append(command)
            case "turn", str() as name:
                self.turn(name)
            case "lose", str() as name, Loss() as loss:
                self.members[name].log.lose_next_commit(loss)
            case "crash", str() as name:
                self.members[name] = self.ledger.member(name)
            case "expire", str() as name if cluster.is_current(self.members[name].log):
                cluster.expire_member(name)
            case "time out", *_:
                cluster.time_out_transactions()
            case "hold", *_:
                cluster.hold_markers()
            case "release", *_:
                cluster.release_markers()
            case _:  # who is out of the group can't be thrown out
                pass

    def turn(self, name: str) -> int:
        try:
            turn = self.members[name].turn()
        except Exception as error:
            if not getattr(error, "retriable", False):
                raise
            self.members[name] = self.ledger.member(name)
            return 1
        return turn.commands + turn.restoring

    def settle(self) -> None:
        """Heal everything, and see that all was done, once."""
        self.ledger.cluster.release_markers()
        self.ledger.cluster.time_out_transactions()
        idle = 0
        for _ in range(300):
            idle = 0 if self.turn("a") + self.turn("b") else idle + 1
            if idle == 4:
                break
        assert idle == 4, "it does not come to rest"
        self.ledger.accounts()
        questions = {(c.account_id, c.command_id, _digest(c)) for c in self.asked}
        told = [outcome.event for outcome in self.ledger.outcomes()]
        answers = {(getattr(e, "account_id", ""), e.command_id, e.payload_hash) for e in told}
        assert answers == questions
        assert len(self.ledger.outcomes()) == len(self.asked)
