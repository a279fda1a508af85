"""The connection to immudb: the only file that imports its client library, for the messages and the stub of gRPC.

Owns sessions, deadlines and what immudb's errors mean. It verifies nothing: it returns what the server says, as
records that `proofs` can look at. Calls block, for `timeout` seconds at most.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from threading import Lock
from typing import Any, Final

import grpc

with warnings.catch_warnings():  # what the library needs for other things of its own is out of date
    warnings.simplefilter("ignore", DeprecationWarning)
    from google.protobuf.empty_pb2 import Empty
    from immudb.grpc import schema_pb2 as schema
    from immudb.grpc import schema_pb2_grpc

from projections.immudb.errors import ImmudbRefused, ImmudbTampered, ImmudbUnavailable
from projections.immudb.messages import entries_of, entry_of, tx_of
from projections.immudb.records import State
from projections.immudb.shown import Address, Found, KeyExists, KeyValue, ShownEntry, ShownTx

_MOST_BYTES: Final = 64 * 1024 * 1024
_RECONNECT_MS: Final = 100
_DEFAULT_DATABASE: Final = "defaultdb"
_GONE: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
_NO_SESSION: Final = ("session not found", "no session", "not logged in")
_NOT_FOUND: Final = "key not found"
_DAMAGED: Final = ("corrupted", "illegal state", "tx not found", "no such tx", "invalid checksum")
_MOST_SAID: Final = 200


class ImmudbClient:
    """A connection to one database, for any number of threads. It connects at the first call."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.server_uuid = ""
        self._session: list[tuple[str, str]] | None = None
        self._opening = Lock()

    @cached_property
    def _channel(self) -> grpc.Channel:
        target = f"{self.address.host}:{self.address.port}"
        options = [
            ("grpc.max_receive_message_length", _MOST_BYTES),
            ("grpc.max_send_message_length", _MOST_BYTES),
            ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.min_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", 10 * _RECONNECT_MS),
        ]
        if self.address.authorities is None:
            return grpc.insecure_channel(target, options)
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(self.address.authorities), options)

    @cached_property
    def _stub(self) -> Any:
        return schema_pb2_grpc.ImmuServiceStub(self._channel)

    def close(self) -> None:
        """Let go of the connection."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(grpc.RpcError):  # it ends by itself
                self._stub.CloseSession(Empty(), timeout=self.address.timeout, metadata=session)
        if "_channel" in self.__dict__:
            self._channel.close()

    def connect(self) -> str:
        """Open a session if there is none, and return the server's UUID."""
        self._opened()
        return self.server_uuid

    def state(self) -> State:
        """Return the state that the server says its database has."""
        shown = self._call("CurrentState", Empty())
        return State(shown.txId, shown.txHash)

    def set_new(self, pairs: Sequence[KeyValue], *, since: int) -> Callable[[], ShownTx]:
        """Set keys that must not exist, at most `MOST_ENTRIES`, in one transaction.

        What is returned waits for it, and returns it with its proof, without its entries: they are known. It raises

            KeyExists: one of the keys exists; nothing was set.
        """
        absent = schema.Precondition.KeyMustNotExistPrecondition
        request = schema.SetRequest(
            KVs=[schema.KeyValue(key=key, value=value) for key, value in pairs],
            preconditions=[schema.Precondition(keyMustNotExist=absent(key=key)) for key, _ in pairs],
        )
        verifiable = schema.VerifiableSetRequest(setRequest=request, proveSinceTx=since)
        answer = self._begin("VerifiableSet", verifiable)
        return lambda: tx_of(answer(), ())

    def tx(self, tx: int, *, since: int) -> ShownTx:
        """Return a transaction with the digests of its entries, and the proof between it and transaction `since`."""
        shown = self._shown_tx(tx, since=since)
        return tx_of(shown, entries_of(shown.tx))

    def _shown_tx(self, tx: int, *, since: int) -> Any:
        request = schema.VerifiableTxRequest(tx=tx, proveSinceTx=since, keepReferencesUnresolved=True)
        return self._call("VerifiableTxById", request)

    def get(self, key: bytes, *, since: int) -> ShownEntry | None:
        """Return the value of a key, with the proof between its transaction and `since`; None: no such key."""
        request = schema.VerifiableGetRequest(keyRequest=schema.KeyRequest(key=key), proveSinceTx=since)
        shown = self._call("VerifiableGet", request, missing_ok=True)
        return None if shown is None else entry_of(shown)

    def find(self, keys: Sequence[bytes]) -> list[Found]:
        """Return those of the keys that there are, without proof."""
        shown = self._call("GetAll", schema.KeyListRequest(keys=keys))
        return [Found(tx=entry.tx, key=entry.key, value=entry.value) for entry in shown.entries]

    def scan(self, prefix: bytes, *, after: bytes = b"", limit: int = 1000) -> list[Found]:
        """Return up to `limit` of the keys that begin with `prefix`, in order, those after `after`; without proof."""
        request = schema.ScanRequest(prefix=prefix, seekKey=after, limit=limit)
        return [Found(tx=e.tx, key=e.key, value=e.value) for e in self._call("Scan", request).entries]

    def revisions(self, key: bytes) -> list[int]:
        """Return the transactions that have set the key, or deleted it, the oldest first; at most a thousand."""
        shown = self._call("History", schema.HistoryRequest(key=key, limit=1000), missing_ok=True)
        return [] if shown is None else [entry.tx for entry in shown.entries]

    def _call(self, method: str, request: Any, *, missing_ok: bool = False) -> Any:
        """Ask the server, and return its answer; None when a key is not there and may be missing.

        Raises:
            KeyExists: as it says.
            ImmudbUnavailable: it did not answer in time.
            ImmudbRefused: it would not answer.
            ImmudbTampered: it says that its own data are damaged, or has less than we know it to have had.
        """
        return self._begin(method, request, missing_ok=missing_ok)()

    def _begin(self, method: str, request: Any, *, missing_ok: bool = False) -> Callable[[], Any]:
        """Ask the server; what is returned waits for the answer, and raises as `_call`.

        A session that the server no longer knows is opened again, once.
        """
        session = self._opened()
        asked = self._send(method, request, session)

        def answer() -> Any:
            try:
                return asked.result()
            except grpc.FutureCancelledError:
                raise ImmudbUnavailable("the connection was closed", place=self.address.place) from None
            except grpc.RpcError as error:
                if not any(words in (error.details() or "") for words in _NO_SESSION):
                    return self._failed(error, missing_ok=missing_ok)
            self._forget(session)
            try:
                return self._send(method, request, self._opened()).result()
            except grpc.RpcError as error:
                return self._failed(error, missing_ok=missing_ok)

        return answer

    def _send(self, method: str, request: Any, session: list[tuple[str, str]]) -> Any:
        return getattr(self._stub, method).future(request, timeout=self.address.timeout, metadata=session)

    def _failed(self, error: Any, *, missing_ok: bool) -> None:
        said = error.details() or ""
        if missing_ok and _NOT_FOUND in said:
            return
        if error.code() is grpc.StatusCode.FAILED_PRECONDITION and "KeyMustNotExist" in said:
            raise KeyExists from error
        raise self._meaning(error) from error

    def _opened(self) -> list[tuple[str, str]]:
        with self._opening:
            if self._session is None:
                try:
                    self._session = self._open()
                except grpc.RpcError as error:
                    raise self._meaning(error) from error
            return self._session

    def _forget(self, session: list[tuple[str, str]]) -> None:
        with self._opening:
            if self._session is session:
                self._session = None

    def _open(self) -> list[tuple[str, str]]:
        try:
            return self._open_session(self.address.database)
        except grpc.RpcError as error:
            if "database does not exist" not in (error.details() or ""):
                raise
        made = self._open_session(_DEFAULT_DATABASE)
        request = schema.CreateDatabaseRequest(name=self.address.database, ifNotExists=True)
        self._stub.CreateDatabaseV2(request, timeout=self.address.timeout, metadata=made)
        self._stub.CloseSession(Empty(), timeout=self.address.timeout, metadata=made)
        return self._open_session(self.address.database)

    def _open_session(self, database: str) -> list[tuple[str, str]]:
        request = schema.OpenSessionRequest(
            username=self.address.username.encode(),
            password=self.address.password().encode(),
            databaseName=database,
        )
        answer = self._stub.OpenSession(request, timeout=self.address.timeout)
        self.server_uuid = answer.serverUUID
        return [("sessionid", answer.sessionID)]

    def _meaning(self, error: Any) -> ImmudbUnavailable | ImmudbRefused | ImmudbTampered:
        said, place = (error.details() or "")[:_MOST_SAID], self.address.place
        if error.code() in _GONE:
            return ImmudbUnavailable(f"immudb at {place} does not answer: is it up?", place=place, cause=said)
        if any(words in said for words in _DAMAGED):
            return ImmudbTampered(
                f"immudb at {place} can't show what it should have: {said}", place=place, cause=said
            )
        return ImmudbRefused(f"immudb at {place} refuses: {said}", place=place, cause=said)
