"""What every test may use. Tests that need the real stack are marked `stack` and run after those that don't.

`make test` runs files of tests side by side, in workers (pytest-xdist) that have a stack each.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import partita.stack
from partita.settings import Settings
from partita.stack import ALL_PARTS, CORE_PARTS
from tests.support.stack import NativeStack, Stack, container_stack, end_leftovers, engine_answers, native_stack

settings.register_profile("partita", deadline=None)  # a busy machine is no fault
settings.load_profile("partita")

_STACK_FIXTURES = {"stack", "full_stack", "own_stack", "own_immudb"}
_WORKERS_END_WITHIN = 20
"""Seconds that the workers of a session that is interrupted have to end what they started."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack-dir",
        type=Path,
        help="Use the native stack in this directory (started there if it is not up) and leave it running. Each of "
        "several workers has one in a directory of its own within.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let SIGTERM end a session as Ctrl-C does: with its stack taken down."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if config.pluginmanager.hasplugin("dsession"):
        from xdist.workermanage import NodeManager  # noqa: PLC0415  # a session in one process can do without

        NodeManager.EXIT_TIMEOUT = _WORKERS_END_WITHIN


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the stacks of workers that had to end before they could do it."""
    if config.pluginmanager.hasplugin("dsession"):
        end_leftovers(config._tmp_path_factory.getbasetemp().parent)  # type: ignore[attr-defined]  # as xdist does


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the stack, and let the files go first that have none."""
    for item in items:
        if _STACK_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.stack)
    slow = {item.path for item in items if item.get_closest_marker("stack")}
    items.sort(key=lambda item: (item.path in slow, item.get_closest_marker("stack") is not None))


@pytest.fixture(scope="session")
def stack_cache() -> Path:
    """Where the stack's downloads are kept: with everybody's, so that they are made once."""
    return Settings().cache_dir


@pytest.fixture(scope="session")
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, stack_cache: Path
) -> Iterator[Stack]:
    """Kafka, the Schema Registry and PostgreSQL, for the whole session. Name your own topics, groups and schemas."""
    chosen: Path | None = request.config.getoption("--stack-dir")
    if chosen is not None:
        worker: dict[str, str] = getattr(request.config, "workerinput", {})
        directory = chosen / worker.get("workerid", "")
        kept = NativeStack(directory=directory, cache=stack_cache)
        kept.ensure(CORE_PARTS)
        yield kept
    elif engine_answers():
        with container_stack() as containers:
            yield containers
    else:
        with native_stack(tmp_path_factory.mktemp("stack"), cache=stack_cache) as native:
            yield native


@pytest.fixture
def own_immudb(tmp_path: Path, stack_cache: Path) -> Iterator[NativeStack]:
    """An immudb of the test's own, which it may kill and whose files it may change."""
    made = NativeStack(directory=tmp_path / "immudb", cache=stack_cache)
    try:
        made.ensure(("immudb",))
        yield made
    finally:
        partita.stack.down(made.directory, purge=True)


@pytest.fixture(scope="session")
def full_stack(stack: Stack) -> Stack:
    """The stack with immudb and the EVM node as well."""
    stack.ensure(ALL_PARTS)
    return stack
