"""Puts together what a service of a JupyterHub has besides serving files."""

from __future__ import annotations

from flask import Flask, Response

from hub.registries import registry_at
from kdr_wsgi.contents import Contents
from kdr_wsgi.jupyterhub.logins import Logins
from kdr_wsgi.jupyterhub.metrics import Metrics
from kdr_wsgi.jupyterhub.oauth import LoginPages
from kdr_wsgi.jupyterhub.registrations import Registrations
from kdr_wsgi.jupyterhub.status import StatusPages
from kdr_wsgi.jupyterhub.viewers import HubViewers
from kdr_wsgi.settings import ServiceSettings, Settings


def _home() -> Response:
    """Answer the hub, which asks whether its service has started; and who has no address of a file."""
    return Response(
        "The Kernel Data Relay of this hub is here. Its files have addresses of their own.\n", mimetype="text/plain"
    )


def install(app: Flask, settings: Settings, service: ServiceSettings, contents: Contents) -> tuple[HubViewers, Metrics]:
    """Let an application log users of the hub in, and take their registrations; return who may read what, and counts.

    Raises
    ------
    RegistryError
    """
    registry = registry_at(settings.registry)
    metrics = Metrics(registry)
    logins = Logins(service, settings.base_url, metrics.count_question)
    pages = LoginPages(logins, settings.base_url, service)
    pages.install(app)
    app.add_url_rule("/", "home", _home)
    viewers = HubViewers(logins, pages, service)
    registrations = Registrations(settings, service, viewers)
    app.register_blueprint(registrations.blueprint(settings.route))
    StatusPages(metrics, viewers, pages, registry, contents, settings, service).install(app)
    return viewers, metrics
