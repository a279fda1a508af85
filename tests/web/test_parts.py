"""Tokens, positions, statuses and where the API may listen."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import LedgerError
from partita import Settings
from partita.web.errors import AddressUnusable, InvalidPosition, TokensUnusable, UnsafeBinding
from partita.web.positions import decoded, encoded
from partita.web.problems import STATUSES, status_of
from partita.web.server import check_binding, listening
from partita.web.service import kinds
from partita.web.tokens import Caller, Tokens

TOKEN = "0123456789abcdef"


@given(st.dictionaries(st.integers(0, 999), st.integers(0, 2**63 - 1)))
def test_a_position_comes_back(position: dict[int, int]) -> None:
    text = encoded(position)
    assert decoded(text) == position
    assert text.isascii()
    assert not set(text) & set("+/=")


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    with contextlib.suppress(InvalidPosition):
        assert isinstance(decoded(text), dict)


def test_every_error_has_one_status_and_only_faults_are_5xx() -> None:
    for kind in kinds():
        assert 400 <= status_of(kind) < 600, kind
    assert {status for status in STATUSES.values() if status >= 500} == {500, 503}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nobody",
        "reports read",
        f"reports {TOKEN}",
        f"reports own {TOKEN}",
        "reports read short",
        "a read é" + TOKEN,
    ],
)
def test_a_file_that_is_none_of_tokens_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(TokensUnusable) as refused:
        Tokens.read(tmp_path / "tokens")
    assert TOKEN not in str(refused.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TokensUnusable, match="FileNotFoundError"):
        Tokens.read(tmp_path / "tokens")


def test_tokens_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"reports read {TOKEN}")
    tokens = Tokens.read(tmp_path / "tokens")
    assert TOKEN not in repr(tokens)
    assert tokens.caller(f"bearer {TOKEN}") == Caller(name="reports", writes=False)
    assert tokens.caller(f"Bearer {TOKEN}x") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_the_loopback_interface_needs_no_token(host: str) -> None:
    check_binding(Settings(web_host=host), Tokens())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "ledger.example.org", ""])
def test_elsewhere_it_needs_one(host: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeBinding, match="PARTITA_WEB_TOKENS_FILE"):
        check_binding(Settings(web_host=host), Tokens())
    (tmp_path / "tokens").write_text(f"reports read {TOKEN}")
    check_binding(Settings(web_host=host), Tokens.read(tmp_path / "tokens"))


async def test_an_answer_does_not_wait_for_an_acknowledgement() -> None:
    """Nagle's algorithm is off on a connection that comes in."""
    off: list[int] = []

    def came(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        off.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listening("127.0.0.1", 0)
    async with await asyncio.start_server(came, sock=listener):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        await reader.read()
        writer.close()
    assert off == [1]


def test_a_port_that_is_taken_is_told() -> None:
    with listening("127.0.0.1", 0) as taken, pytest.raises(AddressUnusable, match="PARTITA_WEB_PORT"):
        listening("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_elsewhere_is_told(host: str) -> None:
    with pytest.raises(AddressUnusable):
        listening(host, 0)


def test_what_a_route_may_meet_is_a_ledger_error() -> None:
    assert all(issubclass(kind, LedgerError) for kind in STATUSES)
