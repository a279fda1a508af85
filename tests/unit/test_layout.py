"""The rooms of the project are where the documents say, and keep to themselves."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "events", "commands", "projections", "reconciler", "partita")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_top_level_package_is_the_one_of_this_repository(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).parent == ROOT / package


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if _reads_environment(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert readers == {"partita/settings.py"}


@pytest.mark.parametrize(("library", "file"), [("immudb", "projections/immudb/client.py")])
def test_the_library_of_a_vendor_is_imported_by_one_file(library: str, file: str) -> None:
    importers = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if library in _imported(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert importers == {file}


def _imported(tree: ast.AST) -> set[str]:
    """Return the top-level packages that a module imports, anywhere in it."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


def _reads_environment(tree: ast.AST) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") for node in ast.walk(tree))
