"""The relay server's application: Flask, with the way of files in front of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WSGIResponse

from hub.errors import RegistryError
from hub.object_urls import is_object_root
from hub.registration import Registration, Source
from hub.registries import schema_version
from hub.version import VERSION
from kdr_wsgi.answers import answer_error
from kdr_wsgi.archives import ArchiveIndexes, Archives
from kdr_wsgi.cache import FileCache
from kdr_wsgi.catalog import Catalog
from kdr_wsgi.contents import Contents
from kdr_wsgi.errors import RelayError
from kdr_wsgi.headers import ALWAYS
from kdr_wsgi.hosts import HostCheck
from kdr_wsgi.objects.opening import Objects
from kdr_wsgi.objects.promised import PromisedObjects
from kdr_wsgi.objects.rules import StoreRules
from kdr_wsgi.objects.stores import Stores
from kdr_wsgi.objects.uploads import UploadStore
from kdr_wsgi.rehashing import Rehasher
from kdr_wsgi.relay import FileRelay
from kdr_wsgi.settings import ServiceSettings, SettingError, Settings, read_settings
from kdr_wsgi.status import OwnStatusPages
from kdr_wsgi.store import FileStore
from kdr_wsgi.usage import UsageCounter
from kdr_wsgi.viewers import LocalViewers, Viewers

if TYPE_CHECKING:
    from kdr_wsgi.jupyterhub.metrics import Metrics

_log = logging.getLogger(__name__)


def create_app(config: Mapping[str, str] | None = None) -> Flask:
    """Return the relay server's application.

    Parameters
    ----------
    config : mapping of str to str, optional
        Settings by name, over those of the environment (`kdr_wsgi.settings.SETTINGS`).

    Raises
    ------
    SettingError
        A setting cannot be used.
    RegistryError
        The registry can be neither read nor made.
    """
    settings = read_settings(config)
    service = settings.service
    if service is None:
        has_login, rehasher = settings.behind_relay, Rehasher()
        restrict = partial(_restrict, settings.stores)
    else:
        has_login, rehasher = True, Rehasher(service.max_hashing_bytes)
        restrict = partial(_restrict_service, settings.stores, service)
    catalog = Catalog(settings.registry, has_login=has_login, grace_seconds=settings.grace_seconds, restrict=restrict)

    schema = schema_version(settings.registry)
    app = Flask("kdr_wsgi", static_folder=None)
    # A redirect would name the host of the request, which is wrong behind a proxy.
    app.url_map.merge_slashes = False

    @app.get(f"/{settings.route}/_probe")
    def probe() -> Response:
        """Say that a Kernel Data Relay is here."""
        return jsonify(status="ok", server="kdr-wsgi", version=VERSION)

    @app.get(f"/{settings.route}/_health")
    def health() -> tuple[Response, int]:
        """Say whether requests can be answered now."""
        try:
            catalog.check()
        except RegistryError as error:
            app.logger.error("%s", error)
            return jsonify(status="registry unavailable", version=VERSION, schema=schema), 503
        return jsonify(status="ok", version=VERSION, schema=schema), 200

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> WSGIResponse:
        """Answer what no route knows, or what failed, in one line of text."""
        response = error.get_response(request.environ)
        response.content_type = "text/plain; charset=utf-8"
        is_missing = error.code == 404
        response.set_data(
            f"Nothing is here; files are at {settings.route}/KEY/NAME.\n" if is_missing else f"{error.description}\n"
        )
        return response

    @app.errorhandler(RelayError)
    def explain_refusal(error: RelayError) -> WSGIResponse:
        """Answer what a route refuses."""
        answer = answer_error(request.environ, error)
        return WSGIResponse(answer.body, answer.status, answer.headers)

    @app.after_request
    def finish(response: Response) -> Response:
        """Add what every answer carries."""
        for name, value in ALWAYS:
            # Twice, they would mean nothing to a browser; a refusal has them already.
            response.headers.setdefault(name, value)
        return response

    contents = Contents(settings.registry)
    viewers: Viewers
    metrics = None
    if service is None:
        viewers = own_viewers = LocalViewers(settings)
        OwnStatusPages(settings, own_viewers, contents).install(app)
    else:
        viewers, metrics = _install(app, settings, service, contents)
    cache = FileCache(settings.cache_bytes) if metrics is None else metrics.counted_cache(settings.cache_bytes)
    indexes = ArchiveIndexes(settings.registry, rehasher, service.max_manifest_bytes if service else 0)
    archives = Archives(indexes, cache)
    stores = Stores()
    objects = Objects(settings.stores, stores, cache)
    uploads = UploadStore(service.uploads) if service is not None and service.uploads is not None else None
    promised_objects = PromisedObjects(settings.stores, stores, uploads, cache)
    store = FileStore(contents, cache, rehasher, archives, objects, promised_objects)
    usage = UsageCounter(settings.registry)
    app.wsgi_app = FileRelay(catalog, contents, archives, store, objects, viewers, usage, settings, app.wsgi_app)  # type: ignore[method-assign]  # as Flask documents
    if service is None:  # Whose logins are cookies, which browsers send to the service's own name alone.
        app.wsgi_app = HostCheck(app.wsgi_app, settings.hosts, settings.proxies)  # type: ignore[method-assign]
    if metrics is not None:
        app.wsgi_app = metrics.counted_app(app.wsgi_app)  # type: ignore[assignment,method-assign]
    app.extensions["kdr"] = catalog
    return app


def _restrict_service(stores: StoreRules, service: ServiceSettings, registration: Registration) -> Registration | None:
    """Return a registration with those of its places that its owner may publish: folders, objects, and uploads."""

    def is_allowed(source: Source, owner: str) -> bool:
        return stores.allow(source, owner) or (service.uploads is not None and service.uploads.holds(source, owner))

    return _told(registration, service.roots.restrict(registration, is_allowed))


def _restrict(stores: StoreRules, registration: Registration) -> Registration | None:
    """Return a registration with what of it may be served; of what is in object stores only what a rule allows."""
    allowed = registration.restricted_to(
        lambda source: not is_object_root(source.root) or stores.allow(source, registration.owner)
    )
    return _told(registration, allowed)


def _told(registration: Registration, allowed: Registration | None) -> Registration | None:
    """Return what is allowed of a registration, and log it where that is nothing of an object store."""
    if allowed is None and is_object_root(registration.root):
        _log.warning(
            "not served: %r is %r, below no prefix of the file of KDR_STORES that %s may publish",
            registration.key,
            registration.root[:500],
            repr(registration.owner) if registration.owner else "this user",
        )
    return allowed


def _install(app: Flask, settings: Settings, service: ServiceSettings, contents: Contents) -> tuple[Viewers, Metrics]:
    try:
        from kdr_wsgi.jupyterhub.service import install  # Here, since it needs an extra.
    except ModuleNotFoundError as error:
        remedy = "where the service runs: pip install 'kdr-wsgi[jupyterhub]'"
        raise SettingError(
            "JUPYTERHUB_SERVICE_NAME", f"a service of a JupyterHub needs {error.name}; {remedy}"
        ) from error
    return install(app, settings, service, contents)
