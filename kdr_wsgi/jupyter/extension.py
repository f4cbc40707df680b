"""The Jupyter server extension: configuration, and what is put together of it."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from tornado.routing import PathMatches, Rule
from traitlets import Bool, Enum, Integer, List, TraitError, Unicode, default, validate

from hub.errors import InvalidOption
from hub.locations import setting_of
from hub.servers import announced
from hub.settings import DEFAULT_ROUTE, check_route, find_registry, normalise_base_url
from kdr_wsgi.jupyter.backend import Backend
from kdr_wsgi.jupyter.routes import Policy, RelayRoute
from kdr_wsgi.jupyter.supervisor import THREADS, Supervisor
from kdr_wsgi.origins import Origins, is_origin
from kdr_wsgi.predecessor import explain_route
from kdr_wsgi.servers import SERVERS, check_installed
from kdr_wsgi.settings import SettingError

#: What Jupyter, its applications and JupyterHub have directly below the base URL.
_ROUTES_OF_JUPYTER = frozenset(
    "api consoles custom doc edit files hub kernelspecs lab lite login logo logout lsp metrics nbclassic nbconvert "
    "nbextensions notebooks oauth_callback proxy retro services static terminals tree user user-redirect view".split()
)


class KernelDataRelay(ExtensionApp):
    """Serves the files that kernels have registered to whoever is logged in to Jupyter."""

    name = "kernel_data_relay"

    workers = Integer(1, min=1, help="Processes that serve files.").tag(config=True)

    server = Enum(
        SERVERS, SERVERS[0], help="What runs these processes; 'granian' is faster, and needs kdr-wsgi[granian]."
    ).tag(config=True)

    @validate("server")
    def _check_server(self, proposal: Any) -> str:
        try:
            check_installed(proposal["value"])
        except SettingError as error:
            raise TraitError(f"server: {error}") from error
        return str(proposal["value"])

    registry_path = Unicode(
        help="The registry's file, or postgresql://USER@HOST/DATABASE. Default: KDR_REGISTRY, else kdr/registry.sqlite "
        "below Jupyter's runtime directory."
    ).tag(config=True)

    public_without_login = Bool(
        False, help="Whether visitors without a login may read what is registered with visibility 'public'."
    ).tag(config=True)

    allowed_origins = List(
        Unicode(),
        help="Origins, such as 'https://viewer.example', whose pages may read with the login of the viewer, "
        "besides the server's own and those of ServerApp.allow_origin.",
    ).tag(config=True)

    @validate("allowed_origins")
    def _check_origins(self, proposal: Any) -> list[str]:
        for origin in proposal["value"]:
            if not is_origin(origin):
                raise TraitError(f"allowed_origins: {origin!r} is no origin; write https://HOST or https://HOST:PORT")
        return list(proposal["value"])

    route = Unicode(
        help="The word between the base URL and a key in URLs; another than 'wwtkdr' where wwt_kernel_data_relay is to "
        "answer at that one. Default: KDR_ROUTE, else wwtkdr.",
    ).tag(config=True)

    @default("route")
    def _find_route(self) -> str:
        return _check_free(os.environ.get("KDR_ROUTE") or DEFAULT_ROUTE)

    @validate("route")
    def _check_route(self, proposal: Any) -> str:
        return _check_free(proposal["value"])

    def initialize_settings(self) -> None:
        """Tell the kernels, which inherit this process's environment, where to register."""
        assert self.serverapp is not None  # Jupyter links an extension before it initialises it.
        self._registry = find_registry(self.registry_path or None)
        self._base_url = normalise_base_url(self.serverapp.base_url)
        os.environ["KDR_REGISTRY"] = setting_of(self._registry)
        os.environ["KDR_BASE_URL"] = self._base_url
        os.environ["KDR_ROUTE"] = self.route
        # For the tile in JupyterLab's launcher.
        self.serverapp.web_app.settings.setdefault("page_config_data", {})["kdrRoute"] = self.route

    def initialize_handlers(self) -> None:
        """Route ``{base_url}{route}/...`` to the relay server."""
        server = self.serverapp
        assert server is not None
        self._supervisor = Supervisor(
            {
                "KDR_REGISTRY": setting_of(self._registry),
                "KDR_BASE_URL": "/",
                "KDR_ROUTE": self.route,
                "KDR_AS_OWNER": "0",
                "KDR_BEHIND_RELAY": "1",
            },
            self.workers,
            self.server,
            self.log,
        )
        connections = THREADS * self.workers
        self._backend = Backend(self._supervisor.address, self._supervisor.is_failing, connections, self.log)
        self._supervisor.when_ended = self._backend.close_idle
        origins = Origins(
            allowed=frozenset(self.allowed_origins),
            jupyter_allowed=server.allow_origin,
            jupyter_pattern=server.allow_origin_pat,
            jupyter_credentials=server.allow_credentials,
        )
        base_url = server.base_url.rstrip("/")
        policy = Policy(base_url, origins, self.public_without_login, trusts_proxy=server.trust_xheaders)
        route = RelayRoute(server.web_app, self._backend, policy, self.route)
        extensions = server.extension_manager.extensions
        advice = explain_route({name for name, package in extensions.items() if package.enabled}, self.route)
        if advice:
            self.log.warning(advice)
        # First of all rules: behind those of JupyterLab each request would be compared with a hundred patterns.
        rule = Rule(PathMatches(re.escape(f"{base_url}/{self.route}/") + ".*"), route)
        server.web_app.default_router.rules.insert(0, rule)
        self._announcement = ExitStack()
        try:
            self._announcement.enter_context(announced(self._registry, "jupyter", self._base_url, self.route))
        except OSError as error:
            self.log.warning("kernels cannot see that their files are served: %s", error)

    async def stop_extension(self) -> None:
        """End the relay server with the Jupyter server."""
        self._announcement.close()
        self._backend.close()
        await self._supervisor.stop()


def _check_free(route: str) -> str:
    try:
        check_route(route)
    except InvalidOption as error:
        raise TraitError(str(error)) from error
    if route in _ROUTES_OF_JUPYTER:
        raise TraitError(f"route: {route!r} is Jupyter's own; choose another word, 'kdr' for instance")
    return route
