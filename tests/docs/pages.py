"""The documents as data: their text, code blocks, tables, headings and links."""

import re
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    """Return the text of a page, named from the root of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return [code for found, code in _FENCED.findall(read(name)) if found == language]


def prose(text: str) -> str:
    """Return `text` without its code blocks."""
    return _FENCED.sub("", text)


def section(text: str, heading: str) -> str:
    """Return what is below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}$\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no heading {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row in `text`, without the heads of the tables."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {line for line, next_line in pairwise(lines) if _is_rule(next_line)}
    below = [line for line in lines if line not in heads and not _is_rule(line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in below]


def _is_rule(line: str) -> bool:
    return not line.strip("|-: ")


def names(cell: str) -> list[str]:
    """Return what a cell has between backticks, comma by comma."""
    return [name.strip() for quoted in re.findall(r"`([^`]+)`", cell) for name in quoted.split(",")]


def links(text: str) -> list[str]:
    """Return the targets of all links to places in the repository."""
    return [to for to in re.findall(r"\]\(([^)\s]+)\)", prose(text)) if not re.match(r"[a-z]+:", to)]


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
