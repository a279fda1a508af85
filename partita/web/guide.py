"""The API as a page to read: one document, with no script and nothing from anywhere else."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #f4f4f2 } pre { padding: .7rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .2rem .6rem;
border-bottom: 1px solid #ddd } h3 { margin-top: 2.5rem } h3 code { font-size: 17px } .method { font-weight: bold }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #e4e4e4 } code, pre { background: #262626 }
td, th { border-color: #3a3a3a } a { color: #8ab4f8 } }
"""


def guide(document: Mapping[str, Any]) -> str:
    """Return the OpenAPI document as HTML."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>{_paragraphs(info['description'])}",
        "<p>The same for programs: <a href=/openapi.json>openapi.json</a></p>",
        "<h2>Requests</h2>",
        *_operations(document["paths"]),
        "<h2>Types</h2>",
        *_schemas(document["components"]["schemas"]),
        "</html>",
    ]
    return "\n".join(parts)


def _operations(paths: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield f"<h3><code><span class=method>{method.upper()}</span> {escape(path)}</code></h3>"
            yield _paragraphs(operation.get("description", ""))
            yield _table(_row(item["name"], item["in"], item) for item in operation.get("parameters", ()))
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield f"<p>Body: {_type(content['schema'])}</p>"
            yield _table(_answer(status, answer) for status, answer in operation["responses"].items())


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        yield f"<h3 id={escape(name)}><code>{escape(name)}</code></h3>{_paragraphs(schema.get('description', ''))}"
        if "enum" in schema:
            yield f"<p><code>{escape(' | '.join(map(str, schema['enum'])))}</code></p>"
        needed = schema.get("required", ())
        fields = schema.get("properties", {}).items()
        yield _table(
            _cells(
                f"<code>{escape(field)}</code>",
                f"{_type(of)}{'' if field in needed else ', optional'}",
                escape(_said(of)),
            )
            for field, of in fields
        )


def _row(name: str, where: str, item: Mapping[str, Any]) -> str:
    said = item.get("description") or _said(item.get("schema", {}))
    return _cells(f"<code>{escape(name)}</code>", where, _type(item.get("schema", {})), escape(said))


def _answer(status: str, answer: Mapping[str, Any]) -> str:
    if "$ref" in answer:
        return _cells(status, f"<a href=#Problem>problem</a> {escape(answer['$ref'].rpartition('/')[2])}")
    types = ", ".join(_type(content["schema"]) for content in answer.get("content", {}).values())
    return _cells(status, f"{types} {escape(answer['description'])}")


def _type(schema: Mapping[str, Any]) -> str:
    """Return a schema in a few words, with a link where it has a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href=#{name}>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    shape = schema.get("format") or schema.get("type") or json.dumps(schema.get("const", "any"))
    return f"<code>{escape(str(shape))}</code>"


def _said(schema: Mapping[str, Any]) -> str:
    """Return what is said of a schema, or of the first of those that it may be."""
    said: str = schema.get("description", "")
    return said or next(filter(None, map(_said, schema.get("anyOf", ()))), "")


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip())


def _cells(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _table(rows: Iterator[str]) -> str:
    found = "".join(rows)
    return f"<table>{found}</table>" if found else ""
