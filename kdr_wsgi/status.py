"""The page that shows their owner what is registered, and what is read of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Flask, Response, jsonify, render_template, request

from hub.errors import RegistryError
from hub.previews import find_any_preview, preview_url
from hub.registration import Registration
from hub.registries import registry_at
from hub.version import VERSION
from kdr_wsgi.contents import Contents
from kdr_wsgi.errors import (
    ManifestUnavailable,
    NoSuchEntry,
    NotReadable,
    NotRevokedHere,
    RegistryUnavailable,
    StorageFailing,
    TooManyOpenFiles,
    UnknownKey,
)
from kdr_wsgi.headers import SAME_ORIGIN
from kdr_wsgi.locations import location_finder
from kdr_wsgi.overview import Overview, Published, SizeUnknown, look_over, measure, tell
from kdr_wsgi.pages import template_policy
from kdr_wsgi.settings import Settings
from kdr_wsgi.viewers import LocalViewers

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

#: A page that has more rows before its script runs helps nobody; the JSON has them all.
MAX_ROWS = 1000

_UNKNOWN = "\N{EN DASH}"

_TEMPLATE = "status.html"

_POLICY = template_policy(Path(__file__).with_name("templates").joinpath(_TEMPLATE).read_text("utf-8"))

#: What tells of files and their paths stays in no cache.
_PRIVATE = (("Cache-Control", "no-store"), *SAME_ORIGIN)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page, for who looks at it without its script."""

    href: str
    name: str
    key: str
    path: str
    facts: str
    readers: str
    ends: str
    hits: str
    body_bytes: str
    last_access: str


class OwnStatusPages:
    """Answers ``_status`` of one user's own server, and ends registrations.

    Parameters
    ----------
    settings : Settings
    viewers : LocalViewers
    contents : Contents
    """

    def __init__(self, settings: Settings, viewers: LocalViewers, contents: Contents) -> None:
        self._route = settings.route
        self._viewers = viewers
        self._contents = contents
        self._registry = registry_at(settings.registry)
        self._find_location = location_finder(settings.proxies)

    def install(self, app: Flask) -> None:
        """Let an application answer below ``_status``, and one request below ``_api``."""
        app.add_url_rule(f"/{self._route}/_status", "status", self.show, methods=["GET"])
        app.add_url_rule(f"/{self._route}/_status/size", "size", self.tell_size, methods=["GET"])
        app.add_url_rule(f"/{self._route}/_api/registrations", "revoke", self.revoke, methods=["DELETE"])

    def show(self) -> Response:
        """Show the owner all registrations."""
        self._check_owner()
        registrations = ask_registry(self._registry.registrations)
        overview = look_over(registrations, self._registry.location)
        return answer_overview(overview, self._prefix(), may_revoke=self._viewers.may_change(request.environ))

    def tell_size(self) -> Response:
        """Tell the owner how much a registration has."""
        self._check_owner()
        key = request.args.get("key", "")
        return answer_size(ask_registry(lambda: self._registry.find(key)), self._contents, self._prefix())

    def revoke(self) -> Response:
        """End a registration."""
        self._check_owner()
        if not self._viewers.may_change(request.environ):
            raise NotRevokedHere
        key = request.args.get("key", "")
        if not ask_registry(lambda: self._registry.revoke(key)):
            raise UnknownKey
        _log.info("revoked %r", key)
        return jsonify({})

    def _prefix(self) -> str:
        """Return what stands before a key in a partial URL."""
        return f"{urlsplit(self._find_location(request.environ)).path}/{self._route}/"

    def _check_owner(self) -> None:
        """Raise UnknownKey unless the owner asks: for all others nothing is here."""
        if not self._viewers.is_owner(request.environ):
            raise UnknownKey


def answer_overview(
    overview: Overview, prefix: str, *, may_revoke: bool, service: dict[str, Any] | None = None
) -> Response:
    """Return the page, or the same as JSON.

    Parameters
    ----------
    overview : Overview
    prefix : str
        What stands before a key in a partial URL.
    may_revoke : bool
    service : dict, optional
        For an administrator: what the whole service has done.
    """
    if wants_json():
        told: dict[str, Any] = {
            "version": VERSION,
            "now": datetime.now(timezone.utc).timestamp(),
            "may_revoke": may_revoke,
            "trouble": overview.trouble or None,
            "registrations": [
                tell(published, prefix + published.registration.target) for published in overview.published
            ],
        }
        return with_headers(jsonify(told if service is None else {**told, "service": service}))
    latest_first = sorted(overview.published, key=lambda each: each.registration.claimed_at or 0.0, reverse=True)
    page = render_template(
        _TEMPLATE,
        version=VERSION,
        rows=[_row(published) for published in latest_first[:MAX_ROWS]],
        left_out=len(latest_first[MAX_ROWS:]),
        trouble=overview.trouble,
        service=service,
        max_rows=MAX_ROWS,
    )
    return with_headers(Response(page, headers=[_POLICY], content_type="text/html; charset=utf-8"))


def answer_size(registration: Registration | None, contents: Contents, prefix: str) -> Response:
    """Return as JSON how much a registration has, or why that cannot be told, and the address of what shows it.

    Raises
    ------
    UnknownKey
    """
    if registration is None:
        raise UnknownKey
    measured = problem = None
    try:
        measured = measure(registration, contents)
    except (StorageFailing, ManifestUnavailable) as error:
        _log.error("%s", error.reason)
        problem = error.sentence
    except (NoSuchEntry, NotReadable, SizeUnknown, TooManyOpenFiles) as error:
        problem = error.sentence
    preview = measured and find_any_preview(registration, measured.names)
    return with_headers(
        jsonify(
            size_bytes=measured and measured.size_bytes,
            files=measured and measured.files,
            is_more=measured and not measured.is_all,
            problem=problem,
            preview=preview and preview_url(preview, registration.key, registration.name, before=prefix),
        )
    )


def with_headers(response: Response) -> Response:
    """Return an answer that no cache keeps and no page of another site embeds."""
    for name, value in _PRIVATE:
        response.headers[name] = value
    return response


def wants_json() -> bool:
    """Whether a program asks."""
    preferred = request.accept_mimetypes.best_match(["text/html", "application/json"])
    return request.args.get("format") == "json" or preferred == "application/json"


def ask_registry(ask: Callable[[], _Answer]) -> _Answer:
    """Return what a registry answers.

    Raises
    ------
    RegistryUnavailable
    """
    try:
        return ask()
    except RegistryError as error:
        _log.error("%s", error)
        raise RegistryUnavailable from error


def _row(published: Published) -> Row:
    registration, usage = published.registration, published.usage
    path = registration.root.decode("utf-8", "replace")
    facts = [
        registration.kind,
        *(["missing on disk"] if published.is_missing else []),
        *(["trusted"] if registration.trusted else []),
        *(["snapshot" if registration.is_kept else "content key"] if registration.content else []),
    ]
    return Row(
        # "./" keeps a colon in the key from making a scheme of what stands before it (RFC 3986, 4.2).
        href="" if registration.is_expired() else f"./{registration.target}",
        name=registration.name.decode("utf-8", "replace") or f"{os.path.basename(path)}/",
        key=registration.key,
        path=path,
        facts=", ".join(facts),
        readers=", ".join(registration.audience) or registration.visibility,
        ends=_moment(registration.expires_at) or "when revoked",
        hits=_UNKNOWN if usage is None else f"{usage.hits:,}",
        body_bytes=_UNKNOWN if usage is None else f"{usage.body_bytes:,}",
        last_access=_UNKNOWN if usage is None else _moment(usage.last_at) or "never",
    )


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return ""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError):  # A time to live may reach beyond the years that a datetime has.
        return "in more than 7,000 years"
