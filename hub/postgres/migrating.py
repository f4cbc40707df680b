"""Copy a registry of SQLite's, and what lies beside it, into a database."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hub.content.manifests import ManifestStore
from hub.errors import RegistryError
from hub.locations import DatabaseLocation
from hub.postgres.connections import Connection, database_at
from hub.postgres.manifests import store_file
from hub.postgres.registry import copy_in
from hub.postgres.schema import checked
from hub.postgres.secret import find_secret, keep_secret
from hub.postgres.usage import copy_counts
from hub.registry import Registry
from hub.secret import read_secret, secret_path


class Migrated(NamedTuple):
    """What was copied."""

    registrations: int
    manifests: int


def migrate(source: Path, target: DatabaseLocation, counts: Iterable[tuple[str, int, int, float | None]]) -> Migrated:
    """Copy all that a registry has, in one transaction; a second time only what is new changes anything.

    Where a key was claimed later in the database, that claim stays.

    Parameters
    ----------
    source : Path
        The registry's file.
    target : DatabaseLocation
    counts : iterable of (str, int, int, float)
        What was read of keys.

    Raises
    ------
    RegistryError
        Nothing was copied.
    """
    if not source.is_file():
        raise RegistryError(str(source), "there is no such file")
    registry = Registry(source)
    try:
        tables = registry.tables()
    finally:
        registry.close()
    with checked(database_at(target), answer_seconds=None) as (connection, _):
        connection.execute("SET LOCAL statement_timeout = 0")
        if secret_path(source).exists():
            _copy_secret(connection, read_secret(source), target)
        copy_in(connection, tables)
        copy_counts(connection, counts)
        manifests = _copy_manifests(connection, source)
    return Migrated(len(tables["registration"]), manifests)


def _copy_secret(connection: Connection, secret: bytes, target: DatabaseLocation) -> None:
    keep_secret(connection, secret)
    if find_secret(connection) != secret:
        raise RegistryError(
            str(target),
            "it has a secret of its own already, with which its hashed keys were made, and those of the file would be "
            "other ones; migrate into an empty database (createdb), or, if nothing in this one is needed any more, "
            "empty it first: DROP SCHEMA kdr CASCADE",
        )


def _copy_manifests(connection: Connection, source: Path) -> int:
    number = 0
    for store in ManifestStore(source).with_owners():
        for name, path, checksum in store.shareable():
            store_file(connection, store.owner_name, name, path, checksum)
            number += 1
    return number
