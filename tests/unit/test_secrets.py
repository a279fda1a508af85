"""What is said to people and programs holds no password."""

from typing import Any

import pytest
from pydantic import ValidationError

from events.clients import KafkaClients
from events.registry import Registry, _without_user
from partita.settings import Settings
from projections.database import Database
from projections.errors import ReadModelUnavailable
from projections.migrate import upgrade
from projections.queries import ReadModel


def test_the_registrys_address_is_told_without_its_user() -> None:
    registry = Registry("http://bob:s3cret@127.0.0.1:9/root")
    try:
        error = registry._unavailable(OSError("s3cret"))
    finally:
        registry.close()
    assert "127.0.0.1:9/root" in error.message
    assert "s3cret" not in str(error.to_dict())


def test_the_databases_address_is_told_without_its_user() -> None:
    assert Database(url="postgresql://bob:s3cret@127.0.0.1:5/db").place == "127.0.0.1:5/db"


def test_an_address_that_can_not_be_read_is_not_told_at_all() -> None:
    place = Database(url="postgresql://bob:s3/cret@127.0.0.1:9/db").place
    assert "s3" not in place
    assert "cret" not in place


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:s3/cret@127.0.0.1:9/db",
        "postgresql://bob:s3#cret@127.0.0.1:9/db",
        "postgresql://bob:s3?cret@127.0.0.1:9/db",
        "bob:s3cret@127.0.0.1:9/db",
    ],
)
async def test_nobody_who_connects_tells_an_address_that_can_not_be_read(url: str) -> None:
    database = Database(url=url)
    for attempt in (database.connect(), upgrade(database), ReadModel(database).positions()):
        with pytest.raises(ReadModelUnavailable, match="can't be read") as caught:
            await attempt
        told = f"{caught.value.to_dict()}"
        assert "s3" not in told
        assert "cret" not in told


def test_a_registry_without_a_scheme_is_not_told() -> None:
    assert "s3cret" not in _without_user("bob:s3cret@127.0.0.1:9/root")


@pytest.mark.parametrize(
    "given",
    [
        {"schema_registry_url": "bob:s3cret@127.0.0.1:9"},
        {"postgres_url": "bob:s3cret@127.0.0.1:9/db"},
        {"kafka_options": ["s3cret"]},
    ],
)
def test_a_setting_that_is_refused_is_not_told(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**given)
    assert "s3cret" not in str(caught.value)


def test_settings_and_clients_keep_options_to_themselves() -> None:
    options = {"sasl.password": "s3cret"}
    settings = Settings(
        kafka_options=options,
        schema_registry_url="http://bob:s3cret@127.0.0.1:9",
        schema_registry_options={"basic.auth.user.info": "bob:s3cret"},
    )
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in repr(KafkaClients(bootstrap="x", options=options))
