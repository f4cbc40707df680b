"""Puts together what a service of a JupyterHub has besides serving files."""

from __future__ import annotations

from flask import Flask

from hub.registry import Registry
from kdr_wsgi.jupyterhub.logins import Logins
from kdr_wsgi.jupyterhub.metrics import Metrics
from kdr_wsgi.jupyterhub.oauth import LoginPages
from kdr_wsgi.jupyterhub.registrations import Registrations
from kdr_wsgi.jupyterhub.status import StatusPages
from kdr_wsgi.jupyterhub.viewers import HubViewers
from kdr_wsgi.settings import ServiceSettings, Settings


def install(app: Flask, settings: Settings, service: ServiceSettings) -> tuple[HubViewers, Metrics]:
    """Let an application log users of the hub in, and take their registrations; return who may read what, and counts.

    Raises
    ------
    RegistryError
    """
    metrics = Metrics(Registry(settings.registry))
    logins = Logins(service, settings.base_url, metrics.count_question)
    pages = LoginPages(logins, settings.base_url, service)
    pages.install(app)
    viewers = HubViewers(logins, pages, service)
    registrations = Registrations(settings, service, viewers)
    app.register_blueprint(registrations.blueprint(settings.route))
    StatusPages(metrics, viewers, pages).install(app, settings.route)
    return viewers, metrics
