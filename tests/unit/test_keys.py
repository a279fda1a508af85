"""The files of signing keys: made once, for their owner's eyes only, rotated without losing what was signed."""

import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from events.checkpoint import KeyInvalid, Signer, Verifier
from partita.cli import app
from partita.keys import SigningKeys, SigningKeyUnavailable


@pytest.fixture
def keys(tmp_path: Path) -> SigningKeys:
    return SigningKeys(path=tmp_path / "keys" / "ledger.key", name="ledger.example/main", may_make=True)


def test_a_key_is_made_when_it_is_first_needed(keys: SigningKeys) -> None:
    (signer,) = keys.signers()
    assert signer.verifier.name == "ledger.example/main"
    assert keys.signers()[0].verifier == signer.verifier
    assert keys.verifiers() == [signer.verifier]
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in sorted(keys.path.parent.iterdir())] == ["ledger.key", "ledger.key.pub"]


def test_one_that_is_named_is_not_made(keys: SigningKeys) -> None:
    named = SigningKeys(path=keys.path, name=keys.name)
    with pytest.raises(SigningKeyUnavailable, match="partita keys new"):
        named.signers()
    assert not keys.path.exists()


def test_of_many_that_make_it_at_once_all_sign_with_the_same(keys: SigningKeys) -> None:
    start, found = threading.Barrier(8), []

    def make() -> None:
        start.wait()
        found.append(keys.signers()[0].verifier)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert found[0] in keys.verifiers()


def test_after_a_rotation_both_sign_until_the_old_one_is_retired(keys: SigningKeys) -> None:
    (old,) = keys.signers()
    new = keys.rotate()
    assert [signer.verifier for signer in keys.signers()] == [new, old.verifier]
    keys.retire(old.verifier)
    assert [signer.verifier for signer in keys.signers()] == [new]
    assert keys.verifiers() == [new, old.verifier]
    with pytest.raises(KeyInvalid, match="only key"):
        keys.retire(new)
    keys.rotate()
    with pytest.raises(KeyInvalid, match="none of the keys"):
        keys.retire(old.verifier)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(keys: SigningKeys, mode: int) -> None:
    keys.make()
    keys.path.chmod(mode)
    with pytest.raises(SigningKeyUnavailable, match="chmod 600"):
        keys.signers()


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    keys = SigningKeys(path=tmp_path / "file" / "ledger.key", name="ledger.example/main", may_make=True)
    with pytest.raises(SigningKeyUnavailable, match="can't be written"):
        keys.signers()


def test_what_is_no_key_is_refused_and_not_shown(keys: SigningKeys) -> None:
    keys.make()
    seed = keys.path.read_text().strip().split("+", 4)[4]
    keys.path.write_text(f"PRIVATE+KEY+x+00000000+{seed}\n")
    with pytest.raises(KeyInvalid) as told:
        keys.signers()
    assert seed not in str(told.value)
    keys.path.write_text("\n")
    with pytest.raises(SigningKeyUnavailable, match="no key"):
        keys.signers()


def test_from_a_terminal(keys: SigningKeys) -> None:
    runner = CliRunner(env={"PARTITA_SIGNING_KEY_FILE": str(keys.path), "PARTITA_LOG_ORIGIN": keys.name})
    assert json.loads(runner.invoke(app, ["keys", "list", "--json"]).stdout)["keys"] == []
    old = Verifier.parse(runner.invoke(app, ["keys", "new"]).stdout)
    assert Verifier.parse(runner.invoke(app, ["keys", "new"]).stdout) == old
    told = json.loads(runner.invoke(app, ["keys", "new", "--rotate", "--json"]).stdout)
    assert told["file"] == str(keys.path)
    assert runner.invoke(app, ["keys", "retire", str(old)]).exit_code == 0
    found = json.loads(runner.invoke(app, ["keys", "list", "--json"]).stdout)["keys"]
    assert found == [
        {"verifier_key": told["verifier_key"], "signs": True},
        {"verifier_key": str(old), "signs": False},
    ]
    assert Signer.parse(keys.path.read_text()).verifier == Verifier.parse(told["verifier_key"])
    refused = runner.invoke(app, ["keys", "retire", "nonsense", "--json"])
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["error"] == "KeyInvalid"
