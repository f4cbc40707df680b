"""The tables of a registry in PostgreSQL, and how they came to be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from hub.errors import RegistryError, RegistryTooNew
from hub.locations import DatabaseLocation
from hub.postgres.connections import ANSWER_SECONDS, Connection, Database, Row

#: On which servers are told of changes: the key, or nothing where all may have changed.
CHANNEL = "kdr_registry"

#: Any number that nobody else's program locks: ``kdr`` and a date.
_LOCK = 0x6B6472_20261127

#: Each entry takes the schema from the version of its index to the next; an entry is never changed once released.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE kdr.registration (
            key TEXT COLLATE "C" PRIMARY KEY,
            kind TEXT NOT NULL CHECK (kind IN ('file', 'tree')),
            root BYTEA NOT NULL,
            name BYTEA NOT NULL,
            visibility TEXT NOT NULL,
            trusted BOOLEAN NOT NULL,
            headers TEXT NOT NULL,
            expires_at DOUBLE PRECISION,
            claimed_at DOUBLE PRECISION,
            content TEXT NOT NULL,
            signature BYTEA NOT NULL,
            is_kept BOOLEAN NOT NULL,
            owner TEXT COLLATE "C" NOT NULL,
            audience TEXT NOT NULL,
            is_archive BOOLEAN NOT NULL
        )
        """,
        "CREATE INDEX registration_owner ON kdr.registration (owner)",
        "CREATE INDEX registration_expiry ON kdr.registration (expires_at) WHERE expires_at IS NOT NULL",
        'CREATE TABLE kdr.name (key TEXT COLLATE "C", name BYTEA, PRIMARY KEY (key, name))',
        """
        CREATE TABLE kdr.source (
            key TEXT COLLATE "C",
            root BYTEA,
            signature BYTEA NOT NULL,
            is_kept BOOLEAN NOT NULL,
            claimed_at DOUBLE PRECISION,
            PRIMARY KEY (key, root)
        )
        """,
        "CREATE TABLE kdr.hashed (path BYTEA PRIMARY KEY, signature BYTEA NOT NULL, content TEXT NOT NULL)",
        "CREATE TABLE kdr.secret (is_one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (is_one), secret BYTEA NOT NULL)",
        """
        CREATE TABLE kdr.usage (
            key TEXT COLLATE "C" PRIMARY KEY,
            hits BIGINT NOT NULL,
            body_bytes BIGINT NOT NULL,
            last_at DOUBLE PRECISION NOT NULL
        )
        """,
        """
        CREATE TABLE kdr.manifest (
            store TEXT COLLATE "C",
            name TEXT COLLATE "C",
            checksum BYTEA NOT NULL,
            size_bytes BIGINT NOT NULL,
            stored_at DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (store, name)
        )
        """,
        """
        CREATE TABLE kdr.manifest_chunk (
            store TEXT COLLATE "C",
            name TEXT COLLATE "C",
            position INTEGER,
            bytes BYTEA NOT NULL,
            PRIMARY KEY (store, name, position),
            FOREIGN KEY (store, name) REFERENCES kdr.manifest ON DELETE CASCADE
        )
        """,
        # It is compressed badly, and read whole.
        "ALTER TABLE kdr.manifest_chunk ALTER COLUMN bytes SET STORAGE EXTERNAL",
        f"""
        CREATE FUNCTION kdr.tell() RETURNS TRIGGER LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_LEVEL = 'STATEMENT' THEN
                PERFORM pg_notify('{CHANNEL}', '');
                RETURN NULL;
            END IF;
            IF current_setting('kdr.is_quiet', TRUE) = 'on' THEN
                RETURN NULL;
            END IF;
            IF TG_OP <> 'INSERT' THEN
                PERFORM pg_notify('{CHANNEL}', CASE WHEN octet_length(OLD.key) < 7900 THEN OLD.key ELSE '' END);
            END IF;
            IF TG_OP <> 'DELETE' THEN
                PERFORM pg_notify('{CHANNEL}', CASE WHEN octet_length(NEW.key) < 7900 THEN NEW.key ELSE '' END);
            END IF;
            RETURN NULL;
        END
        $$
        """,
        *(
            statement
            for table in ("registration", "name", "source")
            for statement in (
                f"CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON kdr.{table} "
                "FOR EACH ROW EXECUTE FUNCTION kdr.tell()",
                f"CREATE TRIGGER tell_all AFTER TRUNCATE ON kdr.{table} FOR EACH STATEMENT EXECUTE FUNCTION kdr.tell()",
            )
        ),
    ),
)
SCHEMA_VERSION = len(MIGRATIONS)


def check_schema(connection: Connection, location: DatabaseLocation) -> bytes | None:
    """Return what tells this registry from any other; None if it must be made or migrated first.

    Raises
    ------
    RegistryTooNew, psycopg.Error
    """
    try:
        row = connection.execute("SELECT version, identity FROM kdr.schema").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    if row is None:
        return None
    version, identity = row
    if version > SCHEMA_VERSION:
        raise RegistryTooNew(str(location), version, SCHEMA_VERSION)
    return bytes(identity) if version == SCHEMA_VERSION else None


def make_schema(database: Database) -> bytes:
    """Make the tables, or migrate them; return what tells this registry from any other.

    Where several servers start at once, one does it and the others wait.

    Raises
    ------
    RegistryError
    """
    location = database.location
    with database.transaction() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        (encoding,) = _one(connection, "SHOW server_encoding")
        if encoding != "UTF8":
            remedy = "make one with createdb --encoding=UTF8 --template=template0"
            raise RegistryError(str(location), f"its encoding is {encoding}; {remedy}")
        (has_schema,) = _one(connection, "SELECT to_regclass('kdr.schema') IS NOT NULL")
        found = 0
        if not has_schema:
            connection.execute("CREATE SCHEMA IF NOT EXISTS kdr")
            connection.execute("CREATE TABLE kdr.schema (version INTEGER NOT NULL, identity BYTEA NOT NULL)")
            connection.execute("INSERT INTO kdr.schema VALUES (0, %s)", (os.urandom(16),))
        version, identity = _one(connection, "SELECT version, identity FROM kdr.schema")
        found = int(version)
        if found > SCHEMA_VERSION:
            raise RegistryTooNew(str(location), found, SCHEMA_VERSION)
        for number in range(found, SCHEMA_VERSION):
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
        connection.execute("UPDATE kdr.schema SET version = %s", (SCHEMA_VERSION,))
    return bytes(identity)


def _one(connection: Connection, query: str) -> Row:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row


@contextmanager
def checked(database: Database, answer_seconds: float | None = ANSWER_SECONDS) -> Iterator[tuple[Connection, bytes]]:
    """Lend a connection to a database that has the tables, in a transaction, with what tells it from any other.

    Raises
    ------
    RegistryError
    """
    with database.connection(answer_seconds) as connection:
        # Outside of the transaction, which an error would end.
        identity = check_schema(connection, database.location)
        if identity is not None:
            with connection.transaction():
                yield connection, identity
            return
    identity = make_schema(database)
    with database.connection(answer_seconds) as connection, connection.transaction():
        yield connection, identity
