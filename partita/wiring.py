"""The composition root: the only module that makes clients and services, from settings."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from commands.checkpoints import Checkpoints
from commands.codec import CommandCodec, OutcomeCodec, command_codec
from commands.group import Codecs, Decider
from commands.handler import Handler
from commands.requeue import DeadLetters
from commands.restore import Restorer
from commands.store import Stores
from commands.types import Policy
from events.checkpoint import Verifier, origin_of
from events.clients import KafkaClients, check_broker
from events.codec import EventCodec, event_codec
from events.kafka_log import KafkaLog
from events.log import Log
from events.membership import GroupProtocol, member_name
from events.reconciliation import reconciliation_codec
from events.registry import Registry
from events.topics import Topics, check_partition_count, ensure_topics
from events.vacancies import Vacancies
from partita.receipting import Receipts
from partita.requester import Requester
from partita.settings import Settings
from projections.balances import BALANCES
from projections.database import Database
from projections.immudb.mirror import Mirror
from projections.immudb.shown import Address
from projections.immudb.signing import read_pem, read_public_key
from projections.immudb.trust import TrustFile
from projections.immudb.verified import VerifiedDatabase
from projections.proofs.queries import ProofReader
from projections.queries import ReadModel
from projections.roles import Access
from reconciler.anchoring import Anchoring
from reconciler.anchors import Anchor
from reconciler.checkpoints import newest_checkpoints
from reconciler.configured import ChainProvider, token
from reconciler.expectations import Expectations
from reconciler.matching import Terms
from reconciler.reading import ChainReader, Limits
from reconciler.reconcile import Reconciler
from reconciler.resolutions import Resolutions
from reconciler.store import ChainStore

if TYPE_CHECKING:  # web3 is not in the plain install
    from reconciler.web3_chain import Web3Node

_CACHED_ACCOUNTS: Final = 120_000
"""Accounts that a handler of all partitions keeps in memory, at about a kilobyte each."""

_LEAST_CACHED: Final = 100


def chain_node(url: str, *, timeout: float) -> "Web3Node":
    """Return the node at `url`, for who has nothing else to do with a chain. Close it."""
    from reconciler.web3_chain import Web3Node  # noqa: PLC0415  # web3 is not in the plain install

    return Web3Node(url, timeout=timeout)


class Wiring:
    """Everything that one process stands on. Nothing is connected before it is asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topics: Topics = settings.topics

    @cached_property
    def clients(self) -> KafkaClients:
        """The maker of Kafka clients."""
        return KafkaClients(bootstrap=self.settings.bootstrap(), options=self.settings.kafka_options)

    @cached_property
    def registry(self) -> Registry:
        """The Schema Registry."""
        return Registry(
            self.settings.registry_url(),
            timeout=self.settings.connect_timeout / 2,
            options=self.settings.schema_registry_options,
        )

    def close(self) -> None:
        """Let go of what is shared by the things made here; those are closed by whoever asked for them."""
        if "registry" in self.__dict__:
            self.registry.close()

    @cached_property
    def schema_ids(self) -> dict[str, int]:
        """The ids of all schemas, registered now if they were not."""
        return self.registry.register()

    @cached_property
    def command_codec(self) -> CommandCodec:
        """The codec of commands."""
        return command_codec(self.schema_ids, self.registry.lookup)

    @cached_property
    def event_codec(self) -> EventCodec:
        """The codec of events."""
        return event_codec(self.schema_ids, self.registry.lookup)

    @cached_property
    def outcome_codec(self) -> OutcomeCodec:
        """The codec of outcomes."""
        return OutcomeCodec(self.schema_ids, self.event_codec, self.registry.lookup)

    def database(self, access: Access) -> Database:
        """Return where the read model is, for one of its roles."""
        return Database(
            url=self.settings.database_url(access),
            schema=self.settings.postgres_schema,
            connect_timeout=self.settings.connect_timeout,
        )

    def check_broker(self) -> None:
        """Return when Kafka answers; raises `BrokerUnavailable`."""
        check_broker(self.clients, timeout=self.settings.connect_timeout)

    def ensure_topics(self) -> int:
        """Create the topics that are missing and return the partition count; raises `PartitionCountMismatch`."""
        self.check_broker()
        return ensure_topics(
            self.clients,
            self.topics,
            partitions=self.settings.partitions,
            replication=self.settings.replication,
        )

    def partition_count(self) -> int:
        """Return the ledger's partition count; raises `TopicMissing` when there is no ledger yet."""
        return check_partition_count(self.clients, self.topics, timeout=self.settings.connect_timeout)

    def requester(self) -> Requester:
        """Return a requester, not started; registers the schemas if they were not."""
        self.check_broker()
        return Requester(
            self.clients,
            self.topics,
            self.command_codec,
            self.outcome_codec,
            connect_timeout=self.settings.connect_timeout,
            outcome_timeout=self.settings.outcome_timeout,
        )

    def dead_letters(self) -> DeadLetters:
        """Return the dead letters that there are now; raises `TopicMissing` when there is no ledger yet."""
        self.check_broker()
        return DeadLetters(self.clients, self.topics, timeout=self.settings.connect_timeout)

    def read_model(self, projection: str = BALANCES, *, connections: int = 4) -> ReadModel:
        """Return the read model, with the positions of a projection; it connects when it is asked something."""
        return ReadModel(
            self.database(Access.READ),
            connections=connections,
            timeout=self.settings.connect_timeout,
            projection=projection,
        )

    def proofs(self, reader: ReadModel) -> ProofReader:
        """Return what answers questions to the trees and checkpoints, by way of a read model."""
        return ProofReader(reader, self.settings.postgres_schema)

    def receipts(self, reader: ReadModel) -> Receipts:
        """Return the maker of receipts; registers the schemas if they were not."""
        return Receipts(
            proofs=self.proofs(reader),
            clients=self.clients,
            topic=self.topics.events,
            codec=self.event_codec,
            verifiers=self.verifiers(),
            anchored=self.anchor_of,
            mirrored=self._copy_of if self.settings.immudb_host else None,
        )

    async def anchor_of(self, partition: int, index: int) -> Anchor | None:
        """Return the oldest anchor that has the leaf `index` of a partition's tree; None: there is none yet.

        It is looked for in PostgreSQL, where the anchor service keeps what is recorded; no chain is asked.
        """
        store = ChainStore(replace(self.database(Access.READ), schema=self.settings.chain_schema))
        try:
            if not await store.is_there():
                return None
            found = await store.oldest_anchor(origin_of(self.settings.origin, partition), index)
        finally:
            await store.close()
        return None if found is None else Anchor.of_row(*found)

    def _copy_of(self, partition: int, index: int) -> dict[str, Any] | None:
        with closing(self.verified_database()) as immudb:
            return Mirror(immudb, self.topics.events).receipt_part(partition, index)

    def verifiers(self) -> Sequence[Verifier]:
        """Return every verifier key that the ledger ever had, as far as it is known here."""
        return self.settings.signing_keys.verifiers()

    def verified_database(self) -> VerifiedDatabase:
        """Return immudb's database, held against the trusted state; it connects when it is asked something."""
        from projections.immudb.client import ImmudbClient  # noqa: PLC0415  # its library is not in the plain install

        host, port = self.settings.immudb_address()
        key_file, ca_file = self.settings.immudb_public_key_file, self.settings.immudb_ca_file
        address = Address(
            host=host,
            port=port,
            database=self.settings.immudb_database,
            username=self.settings.immudb_username,
            password=self.settings.immudb_password.get_secret_value,
            timeout=self.settings.immudb_timeout,
            authorities=read_pem(ca_file) if ca_file else None,
        )
        return VerifiedDatabase(
            ImmudbClient(address),
            TrustFile(self.settings.trusted_state_file()),
            signer=read_public_key(key_file) if key_file else None,
        )

    def mirror(self) -> Mirror:
        """Return the ledger's events in immudb."""
        return Mirror(self.verified_database(), self.topics.events)

    @property
    def chain_database(self) -> Database:
        """Where the reconciler's tables are, for who makes and writes them: the roles are none of them."""
        return Database(
            url=self.settings.database_url(),
            schema=self.settings.chain_schema,
            connect_timeout=self.settings.connect_timeout,
        )

    def chain_provider(self) -> ChainProvider:
        """Return the chain that the settings describe; raises `InvalidChain`."""
        given = self.settings
        return ChainProvider(
            chain=given.chain,
            other_rpc_urls=[url.get_secret_value() for url in given.chain_other_rpc_urls],
            addresses=given.chain_addresses,
            tokens=[token(text) for text in given.chain_tokens] or None,
            finality=given.chain_finality,
            tolerances=given.chain_tolerances,
            proofs=given.chain_proofs,
            limits=Limits(
                requests_per_second=given.chain_requests_per_second, most_blocks=given.chain_blocks_per_request
            ),
        )

    def reconciler(self, provider: ChainProvider) -> Reconciler:
        """Return what compares a chain with the ledger; it connects when it is asked something."""
        from reconciler.web3_chain import Web3Node  # noqa: PLC0415  # web3 is not in the plain install

        chain, tokens, ours = provider.described(), provider.chosen_tokens(), provider.ours()
        urls = [provider.rpc_url or self.settings.rpc_url(), *provider.other_rpc_urls]
        timeout = max(self.settings.connect_timeout, provider.limits.longest_delay)
        pace = provider.limits.requests_per_second
        return Reconciler(
            chain=chain,
            reader=ChainReader(
                chain=chain,
                nodes=[Web3Node(url, timeout=timeout, requests_per_second=pace) for url in urls],
                tokens=tokens,
                ours=ours,
                finality=provider.rule(),
                limits=provider.limits,
                proofs=provider.proofs,
            ),
            store=ChainStore(self.chain_database),
            terms=Terms(
                tokens={token.name: token for token in (chain.native, *chain.tokens, *tokens)},
                ours=ours,
                tolerances=provider.allowed(),
            ),
        )

    def anchoring(self, reconciler: Reconciler, resolutions: Resolutions, partition_count: int) -> Anchoring:
        """Return what anchors the ledger's checkpoints on a chain, from the address of the key in the settings."""
        from reconciler.web3_chain import Web3Node, Web3Wallet  # noqa: PLC0415  # as above

        node = reconciler.reader.nodes[0]
        assert isinstance(node, Web3Node)
        origins = [origin_of(self.settings.origin, partition) for partition in range(partition_count)]

        async def checkpoints() -> Sequence[str]:
            found = await asyncio.to_thread(newest_checkpoints, self.clients, self.topics.checkpoints, origins)
            return [*found.values()]

        return Anchoring(
            reader=reconciler.reader,
            wallet=Web3Wallet(node, self.settings.anchoring_key(), reconciler.chain.chain_id),
            store=reconciler.store,
            checkpoints=checkpoints,
            record=resolutions.say,
            stuck_after=self.settings.anchor_stuck_after,
        )

    def expectations(self, store: ChainStore, partition_count: int) -> Expectations:
        """Return what reads from the log which transactions entries name."""
        return Expectations(self.clients, self.topics.events, self.event_codec, store, partition_count)

    def resolutions(self, store: ChainStore) -> Resolutions:
        """Return what people say of discrepancies."""
        codec = reconciliation_codec(self.schema_ids, self.registry.lookup)
        return Resolutions(self.clients, self.topics.reconciliation, codec, store)

    @property
    def handler_group(self) -> str:
        """The consumer group of the handlers."""
        return f"{self.settings.ledger}.handler"

    def log(self, instance: str) -> Log:
        """Return a new log for a handler of this instance name; it joins the group at once."""
        return KafkaLog(
            self.clients,
            self.topics,
            group=self.handler_group,
            instance=instance,
            timeout=self.settings.connect_timeout,
            protocol=self.settings.group_protocol,
        )

    def vacancies(self, instance: str, partition_count: int) -> Vacancies | None:
        """Return what looks for partitions that no handler has; None where the broker gives them out itself."""
        if self.settings.group_protocol is not GroupProtocol.CLASSIC:
            return None
        group = self.handler_group
        member = member_name(group, instance)
        return Vacancies(self.clients, self.topics, group=group, member=member, partition_count=partition_count)

    def handler(
        self,
        log: Log,
        stores: Stores,
        partition_count: int,
        *,
        on_restore: Callable[[int, int, int], None] | None = None,
    ) -> Handler:
        """Return a handler on `log` that keeps its state in `stores`."""
        codecs = Codecs(self.command_codec, self.event_codec, self.outcome_codec)
        policy = Policy(asset_scales=self.settings.asset_scales, implicit_opening=self.settings.implicit_opening)
        return Handler(
            log=log,
            topics=self.topics,
            codecs=codecs,
            checkpoints=Checkpoints(
                topics=self.topics, ledger_origin=self.settings.origin, signers=self.settings.signing_keys.signers()
            ),
            decider=Decider(self.topics, codecs, policy),
            partition_count=partition_count,
            group_size=self.settings.group_size,
            most_dead_letters=self.settings.max_dead_letters,
            restorer=Restorer(
                log,
                self.event_codec,
                stores,
                most_cached=max(_LEAST_CACHED, _CACHED_ACCOUNTS // partition_count),
                on_progress=on_restore,
            ),
        )
