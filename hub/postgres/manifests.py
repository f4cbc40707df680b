"""Manifests and indexes in the database, from which each server takes a copy of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from hub.drafts import Draft
from hub.errors import ManifestError, RegistryError
from hub.filesystems import make_private_directories
from hub.locations import DatabaseLocation
from hub.postgres.connections import Connection, database_at
from hub.postgres.schema import checked

_CHUNK_BYTES = 1 << 20


class SharedManifests:
    """What the database has of one store.

    Parameters
    ----------
    location : DatabaseLocation
    store : str
        Empty, or the name of the folder of one of the users that share a registry.
    """

    def __init__(self, location: DatabaseLocation, store: str) -> None:
        self._location = location
        self._store = store

    def fetch(self, name: str, path: Path, checksum: bytes | None) -> bool:
        """Write what the database has under `name` to `path`, unless the file there has this checksum.

        Returns
        -------
        bool
            False: the database has nothing.

        Raises
        ------
        RegistryError, OSError
        """
        with checked(database_at(self._location)) as (connection, _):
            # A file is replaced as a whole: nobody may see a chunk of each.
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            found = connection.execute(
                "SELECT checksum FROM kdr.manifest WHERE store = %s AND name = %s", (self._store, name)
            ).fetchone()
            if found is None or found[0] == checksum:
                return found is not None
            make_private_directories(path)
            with Draft(path.parent) as draft:
                for chunk in _read_chunks(connection, self._store, name):
                    draft.file.write(chunk)
                draft.file.flush()
                draft.replace(path)
        return True

    def store(self, paths: dict[str, tuple[Path, bytes]]) -> None:
        """Store files with their checksums, all or none.

        Raises
        ------
        ManifestError
        """
        try:
            with checked(database_at(self._location)) as (connection, _):
                for name, (path, checksum) in sorted(paths.items()):
                    store_file(connection, self._store, name, path, checksum)
        except RegistryError as error:
            raise ManifestError(str(next(iter(paths.values()))[0]), f"it cannot be shared: {error}") from error

    def latest(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, the latest first."""
        with checked(database_at(self._location)) as (connection, _):
            rows = connection.execute(
                "SELECT name FROM kdr.manifest WHERE store = %s AND starts_with(name, %s) "
                "ORDER BY stored_at DESC, name",
                (self._store, f"{folder}/"),
            ).fetchall()
        return [name for (name,) in rows]

    def touch(self, names: Collection[str]) -> bool:
        """Note that files are needed today; False if the database has not all of them."""
        with checked(database_at(self._location)) as (connection, _):
            touched = connection.execute(
                "UPDATE kdr.manifest SET stored_at = %s WHERE store = %s AND name = ANY(%s)",
                (time.time(), self._store, list(names)),
            ).rowcount
        return touched == len(names)

    def size_bytes(self) -> int:
        """Return what all files of the store take."""
        with checked(database_at(self._location)) as (connection, _):
            row = connection.execute(
                "SELECT COALESCE(sum(size_bytes), 0)::bigint FROM kdr.manifest WHERE store = %s", (self._store,)
            ).fetchone()
        assert row is not None
        return int(row[0])

    def clean_up(self, needed: Collection[str], older_than: float) -> tuple[int, int]:
        """Remove what no registration needs; see `hub.content.manifests.ManifestStore.clean_up`."""
        with checked(database_at(self._location)) as (connection, _):
            rows = connection.execute(
                # What comes behind the folder and before the suffix.
                "DELETE FROM kdr.manifest WHERE store = %s AND stored_at < %s "
                r"AND regexp_replace(name, '^.*/|\.[a-z]+$', '', 'g') <> ALL(%s) RETURNING size_bytes",
                (self._store, older_than, list(needed)),
            ).fetchall()
        return len(rows), sum(size_bytes for (size_bytes,) in rows)


def stores(location: DatabaseLocation) -> list[str]:
    """Return the names of all users' stores."""
    with checked(database_at(location)) as (connection, _):
        rows = connection.execute("SELECT DISTINCT store FROM kdr.manifest WHERE store <> '' ORDER BY store").fetchall()
    return [store for (store,) in rows]


def store_file(connection: Connection, store: str, name: str, path: Path, checksum: bytes) -> None:
    """Store a file, in the place of another one of that name."""
    row = (store, name)
    size_bytes = os.stat(path).st_size
    connection.execute(
        "INSERT INTO kdr.manifest (store, name, checksum, size_bytes, stored_at) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (store, name) DO UPDATE SET "
        "checksum = excluded.checksum, size_bytes = excluded.size_bytes, stored_at = excluded.stored_at",
        (*row, checksum, size_bytes, time.time()),
    )
    connection.execute("DELETE FROM kdr.manifest_chunk WHERE store = %s AND name = %s", row)
    with open(path, "rb") as file:
        position = 0
        while chunk := file.read(_CHUNK_BYTES):
            connection.execute("INSERT INTO kdr.manifest_chunk VALUES (%s, %s, %s, %s)", (*row, position, chunk))
            position += 1


def _read_chunks(connection: Connection, store: str, name: str) -> Iterator[bytes]:
    position = 0
    while True:
        row = connection.execute(
            "SELECT bytes FROM kdr.manifest_chunk WHERE store = %s AND name = %s AND position = %s",
            (store, name, position),
        ).fetchone()
        if row is None:
            return
        yield row[0]
        position += 1
