"""Look at everything between a registration and its reader, and say what to do about what is wrong."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from hub.client import STATIC_DIRECTORY
from hub.content.archives import check_archive
from hub.content.manifests import ManifestStore
from hub.errors import (
    ArchiveError,
    InvalidOption,
    ManifestError,
    NoArchive,
    RegistryDamaged,
    RegistryError,
    RegistryTooNew,
    ServiceError,
    ServiceRefused,
)
from hub.filesystems import find_intruder
from hub.jupyter_servers import running_servers
from hub.keys import shorten_key
from hub.locations import DatabaseLocation, Location
from hub.object_urls import is_object_root
from hub.registration import Registration, Source
from hub.registries import registry_at, schema_version
from hub.registry import Registry
from hub.servers import find_servers
from hub.service import ServiceRegistrar
from hub.settings import find_hub_token, find_route, find_service
from hub.version import VERSION
from kdr_wsgi.health import NoHealthError, ask_health
from kdr_wsgi.objects.examining import examine_root
from kdr_wsgi.objects.rules import StoreRules
from kdr_wsgi.objects.stores import Stores
from kdr_wsgi.predecessor import explain_route
from kdr_wsgi.settings import SettingError, read_stores

Level = Literal["ok", "note", "bad"]

#: What of `hub/static` no page or viewer of ours works without.
PAGES = ("absolute.js", "openseadragon", "preview")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    Attributes
    ----------
    level : {"ok", "note", "bad"}
    sentence : str
    remedy : str
        What to do; empty only where nothing need be done.

    Raises
    ------
    ValueError
        It is bad, and nobody says what to do.
    """

    level: Level
    sentence: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.level == "bad" and not self.remedy:
            raise ValueError(f"a finding without a remedy: {self.sentence}")

    @property
    def text(self) -> str:
        """Sentence and remedy, in one line."""
        return f"{self.sentence}; {self.remedy}" if self.remedy else self.sentence


def examine(location: Location) -> Iterator[Finding]:
    """Yield what there is to say of the registry at `location`, of its servers and of each registration."""
    yield from _examine_pages()
    yield from _examine_extension(location)
    yield from _examine_service()
    if isinstance(location, Path) and is_missing(os.fsencode(location)):
        yield Finding("note", f"registry {location}: not there yet", "the first kdr publish or hub.serve_tree makes it")
        yield from _examine_servers(location)
        return
    try:
        registry = registry_at(location)
        with closing(registry):
            registry.check()
            registrations = registry.registrations()
            kept = f"journal {registry.journal_mode()}" if isinstance(registry, Registry) else "in PostgreSQL"
    except RegistryError as error:
        yield Finding("bad", str(error), _after(error, location))
        return
    number = f"{len(registrations)} registration{'' if len(registrations) == 1 else 's'}"
    yield Finding("ok", f"registry {location}: sound, schema {schema_version(location)}, {kept}, {number}")
    yield from _examine_permissions(location)
    # A service of a hub does not announce itself, and serves what is private to its owners.
    has_owners = any(registration.owner for registration in registrations)
    if has_owners:
        yield Finding("note", "server: this is the registry of a service of a JupyterHub", "its log tells how it is")
    else:
        yield from _examine_servers(location)
    has_relay = has_owners or any(server.program == "jupyter" for server in find_servers(location))
    try:
        objects = _Objects(read_stores(), Stores())
    except SettingError as error:
        yield Finding("bad", f"object stores: {error}", "correct that, and restart what serves")
        objects = _Objects(StoreRules(), Stores())
    for registration in registrations:
        store = ManifestStore(location, registration.owner)
        yield _examine_registration(registration, store, objects, has_relay=has_relay)


def _examine_pages() -> Iterator[Finding]:
    """Yield what there is to say of the pages and modules that this package bundles."""
    missing = [name for name in PAGES if not (STATIC_DIRECTORY / name).exists()]
    if missing:
        remedy = "run: pip install --force-reinstall --no-deps kdr-wsgi"
        yield Finding("bad", f"viewer pages: {', '.join(missing)} is not in {STATIC_DIRECTORY}", remedy)
    else:
        yield Finding("ok", "viewer pages: are all there")


def _after(error: RegistryError, location: Location) -> str:
    """Return what to do about a registry that cannot be read."""
    if isinstance(error, RegistryTooNew):
        return "run kdr doctor where that version is"
    if isinstance(error, RegistryDamaged):
        return "publish what you need again"
    if isinstance(location, DatabaseLocation):
        return "look whether the database runs and lets you in, with psql and the same URL, and run kdr doctor again"
    return "correct that, or name another registry in KDR_REGISTRY"


def _examine_service() -> Iterator[Finding]:
    """Yield what there is to say of the hub's shared relay server, where there is one."""
    if url := find_service():
        try:
            service = ServiceRegistrar(url, find_hub_token(), Path())
            number = len(service.registrations())
        except (InvalidOption, ServiceError) as error:
            remedy = "publish in your own registry meanwhile: kdr publish --registry PATH, or unset KDR_SERVICE_URL"
            yield Finding("bad", f"shared relay server: {error}", remedy)
        else:
            yield Finding("ok", f"shared relay server {url}: lets you publish; you have {number} there (kdr list)")
            yield _examine_uploads(service)


def _examine_uploads(service: ServiceRegistrar) -> Finding:
    """Return what there is to say of uploads to the hub's shared relay server."""
    try:
        told = service.tell_uploads()
    except ServiceRefused as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return Finding("note", "uploads: the shared relay server is older, and takes none")
        return Finding("note", f"uploads: {error}", "ask the administrator")
    except ServiceError as error:
        return Finding("note", f"uploads: {error}", "ask the administrator")
    if not told.get("takes"):
        return Finding("note", "uploads: the shared relay server takes none, and serves what it sees alone")
    used, most = told.get("used_bytes", 0), told.get("max_bytes", 0)
    return Finding("ok", f"uploads: the shared relay server takes them (upload=True); {used:,} of {most:,} bytes used")


def _examine_permissions(location: Location) -> Iterator[Finding]:
    if not isinstance(location, Path):
        place = location.local.parent
        if place.exists() and (reason := find_intruder(place)):
            yield Finding("bad", f"copies of manifests: {reason}", f"remove {place}; it is made again")
        return
    path = location
    secret = path.with_name(path.name + ".secret")
    for private, right in ((path.parent, 0o700), (path, 0o600), (secret, 0o600)):
        if not private.exists():
            continue
        status = private.stat()
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid != os.geteuid() or mode & stat.S_ISVTX:
            yield Finding("bad", f"permissions of {private}: it is shared", "name another registry in KDR_REGISTRY")
        elif mode & 0o077:
            remedy = f"run: chmod {right:o} {shlex.quote(str(private))}"
            yield Finding("bad", f"permissions of {private}: others have some ({mode:o})", remedy)
        else:
            yield Finding("ok", f"permissions of {private}: yours alone")


def _examine_servers(location: Location) -> Iterator[Finding]:
    """Yield what there is to say of the servers that have told of themselves, and of Jupyter servers that have not."""
    servers = find_servers(location)
    jupyter_servers = {server.process: server for server in running_servers()}
    schema = schema_version(location)
    for server in servers:
        if server.program == "jupyter":
            jupyter = jupyter_servers.get(server.process)
            name = f"Jupyter server {jupyter.url if jupyter else server.url} (process {server.process})"
            if jupyter is None:
                yield Finding("note", f"{name}: has the relay, and cannot be asked from here", "run kdr doctor there")
            else:
                remedy = f"look into its log, and restart it; its base URL is {jupyter.base_url}"
                yield from _examine_health(name, jupyter.url, server.route, jupyter.token, remedy, schema)
        else:
            remedy = f"end process {server.process} and start kdr serve again"
            name = f"server {server.url} (process {server.process})"
            yield from _examine_health(name, server.url, server.route, "", remedy, schema)
    without = [jupyter for process, jupyter in jupyter_servers.items() if process not in {s.process for s in servers}]
    for jupyter in without:
        yield Finding(
            "note" if servers else "bad",
            f"Jupyter server {jupyter.url} (process {jupyter.process}): has no relay for this registry",
            "in its environment run pip install 'kdr-wsgi[jupyter]', or where it is installed jupyter server extension "
            "enable --sys-prefix kdr_wsgi, and restart it; or set KDR_REGISTRY for both",
        )
    if not servers and not without:
        yield Finding(
            "note",
            "server: nothing runs for this registry",
            "start JupyterLab, or kdr serve (gunicorn, say, is not seen here)",
        )


def _examine_health(name: str, url: str, route: str, token: str, remedy: str, schema: int) -> Iterator[Finding]:
    try:
        health = ask_health(url, route, token)
    except NoHealthError as error:
        if error.is_known_bad:
            yield Finding("bad", f"{name}: {error}", remedy)
        else:
            yield Finding("note", f"{name}: {error}", "look whether the browser reads it: kdr open KEY")
        return
    if health.schema != schema:
        yield Finding(
            "bad",
            f"{name}: kdr-wsgi {health.version} there knows the registry's schema {health.schema}, {VERSION} here "
            f"schema {schema}",
            "install the same version in both environments",
        )
    elif health.status != "ok":
        yield Finding("bad", f"{name}: {health.status}", remedy)
    else:
        version = "" if health.version == VERSION else f" with version {health.version} (here {VERSION}, which fits)"
        yield Finding("ok", f"{name}: answers{version}")


def _examine_extension(location: Location) -> Iterator[Finding]:
    """Yield what there is to say of the Jupyter server extension in this environment."""
    try:
        from jupyter_core.paths import jupyter_config_path
        from jupyter_server.extension.config import ExtensionConfigManager
    except ModuleNotFoundError:
        yield Finding(
            "note",
            "extension: no Jupyter server is installed in this environment",
            "it may be in another one: run kdr doctor there",
        )
        return
    manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
    enabled = manager.get_jpserver_extensions()  # type: ignore[no-untyped-call]  # Jupyter gives it no types
    if not enabled.get("kdr_wsgi"):
        remedy = "run: jupyter server extension enable --sys-prefix kdr_wsgi"
        yield Finding("note", "extension: is not enabled for Jupyter servers of this environment", remedy)
        return
    missing = [name for name in ("httptools", "tornado") if find_spec(name) is None]
    if missing:
        remedy = "run: pip install 'kdr-wsgi[jupyter]'"
        yield Finding("bad", f"extension: is enabled, but {' and '.join(missing)} is not installed", remedy)
        return
    yield Finding("ok", "extension: is enabled for Jupyter servers of this environment")
    others = {name for name, is_enabled in enabled.items() if is_enabled and find_spec(name)}
    advice = explain_route(others, find_route(location))
    if advice:
        yield Finding("note", f"extension: {advice}")


class _Objects(NamedTuple):
    """What object stores may be asked, and what asks them."""

    rules: StoreRules
    stores: Stores


def _examine_registration(
    registration: Registration, store: ManifestStore, objects: _Objects, *, has_relay: bool
) -> Finding:
    """Return what there is to say; of a content key with several places, of the best of them."""
    findings = [
        _examine_place(registration, place, store, objects, has_relay=has_relay) for place in registration.sources
    ]
    return next((finding for finding in findings if finding.level != "bad"), findings[0])


def _examine_place(
    registration: Registration, place: Source, store: ManifestStore, objects: _Objects, *, has_relay: bool
) -> Finding:
    kept = "snapshot of a " if place.is_kept else ""
    what = f"{kept}{registration.kind} {shorten_key(registration.key)!r} at {os.fsdecode(place.root)!r}"
    if registration.is_expired():
        return Finding("note", f"{what}: has expired", "kdr gc removes it")
    if place.is_kept and is_object_root(place.root):
        return Finding("ok", f"{what}: was uploaded, {registration.visibility}")
    if is_object_root(place.root):
        return _examine_object(registration, what, objects, has_relay=has_relay)
    try:
        status = os.stat(place.root, follow_symlinks=False)
    except OSError as error:
        remedy = f"publish it again, or run: kdr revoke {shlex.quote(registration.key)}"
        return Finding("bad", f"{what}: {error.strerror}", remedy)
    if os.path.realpath(place.root) != place.root:
        return Finding("bad", f"{what}: a link leads there now, which is not followed", "publish it again")
    is_folder = registration.kind == "tree" or place.is_kept
    if not (stat.S_ISDIR if is_folder else stat.S_ISREG)(status.st_mode):
        return Finding("bad", f"{what}: is no {registration.kind} any more", "publish it again")
    if registration.content and registration.kind == "tree":
        try:
            store.open(registration.content, place.root)
        except ManifestError as error:
            return Finding("bad", f"{what}: {error}", "publish it again, with content=True")
    if registration.kind == "archive":
        try:
            check_archive(place.root)
        except (ArchiveError, NoArchive) as error:
            return Finding("bad", f"{what}: {error}", "write it again, or revoke it")
    wanted = os.R_OK | os.X_OK if is_folder else os.R_OK
    if not os.access(place.root, wanted):
        return Finding("bad", f"{what}: you have no permission to read it", "change its mode, or revoke it")
    served = _served(registration, has_relay=has_relay)
    return Finding("ok", f"{what}: readable on disk, {registration.visibility}", served)


def _examine_object(registration: Registration, what: str, objects: _Objects, *, has_relay: bool) -> Finding:
    """Return what there is to say of what is in an object store."""
    found = examine_root(registration, objects.rules, objects.stores)
    if found.state == "untold":
        remedy = (
            "run kdr doctor with KDR_STORES as the relay server has it; docs/howto/object-stores.md says what is in it"
        )
        return Finding(
            "bad", f"{what}: KDR_STORES names no file here, so that nobody can tell whether it is served", remedy
        )
    if found.state == "refused":
        remedy = "let the administrator add its prefix to the file of KDR_STORES, or revoke it"
        return Finding("bad", f"{what}: lies below no prefix that may be published, and is not served", remedy)
    if found.state == "missing":
        remedy = f"publish it again, or run: kdr revoke {shlex.quote(registration.key)}"
        return Finding("bad", f"{what}: nothing is there", remedy)
    if found.state == "failing":
        remedy = "look at its rule in the file of KDR_STORES: credentials, endpoint and region"
        return Finding("bad", f"{what}: {found.reason}", remedy)
    return Finding("ok", f"{what}: is there, {registration.visibility}", _served(registration, has_relay=has_relay))


def _served(registration: Registration, *, has_relay: bool) -> str:
    needs_owner = registration.visibility != "public" and not has_relay
    return "only kdr serve --as-owner serves it" if needs_owner else ""


def is_missing(path: bytes) -> bool:
    """Whether nothing is at `path`; what cannot be looked at is not missing, nor is what only a store knows."""
    if is_object_root(path):
        return False
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except PermissionError:
        return False
    return False
