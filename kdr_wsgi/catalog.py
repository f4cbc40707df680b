"""What is published: from a key to a registration that is prepared for answering."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from hub.client import STATIC_DIRECTORY
from hub.keys import STATIC_KEY
from hub.locations import Location
from hub.registration import Registration, is_for_proxies, without_trust
from hub.registries import GRACE_SECONDS, Reader, reader_source, registry_at
from hub.registry import RegistryReader
from kdr_wsgi.headers import ALWAYS, ALWAYS_THE_SAME, SAME_ORIGIN, VARY_BY_LOGIN

#: Of how many registrations what was made is shared.
CAPACITY = RegistryReader.CAPACITY


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
    untrusted : Publication or None
        With trust, where others than the owner have a login: what they get.
    """

    registration: Registration
    headers: tuple[tuple[str, str], ...]
    immutable_headers: tuple[tuple[str, str], ...]
    variant: str
    untrusted: Publication | None = None

    @classmethod
    def prepare(cls, registration: Registration, *, has_login: bool) -> Publication:
        """Do once per registration what no request need do again.

        With `has_login` a browser may send a login along, for pages of
        other sites too.
        """
        # Registries of older versions may hold some.
        own = tuple(pair for pair in registration.headers if not is_for_proxies(pair[0]))
        chosen = {name.lower() for name, _ in own}
        added: tuple[tuple[str, str], ...] = SAME_ORIGIN if has_login and registration.visibility != "public" else ()
        untrusted = None
        varying: tuple[tuple[str, str], ...] = ()
        if registration.owner and registration.trusted:
            # One user's page must not run with another's login, nor come from a cache to the next who logs in.
            varying = VARY_BY_LOGIN
            other = cls.prepare(without_trust(registration), has_login=has_login)
            untrusted = replace(
                other, headers=other.headers + varying, immutable_headers=other.immutable_headers + varying
            )
        headers, immutable_headers = (
            (
                *(pair for pair in always + added if pair[0].lower() not in chosen),
                *own,
                ("Accept-Ranges", "bytes"),
                *varying,
            )
            for always in (ALWAYS, ALWAYS_THE_SAME)
        )
        return cls(registration, headers, immutable_headers, registration.variant, untrusted)

    def tag(self, etag: str) -> str:
        """Return the entity tag of a file as this registration serves it, in its quotes."""
        # Who has kept an answer with other headers must not be told that nothing has changed.
        return f'{etag[:-1]}-{self.variant}"' if self.variant else etag


_STATIC_FILES = Registration(STATIC_KEY, "tree", bytes(STATIC_DIRECTORY.resolve()), visibility="public", trusted=True)


class Catalog:
    """Looks keys up in the registry, with one reader per thread; the server's own static files are in none.

    Parameters
    ----------
    registry : path or DatabaseLocation
        It is made, or migrated, where that is needed.
    has_login : bool
        Whether the server stands behind a login.
    grace_seconds : float
        For how long known keys are served while a database does not answer.
    restrict : callable, optional
        Returns a registration with what of it may be served now, or None.
    """

    def __init__(
        self,
        registry: Location,
        *,
        has_login: bool,
        grace_seconds: float = GRACE_SECONDS,
        restrict: Callable[[Registration], Registration | None] = lambda registration: registration,
    ) -> None:
        self._restrict = restrict
        self._has_login = has_login
        # By their keys: the threads' readers share what is made of a registration.
        self._publications: dict[str, Publication] = {}
        self._threads = threading.local()
        self._static = Publication.prepare(_STATIC_FILES, has_login=has_login)
        self._make_reader = reader_source(registry, self._prepare, grace_seconds)
        writer = registry_at(registry)
        try:
            writer.open()
        finally:
            writer.close()

    def find(self, key: str) -> Publication | None:
        """Return the publication of `key`, as the registry stands now; None if there is none, or it has expired.

        Raises
        ------
        RegistryError
        """
        try:
            reader: Reader[Publication] = self._threads.reader
        except AttributeError:
            reader = self._threads.reader = self._make_reader()
        publication = reader.find(key)
        if publication is None and key == STATIC_KEY:
            return self._static
        return None if publication is None or publication.registration.is_expired() else publication

    def check(self) -> None:
        """Look a key up; raise RegistryError where that cannot be done."""
        self.find("")

    def close(self) -> None:
        """Close this thread's reader."""
        reader = self._threads.__dict__.pop("reader", None)
        if reader is not None:
            reader.close()

    def _prepare(self, registration: Registration) -> Publication | None:
        allowed = self._restrict(registration)
        return None if allowed is None else self._publish(allowed)

    def _publish(self, registration: Registration) -> Publication:
        known = self._publications.get(registration.key)
        if known is not None and known.registration == registration:
            return known
        if len(self._publications) >= CAPACITY:
            self._publications.clear()
        made = self._publications[registration.key] = Publication.prepare(registration, has_login=self._has_login)
        return made
