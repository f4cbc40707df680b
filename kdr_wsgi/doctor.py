"""Look at everything between a registration and its reader, and say what to do about what is wrong."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hub.errors import RegistryError
from hub.registration import Registration
from hub.registry import SCHEMA_VERSION, Registry
from hub.servers import find_servers
from kdr_wsgi.health import ask_health

Level = Literal["ok", "note", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found; its sentence holds the remedy where there is something to do."""

    level: Level
    sentence: str


def examine(path: Path) -> Iterator[Finding]:
    """Yield what there is to say of the registry at `path`, of its servers and of each registration."""
    if is_missing(os.fsencode(path)):
        yield Finding("note", f"registry {path}: not there yet; the first kdr publish or hub.serve_tree makes it")
        return
    registry = Registry(path)
    try:
        registry.check()
        registrations = registry.registrations()
        mode = registry.journal_mode()
    except RegistryError as error:
        yield Finding("bad", str(error))
        return
    finally:
        registry.close()
    number = f"{len(registrations)} registration{'' if len(registrations) == 1 else 's'}"
    yield Finding("ok", f"registry {path}: sound, schema {SCHEMA_VERSION}, journal {mode}, {number}")
    yield from _examine_permissions(path)
    yield from _examine_servers(path)
    for registration in registrations:
        yield _examine_registration(registration)


def _examine_permissions(path: Path) -> Iterator[Finding]:
    secret = path.with_name(path.name + ".secret")
    for private, right in ((path.parent, 0o700), (path, 0o600), (secret, 0o600)):
        if not private.exists():
            continue
        status = private.stat()
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid != os.geteuid() or mode & stat.S_ISVTX:
            yield Finding("bad", f"permissions of {private}: it is shared; name another registry in KDR_REGISTRY")
        elif mode & 0o077:
            yield Finding(
                "bad", f"permissions of {private}: others have some ({mode:o}); run: chmod {right:o} {private}"
            )
        else:
            yield Finding("ok", f"permissions of {private}: yours alone")


def _examine_servers(path: Path) -> Iterator[Finding]:
    servers = find_servers(path)
    if not servers:
        yield Finding(
            "note", "server: no kdr serve runs for this registry (other servers, gunicorn say, are not seen here)"
        )
    for server in servers:
        health = ask_health(server)
        if health == "ok":
            yield Finding("ok", f"server {server.url}: answers (process {server.process})")
        else:
            remedy = f"end process {server.process} and start kdr serve again"
            yield Finding("bad", f"server {server.url}: {health}; {remedy}")


def _examine_registration(registration: Registration) -> Finding:
    what = f"{registration.kind} {registration.key!r} at {os.fsdecode(registration.root)!r}"
    if registration.is_expired():
        return Finding("note", f"{what}: has expired; kdr gc removes it")
    try:
        status = os.stat(registration.root, follow_symlinks=False)
    except OSError as error:
        return Finding("bad", f"{what}: {error.strerror}; publish it again, or run: kdr revoke {registration.key!r}")
    is_kind = stat.S_ISDIR if registration.kind == "tree" else stat.S_ISREG
    if not is_kind(status.st_mode):
        return Finding("bad", f"{what}: is no {registration.kind} any more; publish it again")
    wanted = os.R_OK | os.X_OK if registration.kind == "tree" else os.R_OK
    if not os.access(registration.root, wanted):
        return Finding("bad", f"{what}: you have no permission to read it; change its mode, or revoke it")
    served = "" if registration.visibility == "public" else "; only kdr serve --as-owner serves it"
    return Finding("ok", f"{what}: readable on disk, {registration.visibility}{served}")


def is_missing(path: bytes) -> bool:
    """Whether nothing is at `path`; what cannot be looked at is not missing."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except PermissionError:
        return False
    return False
