"""Stores on RocksDB: a directory for each partition.

Written without waiting for the disk: what a machine's failure takes away is read from the log again. A store that
can't be opened or read is thrown away, since the log has all of it. Memory is bounded for all partitions together:
one block cache, and one budget for what is not on disk yet.
"""

import fcntl
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, cast

from rocksdict import (
    AccessType,
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DbClosedError,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
)

from commands.store import StoreInUse, StoreLost

log = logging.getLogger(__name__)

_CACHED: Final = 64 * 1024 * 1024
_BUFFERED: Final = 96 * 1024 * 1024
_BUFFER: Final = 16 * 1024 * 1024
_OPEN_FILES: Final = 256
_BLOOM_BITS: Final = 10
"""Per key: nearly every command id is new, and the filter says so without reading."""

_CONDEMNED: Final = "condemned"
"""A file of this name in a store's directory says that the store is not to be opened again."""


class RocksStores:
    """The stores under one directory, which is made when it is not there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cache = Cache(_CACHED)
        self._buffers = WriteBufferManager(_BUFFERED, allow_stall=False)

    def open(self, partition: int) -> "RocksStore":
        """See `Stores.open`."""
        directory = self._directory / str(partition)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = _locked(self._directory / f"{partition}.lock")
        except OSError as error:
            raise _impossible(self._directory, error) from error
        try:
            if (directory / _CONDEMNED).exists():
                shutil.rmtree(directory)
            return RocksStore(directory, self._open(directory), lock)
        except OSError as error:
            lock.close()
            raise _impossible(directory, error) from error
        except StoreLost:
            lock.close()
            raise

    def _open(self, directory: Path) -> Rdict:
        try:
            return self._rocks(directory)
        except Exception as error:  # noqa: BLE001  # the library has one type for all of RocksDB's
            log.warning("the store %s can't be opened and is made anew: %s", directory, error)
            shutil.rmtree(directory, ignore_errors=True)
        try:
            return self._rocks(directory)
        except Exception as error:
            raise _impossible(directory, error) from error

    def _rocks(self, directory: Path) -> Rdict:
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_bloom_filter(_BLOOM_BITS, block_based=False)
        # Index and filters are in the cache, so that they are bounded too; and in parts, since those of a large file
        # fill a shard of the cache, and whole they would be read and unpacked anew for nearly every key.
        table.set_cache_index_and_filter_blocks(True)
        table.set_index_type(BlockBasedIndexType.two_level_index_search())
        table.set_partition_filters(True)
        table.set_pin_top_level_index_and_filter(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self._buffers)
        options.set_write_buffer_size(_BUFFER)
        options.set_max_open_files(_OPEN_FILES)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_keep_log_file_num(2)
        return Rdict(str(directory), options=options, access_type=AccessType.read_write())

    def discard(self, partition: int) -> None:
        """See `Stores.discard`."""
        shutil.rmtree(self._directory / str(partition), ignore_errors=True)


def _impossible(directory: Path, error: Exception) -> StoreLost:
    return StoreLost(f"no store can be kept in {directory}: {error}", cause=str(error))


def _locked(path: Path) -> IO[str]:
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StoreInUse(
            f"another handler has {path} open: give each a directory of its own", path=str(path)
        ) from None
    return lock


class RocksStore:
    """See `commands.store.Store`."""

    def __init__(self, directory: Path, rocks: Rdict, lock: IO[str]) -> None:
        self._directory = directory
        self._rocks = rocks
        self._lock = lock

    def get(self, key: bytes) -> bytes | None:
        """See `Store.get`."""
        try:
            value: bytes | None = self._rocks.get(key)
        except Exception as error:  # the library has one type for all of RocksDB's
            raise self._lost(error) from error
        return value

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """See `Store.get_many`."""
        try:
            values: Any = self._rocks.get(list(keys))
        except Exception as error:  # as above
            raise self._lost(error) from error
        return cast(list[bytes | None], values)

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """See `Store.write`."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            self._rocks.write(batch)
        except Exception as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> StoreLost:
        if isinstance(error, DbClosedError):
            return StoreLost(f"the store {self._directory} is closed")
        with suppress(OSError):  # then the disk itself is gone, and opening will say so
            (self._directory / _CONDEMNED).touch()
        return StoreLost(f"the store {self._directory} is lost and will be made anew: {error}", cause=str(error))

    def close(self) -> None:
        """See `Store.close`. An error changes nothing: what was written is in RocksDB's own log."""
        try:
            self._rocks.close()
        except DbClosedError:
            pass
        except Exception as error:  # noqa: BLE001  # the library has one type for all of RocksDB's
            log.warning("the store %s could not be closed well: %s", self._directory, error)
        self._lock.close()
