"""The balances projection as a process of its own, to be killed: `python -m tests.projections.service <JSON>`."""

import asyncio
import json
import logging
import signal
import sys
from typing import Any

from events.clients import KafkaClients
from events.codec import event_codec
from events.errors import LedgerError
from events.registry import Registry
from events.topics import Topics
from projections.balances import Balances
from projections.database import Database
from projections.service import run_projection


async def serve(given: dict[str, Any]) -> None:
    registry = Registry(given["schema_registry_url"])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    done = await run_projection(
        KafkaClients(bootstrap=given["kafka_bootstrap"]),
        Topics(prefix=given["name"]),
        event_codec(registry.register(), registry.lookup),
        Database(url=given["postgres_url"], schema=given["name"]),
        Balances(),
        stop=stop,
        **{"ledger": given["name"], **given["settings"]},
    )
    print(done.events, flush=True)


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    try:
        asyncio.run(serve(json.loads(sys.argv[1])))
    except LedgerError as error:
        print(json.dumps(error.to_dict()), file=sys.stderr)
        sys.exit(7)
