"""The API as a process: where it listens, and how it ends."""

import ipaddress
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import uvicorn

from partita.engine import LedgerEngine
from partita.settings import Settings
from partita.web.app import make_app
from partita.web.backend import Backend
from partita.web.errors import AddressUnusable, UnsafeBinding
from partita.web.tokens import Tokens
from partita.wiring import Wiring
from projections.roles import Access

log = logging.getLogger(__name__)

ENDS_WITHIN: Final = 20
"""Seconds that requests have to end when the process is told to."""

_BACKLOG: Final = 2048
_CONNECTIONS: Final = 16
_FOR_EACH_REQUEST: Final = 4
"""Connections that may be open for each request that may be served; most of them wait for the next one."""


async def serve(wiring: Wiring) -> None:
    """Serve the API until SIGTERM or SIGINT. Requests that are being served then are given time to end.

    Raises:
        NotConfigured: an address is not known.
        AddressUnusable: it can't listen where it is to.
        TokensUnusable: the file of tokens can't be read.
        UnsafeBinding: there are no tokens, and others than this machine could ask.
    """
    settings = wiring.settings
    tokens = Tokens.read(settings.web_tokens_file) if settings.web_tokens_file else Tokens()
    check_binding(settings, tokens)
    settings.bootstrap(), settings.registry_url(), settings.database_url(Access.READ)
    async with LedgerEngine(settings=settings) as engine, wiring.read_model(connections=_CONNECTIONS) as reader:
        backend = Backend(engine=engine, read_model=reader, wiring=wiring)
        app = make_app(backend, tokens=tokens, most_requests=settings.web_most_requests, loopback_only=not tokens)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            limit_concurrency=settings.web_most_requests * _FOR_EACH_REQUEST,
            timeout_graceful_shutdown=ENDS_WITHIN,
        )
        with listening(settings.web_host, settings.web_port) as listener, _ending_by_signal():
            log.info("the API of ledger %s is at http://%s, /docs explains it", settings.ledger, _shown(listener))
            await uvicorn.Server(config).serve([listener])


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; raises `AddressUnusable`.

    It names its protocol, by which asyncio knows that it can turn Nagle's algorithm off: else each answer, whose head
    and body are written one after the other, would wait 40 ms for an acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressUnusable(
            f"can't listen on {host}:{port}: {error.strerror or error}; set PARTITA_WEB_HOST and PARTITA_WEB_PORT",
            host=host,
            port=port,
        ) from error
    return listener


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_binding(settings: Settings, tokens: Tokens) -> None:
    """Return if the API may listen where it is to; raises `UnsafeBinding`."""
    if not tokens and not _is_loopback(settings.web_host):
        raise UnsafeBinding(
            f"without tokens the API is served on the loopback interface only, not on {settings.web_host}: "
            "set PARTITA_WEB_TOKENS_FILE",
            host=settings.web_host,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _ending_by_signal() -> Iterator[None]:
    """Let a signal that the server has obeyed be no death: it sends it to us again when it has ended."""

    def obeyed(number: int, _frame: FrameType | None) -> None:
        log.info("ended by %s", signal.Signals(number).name)

    before = {number: signal.signal(number, obeyed) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
