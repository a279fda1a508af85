"""Apache Kafka: one node that is broker and controller (KRaft), from its jars. Owns the broker's settings."""

import base64
import shutil
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from threading import Event

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from partita.stack.artifacts import fetch_all, pin_text, read_pins
from partita.stack.errors import UnhealthyError
from partita.stack.java import SMALL_JVM, java_executable
from partita.stack.part import Launch, Part
from partita.stack.ports import LOOPBACK
from partita.stack.programs import run
from partita.stack.progress import OnProgress, Teller
from partita.stack.site import Site

VERSION = "4.2.1"
HEAP = ("-Xms128m", "-Xmx512m")
# What Kafka does with its mapped files and libraries, Java would warn of in the log.
_ALLOWED = ("--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED")
_FORMAT_LIMIT_S = 120
_PROBE_LIMIT_S = 3.0

# The broker's settings, the same natively and in docker-compose.yml (a test compares).
SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    # One node: every internal topic has one replica, and few partitions, so that it is up soon.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    # The least that Kafka takes (KIP-1030): a broker that starts has loaded the groups soon.
    "offsets.topic.segment.bytes": "1048576",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    # Topics are made by their owner, with their owner's settings.
    "auto.create.topics.enable": "false",
    # A group starts at once, and a killed member is noticed within seconds, in both group protocols.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "3000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "1000",
    # A transaction whose producer died is aborted within a second of its time-out.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "transaction.max.timeout.ms": "900000",
    # Small memory: the log cleaner's map would take 128 MiB of the heap, each thread pool its buffers.
    "log.cleaner.dedupe.buffer.size": "16777216",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
    # After a kill, the broker may register again only when its old session is over.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


def fetch(cache: Path, tell: Teller) -> None:
    """Fetch the broker's jars (about 60 MB) into the cache. `StackError` if that fails."""
    fetch_all(read_pins("kafka-broker-jars.txt"), cache / "jars", cache=cache, tell=tell)


def fetch_kafka_tools(cache: Path, on_progress: OnProgress | None = None) -> None:
    """Fetch Kafka's own command-line tools, which the stack itself does not need. `StackError` if that fails."""
    tell = Teller(part="kafka", on_progress=on_progress, stop=Event())
    fetch(cache, tell)
    fetch_all(read_pins("kafka-tools-extra-jars.txt"), cache / "jars", cache=cache, tell=tell)


def kafka_classpath(cache: Path, *, tools: bool = False) -> str:
    """Return the class path of the broker (it holds `kafka-clients`), or with `tools` also of Kafka's tools."""
    pins = read_pins("kafka-broker-jars.txt") + (read_pins("kafka-tools-extra-jars.txt") if tools else ())
    return ":".join(str(cache / "jars" / pin.filename) for pin in pins)


def properties(site: Site) -> dict[str, str]:
    """Return the whole of server.properties: the common settings and this site's places."""
    broker, controller = site.ports["kafka"], site.ports["kafka_controller"]
    return {
        **SETTINGS,
        "listeners": f"PLAINTEXT://{LOOPBACK}:{broker},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{broker}",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
        "log.dirs": str(site.data("kafka")),
    }


def launch(site: Site) -> Launch:
    """Write the configuration, format the data directory if it is new, and return the broker's command."""
    config = site.config("kafka")
    config.mkdir(parents=True, exist_ok=True)
    server, logging = config / "server.properties", config / "log4j2.properties"
    server.write_text("".join(f"{key}={value}\n" for key, value in properties(site).items()))
    logging.write_text(pin_text("kafka-log4j2.properties"))
    if not (site.data("kafka") / "meta.properties").exists():
        _format(site, server)
    logs = f"-Dlog4j2.configurationFile={logging}"
    return Launch(argv=_java(site, *HEAP, *_ALLOWED, logs, main=("kafka.Kafka", str(server))), cwd=site.data("kafka"))


def _java(site: Site, *flags: str, main: tuple[str, ...]) -> tuple[str, ...]:
    return (str(java_executable()), *SMALL_JVM, *flags, "-cp", kafka_classpath(site.cache), *main)


def _format(site: Site, server: Path) -> None:
    """Give the data directory a new cluster id. What an interrupted attempt left is removed first."""
    shutil.rmtree(site.data("kafka"), ignore_errors=True)
    site.data("kafka").mkdir(parents=True)
    # Kafka's own form of a random id; one that begins with a dash would read as an option.
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
    tool = ("kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", str(server))
    argv = _java(site, "-XX:TieredStopAtLevel=1", main=tool)
    run(argv, part="kafka", cwd=site.data("kafka"), limit_s=_FORMAT_LIMIT_S)


def probe(site: Site) -> str:
    """Ask the broker for its topics; `UnhealthyError` if it does not answer within a few seconds."""
    address = (LOOPBACK, site.ports["kafka"])
    try:
        # The client would go on trying to connect, and say so on stderr.
        socket.create_connection(address, timeout=_PROBE_LIMIT_S).close()
        admin = AdminClient({"bootstrap.servers": f"{address[0]}:{address[1]}", "log_level": 0})
        found = admin.list_topics(timeout=_PROBE_LIMIT_S)
    except (OSError, KafkaException) as error:
        raise UnhealthyError(str(error)) from error
    return f"{len(found.topics)} topics"


def _addresses(site: Site) -> dict[str, str]:
    return {"kafka_bootstrap": f"{LOOPBACK}:{site.ports['kafka']}"}


PART = Part(
    name="kafka",
    ports=("kafka", "kafka_controller"),
    fetch=fetch,
    launch=launch,
    probe=probe,
    addresses=_addresses,
    passing=("Failed to acquire lock on file",),
)
