"""What users may know of a service, and what administrators, and their Prometheus servers, may know besides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flask import Flask, Response, abort, request

from hub.object_urls import is_object_root
from hub.registration import Registration
from hub.registries import AnyRegistry
from kdr_wsgi.contents import Contents
from kdr_wsgi.errors import ScopeMissing, TokenNeeded, UnknownKey
from kdr_wsgi.headers import SAME_ORIGIN
from kdr_wsgi.jupyterhub.logins import METRICS_SCOPE, Member
from kdr_wsgi.jupyterhub.metrics import CONTENT_TYPE, Metrics
from kdr_wsgi.jupyterhub.oauth import LoginPages
from kdr_wsgi.jupyterhub.viewers import HubViewers
from kdr_wsgi.overview import Overview, look_over
from kdr_wsgi.settings import ServiceSettings, Settings
from kdr_wsgi.status import answer_overview, answer_size, ask_registry


class StatusPages:
    """Tells users what they have registered; and what the service has done, to who has the scope ``read:metrics``.

    Parameters
    ----------
    metrics : Metrics
    viewers : HubViewers
    pages : LoginPages
    registry : Registry
    contents : Contents
    settings : Settings
    service : ServiceSettings
    """

    def __init__(
        self,
        metrics: Metrics,
        viewers: HubViewers,
        pages: LoginPages,
        registry: AnyRegistry,
        contents: Contents,
        settings: Settings,
        service: ServiceSettings,
    ) -> None:
        self._metrics = metrics
        self._viewers = viewers
        self._pages = pages
        self._registry = registry
        self._contents = contents
        self._route = settings.route
        self._prefix = f"{service.host}{settings.base_url}{settings.route}/"
        self._roots = service.roots

    def install(self, app: Flask) -> None:
        """Let an application answer ``_metrics``, and below ``_status``."""
        app.add_url_rule(f"/{self._route}/_metrics", "metrics", self.tell_metrics, methods=["GET"])
        app.add_url_rule(f"/{self._route}/_status", "status", self.show, methods=["GET"])
        app.add_url_rule(f"/{self._route}/_status/size", "size", self.tell_size, methods=["GET"])

    def tell_metrics(self) -> Response:
        """Tell a Prometheus server all that is counted."""
        if not self._identify(METRICS_SCOPE).may_see_metrics:
            abort(404)
        response = Response(self._metrics.text(), content_type=CONTENT_TYPE)
        response.headers.extend(SAME_ORIGIN)
        return response

    def show(self) -> Response:
        """Show users what they have registered, and administrators how the service is used, and by whom."""
        member = self._identify()
        if not (member.name or member.may_see_metrics):
            abort(404)
        registrations = ask_registry(lambda: self._registry.registrations_of(member.name)) if member.name else []
        overview = self._as_seen(member.name, look_over(registrations, self._registry.location))
        totals = self._totals() if member.may_see_metrics else None
        return answer_overview(overview, self._prefix, may_revoke=True, service=totals)

    def tell_size(self) -> Response:
        """Tell users how much a registration of theirs has."""
        owner = self._identify().name
        registration = ask_registry(lambda: self._registry.find(request.args.get("key", "")))
        if not owner or registration is None or registration.owner != owner:
            raise UnknownKey
        allowed = registration if is_object_root(registration.root) else self._roots.restrict(registration)
        return answer_size(allowed, self._contents, self._prefix)

    def _identify(self, scope: str = "") -> Member:
        """Return who asks; of a token also whether it has a scope.

        Raises
        ------
        LoginNeeded, TokenNeeded, TokenRefused, ScopeMissing, HubUnavailable
        """
        member = self._viewers.identify_by_token(request.environ)
        if scope and member is not None and not member.may_see_metrics:
            raise ScopeMissing(scope)
        member = member or self._viewers.identify(request.environ)
        if member is None and self._pages.may_log_in(request.environ):
            raise self._pages.ask_for_login(request.environ)
        if member is None:
            raise TokenNeeded
        return member

    def _as_seen(self, owner: str, overview: Overview) -> Overview:
        """Return the same with paths as the owner's server sees them."""
        roots = self._roots.as_seen(owner, [each.registration.root for each in overview.published])
        seen = [
            replace(each, registration=_at(each.registration, root))
            for each, root in zip(overview.published, roots, strict=True)
        ]
        return overview._replace(published=seen)

    def _totals(self) -> dict[str, Any]:
        totals = self._metrics.totals()
        owned = ask_registry(self._metrics.registrations_by_owner)
        users = sorted(owned.items(), key=lambda owner: (-owner[1], owner[0]))
        looked_up = totals.cache_hits + totals.cache_misses
        return {
            "requests": totals.requests,
            "body_bytes": totals.body_bytes,
            "cache": {
                "hits": totals.cache_hits,
                "misses": totals.cache_misses,
                "ratio": totals.cache_hits / looked_up if looked_up else None,
            },
            "registrations": {
                "total": sum(owned.values()),
                "by_user": [{"user": user, "count": count} for user, count in users],
            },
        }


def _at(registration: Registration, root: bytes) -> Registration:
    return replace(registration, root=root)
