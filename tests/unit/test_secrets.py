"""What is said to people and programs holds no password."""

from events.clients import KafkaClients
from events.registry import Registry
from partita.settings import Settings
from projections.database import Database


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


def test_settings_and_clients_keep_options_to_themselves() -> None:
    options = {"sasl.password": "s3cret"}
    settings = Settings(kafka_options=options, schema_registry_options={"basic.auth.user.info": "bob:s3cret"})
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in repr(KafkaClients(bootstrap="x", options=options))
