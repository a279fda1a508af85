"""docker-compose.yml describes the parts of the native stack: same versions, same settings, loopback only."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from partita.stack import ALL_PARTS, anvil, immudb, kafka, postgres, registry
from partita.stack.site import Site
from tests.support.stack import COMPOSE_FILE, container_plan, substituted

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]


def variables(prefix: str, settings: dict[str, str]) -> dict[str, str]:
    """Name settings as images take them from the environment."""
    return {prefix + re.sub("[^A-Z0-9]", "_", key.upper()): value for key, value in settings.items()}


def test_the_parts_are_the_same() -> None:
    assert tuple(SERVICES) == ALL_PARTS


@pytest.mark.parametrize(
    ("part", "image"),
    [
        ("kafka", f"apache/kafka:{kafka.VERSION}"),
        ("registry", f"apicurio/apicurio-registry:{registry.VERSION}"),
        ("postgres", f"postgres:{postgres.MAJOR_VERSION}"),
        ("immudb", f"codenotary/immudb:{immudb.VERSION}"),
    ],
)
def test_the_versions_are_the_same(part: str, image: str) -> None:
    assert SERVICES[part]["image"] == image


def test_anvil_is_the_same_npm_package() -> None:
    assert SERVICES["anvil"]["entrypoint"][-1] == f"@foundry-rs/anvil@{anvil.VERSION}"


def test_the_pinned_jars_are_of_these_versions() -> None:
    from partita.stack.artifacts import read_pins  # noqa: PLC0415

    versions = {pin.version for pin in read_pins("kafka-broker-jars.txt") if pin.group == "org.apache.kafka"}
    assert versions == {kafka.VERSION}
    assert [pin.version for pin in read_pins("registry.txt")] == [registry.VERSION]


def test_the_settings_of_kafka_are_the_same() -> None:
    environment = SERVICES["kafka"]["environment"]
    own = {"KAFKA_HEAP_OPTS", "KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_LOG_DIRS"}
    own |= {"KAFKA_CONTROLLER_QUORUM_VOTERS"}
    assert {key: value for key, value in environment.items() if key not in own} == variables(
        "KAFKA_", dict(kafka.SETTINGS)
    )
    assert environment["KAFKA_HEAP_OPTS"].split() == list(kafka.HEAP)


def test_the_names_of_kafkas_settings_survive_the_environment() -> None:
    """The image turns `_` into `.`, and doubled or tripled ones into `_` and `-`: only dots are safe to map."""
    assert not [key for key in kafka.SETTINGS if re.search("[^a-z.]", key)]


def test_the_settings_of_the_registry_are_the_same() -> None:
    environment = SERVICES["registry"]["environment"]
    own = {"JAVA_TOOL_OPTIONS", "APICURIO_DATASOURCE_URL", "QUARKUS_HTTP_PORT"}
    assert {key: value for key, value in environment.items() if key not in own} == variables(
        "", dict(registry.SETTINGS)
    )
    assert registry.HEAP in environment["JAVA_TOOL_OPTIONS"].split()


def test_the_settings_of_postgresql_are_the_same() -> None:
    server, *options = SERVICES["postgres"]["command"]
    assert server == "postgres"
    assert options[0::2] == ["-c"] * len(postgres.SETTINGS)
    assert dict(option.split("=", 1) for option in options[1::2]) == postgres.SETTINGS
    environment = SERVICES["postgres"]["environment"]
    assert environment["POSTGRES_INITDB_ARGS"].split() == list(postgres.INITDB_ARGUMENTS)
    assert (environment["POSTGRES_USER"], environment["POSTGRES_DB"]) == (postgres.USER, postgres.DATABASE)


@pytest.mark.parametrize(("part", "settings"), [("immudb", immudb.SETTINGS), ("anvil", anvil.SETTINGS)])
def test_the_flags_are_the_same(part: str, settings: dict[str, str]) -> None:
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in SERVICES[part]["command"])
    assert {key: value for key, value in flags.items() if key not in {"host", "port", "state"}} == settings


@pytest.mark.parametrize("part", ALL_PARTS)
def test_a_part_listens_on_loopback_keeps_its_data_and_tells_its_health(part: str) -> None:
    service = SERVICES[part]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["volumes"][0].partition(":")[0] == part
    assert service["healthcheck"]["test"][0] == "CMD"


def test_memory_is_capped_at_three_gibibytes() -> None:
    units = {"m": 1, "g": 1024}
    limits = [service["mem_limit"] for service in SERVICES.values()]
    assert sum(int(limit[:-1]) * units[limit[-1]] for limit in limits) <= 3 * 1024


def test_compose_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode != 0:
        pytest.skip("docker compose is not here")
    argv = [docker, "compose", "--file", str(COMPOSE_FILE), "config", "--quiet"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_containers_of_the_tests_come_from_the_file_with_other_ports() -> None:
    site = Site(
        directory=COMPOSE_FILE.parent, cache=COMPOSE_FILE.parent, password="other", ports={"kafka": 1, "postgres": 2}
    )
    plan = container_plan("kafka", site)
    assert plan.image == SERVICES["kafka"]["image"]
    assert plan.environment["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://127.0.0.1:1"
    assert plan.ports == {9092: 1}
    assert container_plan("postgres", site).environment["POSTGRES_PASSWORD"] == "other"


def test_variables_are_substituted_as_compose_does() -> None:
    assert substituted("${A:-1} ${B:-2} ${C:-}", {"A": "x", "B": ""}) == "x 2 "
