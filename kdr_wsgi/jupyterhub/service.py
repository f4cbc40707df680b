"""Puts together what a service of a JupyterHub has besides serving files."""

from __future__ import annotations

from flask import Flask

from kdr_wsgi.jupyterhub.logins import Logins
from kdr_wsgi.jupyterhub.oauth import LoginPages
from kdr_wsgi.jupyterhub.registrations import Registrations
from kdr_wsgi.jupyterhub.viewers import HubViewers
from kdr_wsgi.settings import ServiceSettings, Settings


def install(app: Flask, settings: Settings, service: ServiceSettings) -> HubViewers:
    """Let an application log users of the hub in, and take their registrations; return who may read what.

    Raises
    ------
    RegistryError
    """
    logins = Logins(service, settings.base_url)
    pages = LoginPages(logins, settings.base_url, service)
    pages.install(app)
    viewers = HubViewers(logins, pages, service)
    registrations = Registrations(settings, service, viewers)
    app.register_blueprint(registrations.blueprint(settings.route))
    return viewers
