"""The secret of hashed keys, which all who use a database share."""

from __future__ import annotations

import os

from hub.errors import RegistryError
from hub.locations import DatabaseLocation
from hub.postgres.connections import Connection, database_at
from hub.postgres.schema import checked
from hub.secret import SECRET_BYTES


def read_shared_secret(location: DatabaseLocation) -> bytes:
    """Return the secret; whoever asks first makes it.

    Raises
    ------
    RegistryError
    """
    with checked(database_at(location)) as (connection, _):
        secret = find_secret(connection)
        if secret is None:
            keep_secret(connection, os.urandom(SECRET_BYTES))
            # Of two who make one at once the first one's stays, also for the second.
            secret = find_secret(connection)
    if secret is None or len(secret) != SECRET_BYTES:
        raise RegistryError(
            str(location), "its secret is damaged; DELETE FROM kdr.secret makes room for another (URLs of paths change)"
        )
    return secret


def find_secret(connection: Connection) -> bytes | None:
    """Return the secret, if there is one already."""
    row = connection.execute("SELECT secret FROM kdr.secret").fetchone()
    return bytes(row[0]) if row else None


def keep_secret(connection: Connection, secret: bytes) -> None:
    """Store the secret, unless there is one already."""
    connection.execute("INSERT INTO kdr.secret (secret) VALUES (%s) ON CONFLICT DO NOTHING", (secret,))
