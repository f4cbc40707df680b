"""Where a hub registers: the user's own registry, or the shared relay server of a JupyterHub."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

from hub.errors import InvalidOption, RegistryDamaged
from hub.keys import path_key
from hub.locations import Location
from hub.registration import Registration
from hub.registries import AnyRegistry
from hub.secret import read_secret

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a caller wants registered.

    Attributes
    ----------
    registration : Registration
        Its key is the one that was chosen, or the content key; empty, if it is to be the path's.
    place : bytes
        The absolute path as the caller spelled it, links and all, which a path key stands for.
    extension : bytes
        What is appended to a file's name.
    ttl : float or None
        Seconds until the registration ends by itself.
    is_upload : bool
        With a content key: the files were sent to the shared relay server, which serves those.
    is_by_content : bool
        Of an object store: the shared relay server is to make the content key, since it alone may ask the store.
    """

    registration: Registration
    place: bytes
    extension: bytes
    ttl: float | None
    is_upload: bool = False
    is_by_content: bool = False

    @property
    def key_ending(self) -> bytes:
        """What a path key stands for besides the path: archives are published as files, too."""
        return b"/" if self.registration.kind == "archive" else self.extension


class Registered(NamedTuple):
    """What has been registered: its key, and the URL that it is read at."""

    key: str
    url: str


class Registrar(Protocol):
    """What a hub registers with."""

    @property
    def location(self) -> Location:
        """The user's own registry, beside which the manifests are that were made here."""

    def register(self, claim: Claim) -> Registered:
        """Register what is claimed; raise HubError if nothing is."""

    def revoke(self, key: str) -> bool:
        """End a registration; False if there is none."""

    def registrations(self) -> list[tuple[Registration, str]]:
        """Return the user's registrations, in the order of their keys, with the URL of each."""

    def find(self, key: str) -> Registration | None:
        """Return one of the user's registrations; None if there is none, or it has ended."""


class LocalRegistrar:
    """Registers in the user's own registry.

    Parameters
    ----------
    registry : Registry or PostgresRegistry
    base_url, route : str
        What stands in URLs in front of the key.
    """

    def __init__(self, registry: AnyRegistry, base_url: str, route: str) -> None:
        self._registry = registry
        self._prefix = f"{base_url}{route}/"
        # What this process has registered, to be registered again should the registry be lost.
        self._claimed: dict[str, dict[tuple[bytes, bytes], Registration]] = {}
        self._generation = 0

    @property
    def location(self) -> Location:
        """Where the registry is."""
        return self._registry.location

    def register(self, claim: Claim) -> Registered:
        """Write a row of the registry; the last claim of a key wins."""
        registration = claim.registration
        if registration.audience:
            raise InvalidOption(
                "visibility",
                list(registration.audience),
                "users and groups are known to the shared relay server of a JupyterHub alone (KDR_SERVICE_URL); "
                "here choose private, users or public",
            )
        now = time.time()
        registration = replace(
            registration,
            key=registration.key or self._path_key(claim),
            claimed_at=now,
            expires_at=None if claim.ttl is None else now + claim.ttl,
        )
        with self._registry.in_turn():
            self._in_registry(lambda: self._registry.claim(registration))
            self._remember(registration)
            # It may have been set aside while we wrote.
            self._restore()
        return Registered(registration.key, self._prefix + registration.target)

    def revoke(self, key: str) -> bool:
        """Remove a row of the registry."""
        with self._registry.in_turn():
            was_there = self._in_registry(lambda: self._registry.revoke(key))
            self._claimed.pop(key, None)
            return was_there

    def registrations(self) -> list[tuple[Registration, str]]:
        """Return all that the registry has, with partial URLs."""
        registrations = self._look(self._registry.registrations)
        return [(registration, self._prefix + registration.target) for registration in registrations]

    def find(self, key: str) -> Registration | None:
        """Return what the registry has of a key."""
        found = self._look(lambda: self._registry.find(key))
        return None if found is None or found.is_expired() else found

    def _look(self, look: Callable[[], _Result]) -> _Result:
        # Who has registered nothing only looks, and changes nothing.
        with self._registry.in_turn():
            return self._in_registry(look) if self._claimed else look()

    def _in_registry(self, work: Callable[[], _Result]) -> _Result:
        """Do `work` in a registry that has what this process has registered."""
        try:
            self._restore()
            return work()
        except RegistryDamaged:
            self._restore()
            return work()

    def _remember(self, registration: Registration) -> None:
        claims = self._claimed.setdefault(registration.key, {})
        # One content may have several names, and lie at several places.
        if not registration.content:
            claims.clear()
        claims[registration.name, registration.root] = registration

    def _restore(self) -> None:
        """Register again what this process has registered, if another file is the registry now."""
        self._registry.open()
        if self._registry.generation != self._generation:
            lost = [claim for claims in self._claimed.values() for claim in claims.values() if not claim.is_expired()]
            if lost:
                self._registry.restore(lost)
            self._generation = self._registry.generation

    def _path_key(self, claim: Claim) -> str:
        # First, so that no secret is left beside what is no registry.
        self._registry.open()
        return path_key(claim.place, claim.key_ending, read_secret(self._registry.location))
