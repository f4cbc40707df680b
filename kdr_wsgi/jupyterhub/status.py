"""What administrators, and their Prometheus servers, may know of a service."""

from __future__ import annotations

from flask import Flask, Response, abort, jsonify, render_template, request

from hub.errors import RegistryError
from hub.version import VERSION
from kdr_wsgi.errors import RegistryUnavailable, ScopeMissing, TokenNeeded
from kdr_wsgi.headers import SAME_ORIGIN, STYLE_ONLY
from kdr_wsgi.jupyterhub.logins import METRICS_SCOPE
from kdr_wsgi.jupyterhub.metrics import CONTENT_TYPE, Metrics
from kdr_wsgi.jupyterhub.oauth import LoginPages
from kdr_wsgi.jupyterhub.viewers import HubViewers

#: A page with more users than this helps nobody; the JSON has them all.
MAX_ROWS = 1000


class StatusPages:
    """Tells what a service has done, to who has the scope ``read:metrics``.

    Parameters
    ----------
    metrics : Metrics
    viewers : HubViewers
    pages : LoginPages
    """

    def __init__(self, metrics: Metrics, viewers: HubViewers, pages: LoginPages) -> None:
        self._metrics = metrics
        self._viewers = viewers
        self._pages = pages

    def install(self, app: Flask, route: str) -> None:
        """Let an application answer ``_metrics`` and ``_status``."""

        @app.get(f"/{route}/_metrics")
        def metrics() -> Response:
            """Tell a Prometheus server all that is counted."""
            self._check_right()
            return _kept_to_its_site(Response(self._metrics.text(), content_type=CONTENT_TYPE))

        @app.get(f"/{route}/_status")
        def status() -> Response:
            """Tell an administrator how the service is used, and by whom."""
            self._check_right()
            return _kept_to_its_site(self._answer_status())

    def _check_right(self) -> None:
        """Answer otherwise unless whoever asks may know.

        Raises
        ------
        LoginNeeded, TokenNeeded, TokenRefused, ScopeMissing, HubUnavailable, NotFound
        """
        member = self._viewers.identify_by_token(request.environ)
        if member is not None and not member.may_see_metrics:
            raise ScopeMissing(METRICS_SCOPE)
        member = member or self._viewers.identify(request.environ)
        if member is None and self._pages.may_log_in(request.environ):
            raise self._pages.ask_for_login(request.environ)
        if member is None:
            raise TokenNeeded
        if not member.may_see_metrics:
            abort(404)

    def _answer_status(self) -> Response:
        totals = self._metrics.totals()
        try:
            owned = self._metrics.registrations_by_owner()
        except RegistryError as error:
            raise RegistryUnavailable from error
        users = sorted(owned.items(), key=lambda owner: (-owner[1], owner[0]))
        looked_up = totals.cache_hits + totals.cache_misses
        ratio = totals.cache_hits / looked_up if looked_up else None
        if _wants_json():
            return jsonify(
                version=VERSION,
                requests=totals.requests,
                body_bytes=totals.body_bytes,
                cache={"hits": totals.cache_hits, "misses": totals.cache_misses, "ratio": ratio},
                registrations={
                    "total": sum(owned.values()),
                    "by_user": [{"user": user, "count": count} for user, count in users],
                },
            )
        page = render_template(
            "status.html",
            version=VERSION,
            totals=totals,
            ratio=ratio,
            registrations=sum(owned.values()),
            users=users[:MAX_ROWS],
            left_out=len(users[MAX_ROWS:]),
        )
        return Response(page, headers=list(STYLE_ONLY), content_type="text/html; charset=utf-8")


def _wants_json() -> bool:
    preferred = request.accept_mimetypes.best_match(["text/html", "application/json"])
    return request.args.get("format") == "json" or preferred == "application/json"


def _kept_to_its_site(response: Response) -> Response:
    response.headers.extend(SAME_ORIGIN)
    return response
