"""Where a hub registers: the user's own registry, or the shared relay server of a JupyterHub."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from hub.errors import InvalidOption
from hub.keys import path_key
from hub.registration import Registration
from hub.registry import Registry
from hub.secret import read_secret


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
    """

    registration: Registration
    place: bytes
    extension: bytes
    ttl: float | None


class Registered(NamedTuple):
    """What has been registered: its key, and the URL that it is read at."""

    key: str
    url: str


class Registrar(Protocol):
    """What a hub registers with."""

    def register(self, claim: Claim) -> Registered:
        """Register what is claimed; raise HubError if nothing is."""

    def revoke(self, key: str) -> bool:
        """End a registration; False if there is none."""

    def registrations(self) -> list[tuple[Registration, str]]:
        """Return the user's registrations, in the order of their keys, with the URL of each."""


class LocalRegistrar:
    """Registers in the user's own registry.

    Parameters
    ----------
    registry : Registry
    base_url, route : str
        What stands in URLs in front of the key.
    """

    def __init__(self, registry: Registry, base_url: str, route: str) -> None:
        self._registry = registry
        self._prefix = f"{base_url}{route}/"

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
        self._registry.claim(registration)
        return Registered(registration.key, self._prefix + registration.target)

    def revoke(self, key: str) -> bool:
        """Remove a row of the registry."""
        return self._registry.revoke(key)

    def registrations(self) -> list[tuple[Registration, str]]:
        """Return all that the registry has, with partial URLs."""
        return [(registration, self._prefix + registration.target) for registration in self._registry.registrations()]

    def _path_key(self, claim: Claim) -> str:
        # First, so that no secret is left beside what is no registry.
        self._registry.open()
        return path_key(claim.place, claim.extension, read_secret(self._registry.path))
