"""The Schema Registry: registering our schemas at start, and looking up those of other versions.

A schema's subject is its full name (`RecordNameStrategy`), since one topic holds several types.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

import schemas
from events.codec import Undecodable
from events.errors import RegistryUnavailable, SchemaIncompatible

FULL_TRANSITIVE: Final = "FULL_TRANSITIVE"
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_UNPROCESSABLE: Final = 422
_AT_ONCE: Final = 4
_UNREADABLE: Final = "an address that can't be read"


class Registry:
    """One Schema Registry, by its Confluent API.

    Every call is bounded by `timeout` seconds a try and three tries.
    """

    def __init__(self, url: str, *, timeout: float = 5.0, options: Mapping[str, Any] | None = None) -> None:
        self._url = _without_user(url)
        self._client = SchemaRegistryClient(
            {"url": url, "timeout": timeout, "max.retries": 2, "retries.wait.ms": 200, **(options or {})}
        )

    def register(self, names: Sequence[str] = schemas.ALL) -> dict[str, int]:
        """Register the schemas called `names`, each under FULL_TRANSITIVE, and return their ids by name.

        A few at a time, since a start waits for all of them.

        Registering again is harmless and gives the same ids.

        Raises:
            SchemaIncompatible: a schema does not go with the versions that are there.
            RegistryUnavailable: no answer.
        """
        with ThreadPoolExecutor(_AT_ONCE, "partita-registry") as threads:
            ids = threads.map(lambda name: self.register_schema(schemas.full_name(name), schemas.load(name)), names)
            return dict(zip(names, ids, strict=True))

    def register_schema(self, subject: str, schema: Mapping[str, Any]) -> int:
        """Register `schema` as the next version of `subject` and return its id; raises as `register`."""
        try:
            schema_id = self._client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
            self._keep_compatible(subject)
        except SchemaRegistryError as error:
            if error.http_status_code in (_CONFLICT, _UNPROCESSABLE):
                raise SchemaIncompatible(
                    f"the registry refuses this version of {subject}: {error.error_message}", subject=subject
                ) from error
            raise self._unavailable(error) from error
        except Exception as error:  # the HTTP client's errors, whichever client it is today
            raise self._unavailable(error) from error
        return int(schema_id)

    def _keep_compatible(self, subject: str) -> None:
        try:
            self._client.set_compatibility(subject, FULL_TRANSITIVE)
        except SchemaRegistryError as error:
            if error.http_status_code != _CONFLICT:
                raise
            # Another process was quicker, and Apicurio makes a rule once; now it is there and can be set.
            self._client.set_compatibility(subject, FULL_TRANSITIVE)

    def lookup(self, schema_id: int) -> dict[str, Any]:
        """Return the schema with this id.

        Raises:
            Undecodable: there is none.
            RegistryUnavailable: no answer, so it isn't known whether there is.
        """
        try:
            found = self._client.get_schema(schema_id)
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                raise Undecodable(f"there is no schema with id {schema_id}") from error
            raise self._unavailable(error) from error
        except Exception as error:  # the HTTP client's errors, whichever client it is today
            raise self._unavailable(error) from error
        if found.schema_type != "AVRO" or not found.schema_str:
            raise Undecodable(f"schema {schema_id} is {found.schema_type}, not Avro")
        schema: dict[str, Any] = json.loads(found.schema_str)
        return schema

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _unavailable(self, error: Exception) -> RegistryUnavailable:
        return RegistryUnavailable(
            f"the Schema Registry does not answer at {self._url}: is it up?",
            url=self._url,
            cause=type(error).__name__,
        )


def _without_user(url: str) -> str:
    """Return `url` for people: without user and password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _UNREADABLE
    if not parts.netloc:  # without a scheme, user and password would be taken for something else
        return _UNREADABLE
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
