"""Forging proofs: every number, hash and list in a record changed, one at a time."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any


def forgeries(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield copies of a record in each of which one thing is different, with the name of that thing."""
    match value:
        case bool():
            yield path, not value
        case int():
            yield from ((f"{path}{step:+}", value + step) for step in (1, -1))
        case bytes():
            yield from _bytes(value, path)
        case tuple():
            yield from _sequences(value, path)
        case _ if is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                for name, forged in forgeries(getattr(value, field.name), f"{path}.{field.name}"):
                    yield name, replace(value, **{field.name: forged})
        case _:
            pass  # None: nothing is there that could be changed


def _bytes(value: bytes, path: str) -> Iterator[tuple[str, bytes]]:
    for place in {0, len(value) - 1} if value else ():
        yield f"{path}[{place}]", value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
    yield f"{path} longer", value + b"\x00"
    if value:
        yield f"{path} shorter", value[:-1]


def _sequences(value: tuple[Any, ...], path: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for number, item in enumerate(value):
        for name, forged in forgeries(item, f"{path}[{number}]"):
            yield name, (*value[:number], forged, *value[number + 1 :])
    yield f"{path} with one more", (*value, value[-1] if value else bytes(32))
    if value:
        yield f"{path} without the last", value[:-1]
        yield f"{path} without the first", value[1:]
    if len(set(value)) > 1:
        yield f"{path} turned round", value[::-1]
