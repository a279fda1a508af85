"""What makes two commands the same: a hash of all that the requester asked for, and of nothing else."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

from commands.types import Command, PostBatch, PostEntry

_NOT_PAYLOAD: Final = frozenset({"command_id", "reply_key", "lock_token", "locks", "dry_run"})


def payload_hash(command: Command) -> bytes:
    """Return the SHA-256 of the command's payload: all fields but its ids, its locks and `dry_run`.

    Each text is preceded by its length, so that no two payloads are hashed from the same bytes. It does not depend
    on the version of the schema that the command was written with. Amounts are hashed as hexadecimal, since Python
    refuses to write very large integers as decimals and any producer may send one.
    """
    text = _WRITTEN_OUT.get(type(command), _text)(command)
    return sha256(text.encode("utf-8")).digest()


def _post_entry(command: PostEntry) -> str:
    account, asset, reference, metadata = command.account_id, command.asset, command.reference, command.metadata
    return (
        f"PostEntry|{len(account)}:{account}|{command.entry_type}|{command.amount:x}|{len(asset)}:{asset}"
        f"|{_optional(reference)}|{_optional(metadata)}|{command.effective_at}|{command.expected_version}"
    )


def _post_batch(command: PostBatch) -> str:
    entries = "|".join(
        f"{len(e.account_id)}:{e.account_id}|{e.entry_type}|{e.amount:x}|{len(e.asset)}:{e.asset}"
        f"|{_optional(e.reference)}|{_optional(e.metadata)}|{e.effective_at}|{e.expected_version}"
        for e in command.entries
    )
    return (
        f"PostBatch|{len(command.entries)}|{entries}|{command.balanced}|{_optional(command.reference)}"
        f"|{_optional(command.metadata)}"
    )


def _optional(text: str | None) -> str:
    return "-" if text is None else f"{len(text)}:{text}"


def _text(command: Command) -> str:
    values = (getattr(command, name) for name in command._fields if name not in _NOT_PAYLOAD)
    return "|".join([type(command).__name__, *(_part(value) for value in values)])


def _part(value: object) -> str:
    match value:
        case None:
            return "-"
        case str():
            return f"{len(value)}:{value}"
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:x}"
        case [*items]:
            return f"[{len(items)}:{'|'.join(_part(item) for item in items)}]"
        case _:
            raise TypeError(f"no part of a payload: {type(value).__name__}")


_WRITTEN_OUT: Final[Mapping[type[Any], Callable[[Any], str]]] = {PostEntry: _post_entry, PostBatch: _post_batch}
"""What these are hashed from, in one expression: they are nearly all commands."""
