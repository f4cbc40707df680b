"""Register with the shared relay server of a JupyterHub, over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from random import random
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from hub.content.manifests import ManifestStore, Tree
from hub.content.transfer import send_tree
from hub.errors import (
    HubError,
    InvalidOption,
    LimitReached,
    NotSeenThere,
    ServiceRefused,
    ServiceUnreachable,
    UnusablePath,
)
from hub.locations import Location
from hub.object_urls import is_object_root
from hub.registrar import Claim, Registered
from hub.registration import Registration
from hub.settings import DEFAULT_ROUTE, normalise_base_url
from hub.views import View, see
from hub.wire import NOT_SEEN_THERE, claim_to_json, registration_from_json, view_to_json

#: Together they stay below 5 s, whatever does not answer.
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 2.5

#: The service checks a manifest as it comes, about a million files in some seconds, and answers at the end.
MANIFEST_SECONDS = 600.0

#: It reads the directory of an archive before it answers, of a million members in some seconds.
ARCHIVE_SECONDS = 60.0

#: It lists a prefix of an object store before it answers, 1,000 objects at a time.
LISTING_SECONDS = 900.0

#: How long the service may take nothing of an upload, or answer nothing: it may have to list what there is.
UPLOAD_SECONDS = 120.0

#: What the service answers whoever claims what was not uploaded.
NOT_UPLOADED = 409

#: How often a file is sent.
_ATTEMPTS = 8

#: How often a path is looked at that changes while it is registered, and how long what was written takes to be seen.
_LOOKS = 3
_LOOK_SECONDS = 0.2

#: What the service answers whoever claims a tree's content key before it has the manifest.
NEEDS_MANIFEST = 428


class Interruption:
    """Ends what several threads ask, wherever each of them waits."""

    def __init__(self) -> None:
        self._is_set = threading.Event()
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    def set(self) -> None:
        """End it."""
        with self._lock:
            self._is_set.set()
            for connection in self._connections:
                _shut_down(connection)

    def is_set(self) -> bool:
        """Whether it has been ended."""
        return self._is_set.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait, no longer than until it is ended; return whether it has been."""
        return self._is_set.wait(seconds)

    @contextmanager
    def ending(self, connection: socket.socket) -> Iterator[None]:
        """End a connection with the rest, as long as the block lasts."""
        with self._lock:
            self._connections.add(connection)
            if self._is_set.is_set():
                _shut_down(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)


class ServiceRegistrar:
    """Registers with the shared relay server, with the user's own token of the hub.

    Parameters
    ----------
    url : str
        Where the service is: ``http://HOST:PORT/services/NAME/``, or through the hub's proxy.
    token : str
        Of the user, as JupyterHub gives it to each server in ``JUPYTERHUB_API_TOKEN``.
    registry : path or DatabaseLocation
        The user's own, beside which the manifests are that were made here.

    Raises
    ------
    InvalidOption
        The URL is none, or there is no token.
    """

    def __init__(self, url: str, token: str, registry: Location) -> None:
        parts = _parse(url)
        if not token or not token.isascii() or not token.isprintable():
            raise InvalidOption(
                "service",
                url,
                "it takes the token that a JupyterHub gives to what it starts; JUPYTERHUB_API_TOKEN holds none",
            )
        self.url = url
        self._parts = parts
        self._token = token
        self._api = f"{normalise_base_url(parts.path)}{DEFAULT_ROUTE}/_api"
        self.location = registry
        self._store = ManifestStore(registry)
        self._static: Registration | None = None

    def register(self, claim: Claim) -> Registered:
        """Send what is claimed; of a tree's content key the manifest too, unless the service has it.

        Raises
        ------
        NotSeenThere
            The service sees nothing at the path, or something else.
        ServiceRefused, ServiceUnreachable, LimitReached, ManifestError
        """
        registration = claim.registration
        if claim.is_upload or registration.is_kept or is_object_root(registration.root):
            return self._register(claim, None)
        view = _look(registration.root)
        for _ in range(_LOOKS):
            try:
                return self._register(claim, view)
            except NotSeenThere:
                if view is None:
                    raise
                time.sleep(_LOOK_SECONDS)
                before, view = view, _look(registration.root, view.nonce)
                if view == before:
                    # It may have been another one when the service looked.
                    return self._register(claim, view)
        # What changes all the time looks the same from no two places.
        return self._register(claim, None)

    def _register(self, claim: Claim, view: View | None) -> Registered:
        registration = claim.registration
        told = {**claim_to_json(claim), **view_to_json(view)}
        tree = None
        if registration.content and registration.kind == "tree":
            tree = self._store.open(registration.content, registration.root)
            told["index"] = tree.index_checksum.hex()
        if claim.is_upload:
            told["upload"] = True
        seconds = ANSWER_SECONDS
        if claim.is_by_content:
            seconds = LISTING_SECONDS
        elif registration.kind == "archive" or claim.is_upload:  # It may have to list what was uploaded.
            seconds = ARCHIVE_SECONDS
        try:
            answer = self._ask("POST", "registrations", json.dumps(told).encode(), seconds)
        except ServiceRefused as error:
            if tree is None or error.status != NEEDS_MANIFEST:
                raise
            self._send_manifest(claim, tree)
            answer = self._ask("POST", "registrations", json.dumps(told).encode(), seconds)
        if claim.is_by_content and not answer.get("content"):
            raise self._misfit("it makes no content keys of objects")
        return self._registered(answer)

    def revoke(self, key: str) -> bool:
        """End a registration of the user's."""
        try:
            self._ask("DELETE", f"registrations?{urlencode({'key': key})}")
        except ServiceRefused as error:
            if error.status == http.client.NOT_FOUND:
                return False
            raise
        return True

    def registrations(self) -> list[tuple[Registration, str]]:
        """Return the user's registrations that the service has, with the URL of each."""
        answer = self._ask("GET", "registrations")
        try:
            return [(registration_from_json(told), str(told["url"])) for told in answer["registrations"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._misfit(repr(error)) from error

    def find(self, key: str) -> Registration | None:
        """Return one of the user's registrations, or what stands for the service's own static files."""
        if self._static is not None and self._static.key == key:
            return self._static
        for registration, _ in self.registrations():
            if registration.key == key and not registration.is_expired():
                return registration
        return None

    def static_files(self) -> Registered:
        """Return the service's own static files."""
        registered = self._registered(self._ask("GET", "static"))
        # Where they lie is the service's affair.
        self._static = Registration(registered.key, "tree", root=b"", visibility="public", trusted=True)
        return registered

    def _registered(self, answer: dict[str, Any]) -> Registered:
        key, url = answer.get("key"), answer.get("url")
        if not (isinstance(key, str) and isinstance(url, str)):
            raise self._misfit("it names no key and URL")
        return Registered(key, url)

    def _misfit(self, reason: str) -> ServiceUnreachable:
        return ServiceUnreachable(self.url, f"its version does not fit this one ({reason}); tell the administrator")

    def tell_uploads(self) -> dict[str, Any]:
        """Return whether uploads are taken (``takes``), and of how many bytes how many are used."""
        return self._ask("GET", "uploads", seconds=UPLOAD_SECONDS)

    def find_missing(self, digests: Sequence[bytes], *, anew: bool = False) -> list[bytes]:
        """Return of which hashes the service has no file that this user has uploaded; `anew`: it is to list them.

        Raises
        ------
        ServiceUnreachable, ServiceRefused
        """
        told = json.dumps({"hashes": [digest.hex() for digest in digests], "anew": anew}).encode()
        try:
            return [bytes.fromhex(text) for text in self._ask("POST", "uploads", told, UPLOAD_SECONDS)["missing"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._misfit(repr(error)) from error

    def send_file(
        self, digest: bytes, size_bytes: int, body: Callable[[], Iterator[bytes]], is_over: Interruption
    ) -> None:
        """Upload a file; try again, for about half a minute, where the service is busy or the connection breaks.

        Parameters
        ----------
        digest : bytes
            What it hashes to.
        size_bytes : int
        body : callable
            Returns what is sent, for each attempt anew.
        is_over : Interruption
            Nothing is tried any more once it is set.

        Raises
        ------
        ServiceUnreachable, ServiceRefused, LimitReached
        """
        for attempt in range(_ATTEMPTS):
            try:
                self._ask(
                    "PUT", f"uploads/{digest.hex()}", body(), UPLOAD_SECONDS, size_bytes=size_bytes, is_over=is_over
                )
            except ServiceUnreachable:
                # At random, so that those who were refused together do not come back together.
                seconds = min(8.0, 0.25 * 2**attempt) * (0.5 + random())  # noqa: S311  # No secret is made of it.
                if attempt == _ATTEMPTS - 1 or is_over.wait(seconds):
                    raise
            else:
                return

    def _send_manifest(self, claim: Claim, tree: Tree) -> None:
        registration = claim.registration
        query = urlencode({"upload": "1"} if claim.is_upload else {"root": quote(registration.root)})
        self._ask("PUT", f"manifests/{registration.content}?{query}", send_tree(tree), MANIFEST_SECONDS)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        seconds: float = ANSWER_SECONDS,
        *,
        size_bytes: int | None = None,
        is_over: Interruption | None = None,
    ) -> dict[str, Any]:
        """Return what the service answers; a body of which the size is known may take longer than `seconds`.

        Raises
        ------
        ServiceUnreachable, ServiceRefused, LimitReached
        """
        headers = {"Authorization": f"token {self._token}", "Accept": "application/json"}
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        is_chunked = not isinstance(body, bytes) and size_bytes is None
        if size_bytes is not None:
            headers["Content-Length"] = str(size_bytes)
        try:
            with ExitStack() as stack:
                connection = stack.enter_context(closing(self._connect(seconds)))
                if size_bytes is None:
                    stack.enter_context(_ended_after(seconds, connection.sock))
                if is_over is not None:
                    stack.enter_context(is_over.ending(connection.sock))
                with suppress(BrokenPipeError, ConnectionResetError):  # It may have answered before it has read all.
                    connection.request(method, f"{self._api}/{path}", body, headers, encode_chunked=is_chunked)
                answer = connection.getresponse()
                status, text = answer.status, answer.read()
        except HubError:  # Of the body; some are errors of the system too.
            raise
        except (OSError, http.client.HTTPException) as error:
            raise ServiceUnreachable(
                self.url, f"it does not answer ({str(error) or type(error).__name__}); try again later"
            ) from error
        return _understand(self.url, status, text)

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        kind: Any = http.client.HTTPConnection
        options: dict[str, Any] = {"timeout": CONNECT_SECONDS}
        if self._parts.scheme == "https":
            kind, options["context"] = http.client.HTTPSConnection, ssl.create_default_context()
        connection: http.client.HTTPConnection = kind(self._parts.hostname, self._parts.port, **options)
        connection.connect()
        assert isinstance(connection.sock, socket.socket)
        connection.sock.settimeout(seconds)
        return connection


def _look(path: bytes, nonce: bytes = b"") -> View | None:
    """Return the view of a path.

    Raises
    ------
    UnusablePath
        Its disk fails.
    """
    try:
        return see(path, nonce)
    except OSError as error:
        raise UnusablePath(os.fsdecode(path), error.strerror or str(error)) from error


def _shut_down(connection: socket.socket) -> None:
    """Let whoever waits for a connection, in another thread, wait no more."""
    with suppress(OSError):  # It has ended already.
        # That of TLS would first forget that it is one.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


@contextmanager
def _ended_after(seconds: float, connection: socket.socket) -> Iterator[None]:
    """End a connection that has not done after some seconds, however much it goes on sending.

    Raises
    ------
    TimeoutError
    """
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        _shut_down(connection)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if is_late.is_set():
            raise TimeoutError("timed out") from error
        raise
    finally:
        timer.cancel()


def _parse(url: str) -> SplitResult:
    with suppress(ValueError):  # The port, or an address, is none.
        parts = urlsplit(url)
        if (
            parts.scheme in ("http", "https")
            and parts.hostname
            and not (parts.query or parts.fragment or parts.port == 0)
        ):
            return parts
    raise InvalidOption("service", url, "write http://HOST:PORT/services/NAME/ (KDR_SERVICE_URL)")


def _understand(url: str, status: int, text: bytes) -> dict[str, Any]:
    """Return what an answer holds; raise what it tells of."""
    try:
        told = json.loads(text) if text else {}
        if not isinstance(told, dict):
            raise TypeError
    except (ValueError, TypeError, RecursionError):
        told = None
    if (
        told is None
        or http.client.MULTIPLE_CHOICES <= status < http.client.BAD_REQUEST
        or (status >= http.client.BAD_REQUEST and "error" not in told)
    ):
        # A proxy answers for what it does not reach, and a hub leads to its login.
        raise ServiceUnreachable(
            url, f"something else answers there (status {status}); tell the administrator, or correct the address"
        )
    if status == http.client.SERVICE_UNAVAILABLE:
        raise ServiceUnreachable(url, str(told["error"]).rstrip("."))
    if status == http.client.TOO_MANY_REQUESTS:
        raise LimitReached(str(told["error"]))
    if told.get("reason") == NOT_SEEN_THERE:
        raise NotSeenThere(status, str(told["error"]))
    if status >= http.client.BAD_REQUEST:
        raise ServiceRefused(status, str(told["error"]))
    return told
