"""What Avro types mean: whether two agree, and whether one is flat. So are other versions of a schema judged."""

from typing import Any


def is_flat(schema: Any) -> bool:
    """Whether a value of this type takes about as many bytes as it says: nothing that nests or repeats nothing."""
    match schema:
        case str():
            return schema in ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
        case list():
            return all(not isinstance(branch, list) and is_flat(branch) for branch in schema)
        case {"type": "enum" | "fixed"} | {"type": "map", "values": "string"} | {"type": "array", "items": "string"}:
            return True
        case {"type": "array", "items": {"type": "record", "fields": [first, *rest]}}:
            return first["type"] != "null" and all(is_flat(field["type"]) for field in (first, *rest))
        case {"type": str() as primitive}:
            return is_flat(primitive)
        case _:
            return False


def essence(schema: Any) -> Any:
    """Return what two types must agree on to mean the same: not names, documentation or a language's own hints."""
    match schema:
        case {"type": "record", "fields": fields}:
            return {field["name"]: essence(field["type"]) for field in fields}
        case {"type": "array", "items": items}:
            return [essence(items)]
        case {"type": kind}:
            kept = {
                key: schema[key]
                for key in ("logicalType", "precision", "scale", "symbols", "values")
                if key in schema
            }
            return {"type": kind, **kept} if kept else kind
        case list():
            return [essence(branch) for branch in schema]
        case _:
            return schema
