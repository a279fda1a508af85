"""The parts that there are, by name."""

from partita.stack import anvil, immudb, kafka, postgres, registry
from partita.stack.part import Part

PARTS: dict[str, Part] = {
    part.name: part for part in (kafka.PART, registry.PART, postgres.PART, immudb.PART, anvil.PART)
}
