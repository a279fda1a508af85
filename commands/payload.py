"""What makes two commands the same: a hash of all that the requester asked for, and of nothing else."""

from hashlib import sha256

from commands.types import POST_ENTRY, PostEntry


def payload_hash(command: PostEntry) -> bytes:
    """Return the SHA-256 of the command's payload: every field but `command_id` and `reply_key`.

    Each text is preceded by its length, so that no two payloads are hashed from the same bytes. It does not depend
    on the version of the schema that the command was written with. The amount is hashed as hexadecimal, since Python
    refuses to write very large integers as decimals and any producer may send one.
    """
    account, asset, reference, metadata = command.account_id, command.asset, command.reference, command.metadata
    text = (
        f"{POST_ENTRY}|{len(account)}:{account}|{command.entry_type}|{command.amount:x}|{len(asset)}:{asset}"
        f"|{_optional(reference)}|{_optional(metadata)}|{command.effective_at}|{command.expected_version}"
    )
    return sha256(text.encode("utf-8")).digest()


def _optional(text: str | None) -> str:
    return "-" if text is None else f"{len(text)}:{text}"
