"""What is published: from a key to a publication that this viewer may know of."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hub.registration import Registration, Visibility
from hub.registry import Registry, RegistryReader
from kdr_wsgi.errors import UnknownKey
from kdr_wsgi.headers import ALWAYS, ALWAYS_THE_SAME, SAME_ORIGIN


@dataclass(frozen=True, slots=True)
class Publication:
    """A registration, prepared for answering.

    Attributes
    ----------
    registration : Registration
    headers : tuple of headers
        What its answers have.
    immutable_headers : tuple of headers
        What those have that a content key names.
    variant : str
        What tells its entity tags from those of others: see `Registration.variant`.
    """

    registration: Registration
    headers: tuple[tuple[str, str], ...]
    immutable_headers: tuple[tuple[str, str], ...]
    variant: str

    @classmethod
    def prepare(cls, registration: Registration, *, has_login: bool) -> Publication:
        """Do once per registration what no request need do again.

        With `has_login` a browser may send a login along, for pages of
        other sites too.
        """
        own = registration.headers
        chosen = {name.lower() for name, _ in own}
        origin = SAME_ORIGIN if has_login and registration.visibility != "public" else ()
        headers, immutable_headers = (
            (*(pair for pair in always + origin if pair[0].lower() not in chosen), *own, ("Accept-Ranges", "bytes"))
            for always in (ALWAYS, ALWAYS_THE_SAME)
        )
        return cls(registration, headers, immutable_headers, registration.variant)

    def tag(self, etag: str) -> str:
        """Return the entity tag of a file as this registration serves it, in its quotes."""
        # Who has kept an answer with other headers must not be told that nothing has changed.
        return f'{etag[:-1]}-{self.variant}"' if self.variant else etag


class Catalog:
    """Looks keys up in the registry, with one reader per thread.

    Parameters
    ----------
    registry : Path
        It is made, or migrated, where that is needed.
    has_login : bool
        Whether the server stands behind a login.
    """

    def __init__(self, registry: Path, *, has_login: bool) -> None:
        self._path = registry
        self._prepare = partial(Publication.prepare, has_login=has_login)
        self._threads = threading.local()
        writer = Registry(registry)
        try:
            writer.open()
        finally:
            writer.close()

    def find(self, key: str, readable: frozenset[Visibility]) -> Publication:
        """Return the publication of `key`, as the registry stands now, to who may read what is `readable`.

        Raises
        ------
        UnknownKey
            There is none, it has expired, or this viewer may not know of it.
        RegistryError
        """
        publication = self._reader().find(key)
        if publication is None:
            raise UnknownKey
        registration = publication.registration
        if registration.visibility not in readable or registration.is_expired():
            raise UnknownKey
        return publication

    def check(self) -> None:
        """Look a key up; raise RegistryError where that cannot be done."""
        self._reader().find("")

    def close(self) -> None:
        """Close this thread's reader."""
        reader = self._threads.__dict__.pop("reader", None)
        if reader is not None:
            reader.close()

    def _reader(self) -> RegistryReader[Publication]:
        try:
            reader: RegistryReader[Publication] = self._threads.reader
        except AttributeError:
            reader = self._threads.reader = RegistryReader(self._path, self._prepare)
        return reader
