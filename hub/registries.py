"""Makes what registers, and what looks keys up, for a registry of either kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from hub.errors import RegistryError
from hub.locations import DatabaseLocation, Location
from hub.registration import Registration
from hub.registry import SCHEMA_VERSION, Registry, RegistryGlance, RegistryReader

if TYPE_CHECKING:
    from types import TracebackType

#: For how long known keys are found while a database tells of no changes, where nobody says otherwise.
GRACE_SECONDS = 60

_Result = TypeVar("_Result")
Prepared = TypeVar("Prepared")
Prepared_co = TypeVar("Prepared_co", covariant=True)


class AnyRegistry(Protocol):
    """What a kernel, a service and the command line register with; see `hub.registry.Registry`."""

    generation: int

    @property
    def location(self) -> Location:
        """Where the registry is."""

    def open(self) -> None:
        """Make the registry, or migrate it, where that is needed."""

    def claim(self, registration: Registration, limit: int | None = None) -> None:
        """Store a registration; it takes over a key that exists."""

    def restore(self, registrations: Iterable[Registration]) -> None:
        """Store what a registry that is gone had."""

    def in_turn(self) -> AbstractContextManager[object]:
        """Let no other thread register while the block lasts, nor fork."""

    def revoke(self, key: str) -> bool:
        """Remove the registration of a key; False if there was none."""

    def remove_expired(self, now: float) -> list[Registration]:
        """Remove the registrations that ended before `now` and return them."""

    def remember_hash(self, path: bytes, signature: bytes, content: str) -> None:
        """Keep what a file hashed to."""

    def recall_hash(self, path: bytes, signature: bytes) -> str | None:
        """Return what a file hashed to, if it is as it was."""

    def forget_hashes(self, is_missing: Callable[[bytes], bool]) -> None:
        """Forget what files hashed to that are not there any more."""

    def find(self, key: str) -> Registration | None:
        """Return the registration of a key, expired or not."""

    def keys_beginning(self, beginning: str, limit: int) -> list[str]:
        """Return the first keys that begin so, in their order."""

    def registrations(self) -> list[Registration]:
        """Return all registrations, in the order of their keys."""

    def registrations_of(self, owner: str) -> list[Registration]:
        """Return the registrations of one user, in the order of their keys."""

    def count_by_owner(self) -> dict[str, int]:
        """Return how many registrations each user has."""

    def kept_contents(self, folder: bytes) -> frozenset[str]:
        """Return what is served from a folder of snapshots."""

    def check(self) -> None:
        """Raise RegistryError if it is not sound."""

    def close(self) -> None:
        """Close what is open; the next use opens it again."""


class Glance(Protocol):
    """A look at a registry that changes nothing; see `hub.registry.RegistryGlance`."""

    def __enter__(self: _Result) -> _Result: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def keys_beginning(self, beginning: str, limit: int) -> list[str]:
        """Return the first keys that begin so, in their order."""

    def find_root(self, key: str) -> bytes | None:
        """Return what is published under a key; None if nothing is."""


class Reader(Protocol[Prepared_co]):
    """What a thread of a relay server looks keys up with; see `hub.registry.RegistryReader`."""

    def find(self, key: str) -> Prepared_co | None:
        """Return what was prepared of the registration of a key."""

    def close(self) -> None:
        """Close what is open."""


def registry_at(location: Location) -> AnyRegistry:
    """Return the registry at `location`, which is opened at the first use.

    Raises
    ------
    RegistryError
        It is a database, and the extra that it takes is not installed.
    """
    if isinstance(location, Path):
        return Registry(location)
    check_installed(location)
    from hub.postgres.registry import PostgresRegistry

    return PostgresRegistry(location)


def glance_at(location: Location) -> Glance:
    """Return a look at the registry at `location`.

    Raises
    ------
    RegistryError
        There is none, or it cannot be read.
    """
    if isinstance(location, Path):
        return RegistryGlance(location)
    check_installed(location)
    from hub.postgres.registry import PostgresGlance

    return PostgresGlance(location)


def reader_source(
    location: Location, prepare: Callable[[Registration], Prepared | None], grace_seconds: float
) -> Callable[[], Reader[Prepared]]:
    """Return what gives each thread of a relay server its reader.

    Parameters
    ----------
    location : path or DatabaseLocation
    prepare : callable
        What to make of a registration, once each time that it changes; None, if it is to be as if it were not there.
    grace_seconds : float
        For how long known keys are found while a database tells of no changes.

    Raises
    ------
    RegistryError
    """
    if isinstance(location, Path):
        path = location
        return lambda: RegistryReader(path, prepare)
    check_installed(location)
    from hub.postgres.reader import PostgresReader

    shared = PostgresReader(location, prepare, grace_seconds)
    return lambda: shared


def schema_version(location: Location) -> int:
    """Return the latest schema of such a registry that this installation knows."""
    if isinstance(location, Path):
        return SCHEMA_VERSION
    check_installed(location)
    from hub.postgres.schema import SCHEMA_VERSION as DATABASE_VERSION

    return DATABASE_VERSION


def close_databases() -> None:
    """Close what this process has open of databases, before it ends."""
    if "hub.postgres.reader" in sys.modules:
        from hub.postgres.reader import close_all

        close_all()


def check_installed(location: DatabaseLocation) -> None:
    """Raise RegistryError where the extra is missing that a database takes."""
    try:
        import psycopg  # noqa: F401  # Here, since it is an extra.
    except ImportError as error:  # Also where it is installed, and finds no libpq.
        reason = f"it needs psycopg ({error}); run: pip install 'kdr-wsgi[postgres]'"
        raise RegistryError(str(location), reason) from error
