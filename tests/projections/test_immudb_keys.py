"""An immudb that signs its states, and one that speaks TLS."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import partita.stack
from partita.audit import ImmutableConfig
from partita.stack import immudb
from partita.stack.ports import choose
from partita.stack.site import Site
from partita.wiring import Wiring
from projections.immudb.client import ImmudbClient
from projections.immudb.errors import ImmudbKeyInvalid, ImmudbTampered, ImmudbUnavailable
from projections.immudb.shown import Address
from projections.immudb.signing import read_public_key
from projections.immudb.trust import TrustFile
from projections.immudb.verified import VerifiedDatabase
from tests.support.services import eventually

pytestmark = pytest.mark.stack

Starting = Callable[..., Address]


@pytest.fixture
def started(tmp_path: Path, stack_cache: Path) -> Iterator[Starting]:
    """Start an immudb with flags of one's own; gives its address."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*flags: str) -> Address:
        partita.stack.fetch(stack_cache, parts=("immudb",))
        ports = choose(("immudb", "immudb_metrics"), directory=tmp_path, taken=())
        site = Site(directory=tmp_path, cache=stack_cache, password="", ports=ports)
        log = (tmp_path / "log").open("wb")
        running.append(subprocess.Popen([*immudb.launch(site).argv, *flags], stdout=log, stderr=log))
        log.close()
        port = ports["immudb"]
        eventually(lambda: listens(port))
        return Address(
            host="127.0.0.1", port=port, database="defaultdb", username="immudb", password=lambda: "immudb", timeout=5
        )

    yield start
    for process in running:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def database_at(address: Address, file: Path, key: Path | None = None) -> Iterator[VerifiedDatabase]:
    signer = read_public_key(key) if key else None
    with closing(VerifiedDatabase(ImmudbClient(address), TrustFile(file), signer=signer)) as made:
        yield made


def public_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def test_states_must_be_signed_by_the_key_that_is_known(started: Starting, tmp_path: Path) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    secret, public, wrong = tmp_path / "key.pem", tmp_path / "public.pem", tmp_path / "wrong.pem"
    secret.write_bytes(private_pem(key))
    public.write_bytes(public_pem(key))
    wrong.write_bytes(public_pem(other))
    address = started(f"--signingKey={secret}")
    with database_at(address, tmp_path / "a.json", public) as signed:
        signed.keep([(b"a", b"1"), (b"b", b"2")])
        assert signed.add([(b"c", b"3")]) is not None
        assert signed.get(b"a") is not None
        assert signed.catch_up().tx == 2
    with (
        database_at(address, tmp_path / "b.json", wrong) as refused,
        pytest.raises(ImmudbTampered, match="has not signed"),
    ):
        refused.get(b"a")


def test_a_server_that_does_not_sign_is_refused_when_it_must(started: Starting, tmp_path: Path) -> None:
    public = tmp_path / "public.pem"
    public.write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
    with (
        database_at(started(), tmp_path / "a.json", public) as unsigned,
        pytest.raises(ImmudbTampered, match="has not signed"),
    ):
        unsigned.keep([(b"a", b"1")])


def test_the_connection_is_encrypted_when_authorities_are_given(started: Starting, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "immudb")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    secret, shown = tmp_path / "key.pem", tmp_path / "certificate.pem"
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    shown.write_bytes(certificate)
    address = started(f"--certificate={shown}", f"--pkey={secret}")
    with database_at(replace(address, authorities=certificate), tmp_path / "a.json") as encrypted:
        encrypted.keep([(b"a", b"1")])
    with database_at(address, tmp_path / "b.json") as plain, pytest.raises(ImmudbUnavailable):
        plain.catch_up()


def test_files_without_keys_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    for content in (b"", b"no key", public_pem(rsa.generate_private_key(65537, 2048))):
        file.write_bytes(content)
        with pytest.raises(ImmudbKeyInvalid):
            read_public_key(file)
    config = ImmutableConfig(host="127.0.0.1", ca_file=tmp_path / "none.pem")
    with pytest.raises(ImmudbKeyInvalid):
        Wiring(config.settings()).verified_database()
