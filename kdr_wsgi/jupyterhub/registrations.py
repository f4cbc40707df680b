"""What programs ask of the service: register, list and revoke, with a token of the hub."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hmac import compare_digest
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Blueprint, Response, jsonify, request

from hub.client import STATIC_DIRECTORY
from hub.content.manifests import ManifestStore
from hub.content.signatures import SIGNATURE_BYTES
from hub.errors import HubError, InvalidKey, InvalidOption, LimitReached, ManifestError, NotSeenThere, RegistryError
from hub.keys import check_chosen_key, content_key, path_key
from hub.object_urls import is_object_root
from hub.registrar import Claim
from hub.registration import Registration
from hub.registries import registry_at
from hub.secret import read_secret
from hub.service import NEEDS_MANIFEST, NOT_UPLOADED
from hub.version import VERSION
from hub.views import View, see_open
from hub.wire import NOT_SEEN_THERE, claim_from_json, registration_to_json, view_from_json
from kdr_wsgi import beneath
from kdr_wsgi.archives import ArchiveIndexes
from kdr_wsgi.errors import NoSuchEntry, NotReadable, RelayError, StoreBusy, TokenNeeded, UnusableArchive
from kdr_wsgi.jupyterhub.manifests import ManifestNeeded, ReceivedManifests
from kdr_wsgi.jupyterhub.owned_keys import is_key_of, owned_key
from kdr_wsgi.jupyterhub.response_headers import check_service_headers
from kdr_wsgi.jupyterhub.uploads import NotUploaded, ReceivedUploads
from kdr_wsgi.jupyterhub.viewers import HubViewers
from kdr_wsgi.objects.hashing import StoredObjects, with_content
from kdr_wsgi.objects.stores import Stores
from kdr_wsgi.objects.uploads import UploadStore
from kdr_wsgi.rehashing import Rehasher
from kdr_wsgi.settings import ServiceSettings, Settings
from kdr_wsgi.versions import read_version

_log = logging.getLogger(__name__)

#: The service's own static files; keys of users have a tilde.
STATIC_KEY = f"pywwt_static{VERSION}"

_STATIC_FILES = Registration(STATIC_KEY, "tree", bytes(STATIC_DIRECTORY.resolve()), visibility="public", trusted=True)

#: More than any claim takes: a path, a name and headers, each quoted.
MAX_CLAIM_BYTES = 128 * 1024

_CHUNK_BYTES = 1 << 20

#: Prefixes of stores that a worker lists for content keys at a time; each holds a thread, for minutes if it is large.
CONCURRENT_LISTINGS = 2

_HASH = re.compile(r"[0-9a-f]{64}")

#: Of a path that somebody else writes into the log.
_LOGGED_BYTES = 500


class PathRefused(HubError):
    """A user may not publish a path, or the service cannot."""

    def __init__(self, path: bytes, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the shared relay server cannot serve {path.decode('utf-8', 'backslashreplace')!r}: {reason}")


class MissingThere(PathRefused):
    """The service sees nothing at a path."""


class Registrations:
    """The registry of a service, which the service alone writes.

    Parameters
    ----------
    settings : Settings
    service : ServiceSettings
    viewers : HubViewers

    Raises
    ------
    RegistryError
    """

    def __init__(self, settings: Settings, service: ServiceSettings, viewers: HubViewers) -> None:
        self._service = service
        self._viewers = viewers
        self._stores = settings.stores
        # Apart from those of readers, who wait for no listing.
        self._object_stores = Stores()
        self._listings = threading.BoundedSemaphore(CONCURRENT_LISTINGS)
        self._registry = registry_at(settings.registry)
        self._archives = ArchiveIndexes(
            settings.registry, Rehasher(service.max_hashing_bytes), service.max_manifest_bytes
        )
        self._manifests = ReceivedManifests(self._registry, service.max_manifest_bytes)
        self._uploads = (
            ReceivedUploads(UploadStore(service.uploads), service.max_upload_bytes) if service.uploads else None
        )
        self._prefix = f"{service.host}{settings.base_url}{settings.route}/"
        self._registry.claim(_STATIC_FILES)
        # Before a fork, so that two workers do not make it at once.
        self._secret = read_secret(settings.registry)
        self._registry.close()

    def blueprint(self, route: str) -> Blueprint:
        """Return what answers below ``_api``."""
        api = Blueprint("api", __name__, url_prefix=f"/{route}/_api")
        api.add_url_rule("/registrations", "register", self.register, methods=["POST"])
        api.add_url_rule("/registrations", "list", self.list, methods=["GET"])
        api.add_url_rule("/registrations", "revoke", self.revoke, methods=["DELETE"])
        api.add_url_rule("/manifests/<content>", "manifest", self.receive_manifest, methods=["PUT"])
        api.add_url_rule("/uploads", "uploads", self.tell_uploads, methods=["GET"])
        api.add_url_rule("/uploads", "missing", self.find_missing, methods=["POST"])
        api.add_url_rule("/uploads/<content>", "upload", self.receive_upload, methods=["PUT"])
        api.add_url_rule("/static", "static", self.static, methods=["GET"])
        api.register_error_handler(HubError, _explain)
        api.register_error_handler(RelayError, _explain_relay_error)
        return api

    def register(self) -> tuple[Response, int]:
        """Store what a user claims, under a key of that user's."""
        owner = self._identify()
        claim, told = _read_claim()
        registration = self._check(owner, claim, told)
        self._registry.claim(registration, self._service.max_registrations)
        _log.info("%r registered %r: %r", owner, registration.key, registration.root)
        (told,) = self._tell(owner, [registration])
        return jsonify(told), 201

    def list(self) -> Response:
        """Tell a user what is registered."""
        owner = self._identify()
        return jsonify(registrations=self._tell(owner, self._registry.registrations_of(owner)))

    def revoke(self) -> tuple[Response, int]:
        """End a registration of the user's, who asks with a token, or by the page of the service's own."""
        member = self._viewers.identify_to_change(request.environ)
        if member is None or not member.name:
            raise TokenNeeded
        owner = member.name
        key = request.args.get("key", "")
        if self._registry.revoke(key if is_key_of(owner, key) else owned_key(owner, key)):
            return jsonify({}), 200
        _log.warning("refused: %r may not revoke %r", owner, key[:_LOGGED_BYTES])
        return jsonify(error=f"you have no registration with the key {key!r}"), 404

    def static(self) -> Response:
        """Tell of the service's own static files."""
        self._identify()
        if self._registry.find(STATIC_KEY) is None:  # It is another registry than at the start.
            self._registry.claim(_STATIC_FILES)
        return jsonify(key=STATIC_KEY, url=f"{self._prefix}{STATIC_KEY}/")

    def receive_manifest(self, content: str) -> tuple[Response, int]:
        """Store what a user tells of a tree."""
        owner = self._identify()
        if request.args.get("upload"):
            root = self._take_uploads().root_of(owner)
        else:
            told = unquote_to_bytes(request.args.get("root", ""))
            if is_object_root(told):
                raise InvalidOption("root", told, "what is in an object store is hashed here")
            root = self._locate(owner, told)
            os.close(_open(root, Registration("", "tree", told)))
        self._manifests.receive(owner, root, content, _body())
        return jsonify({}), 200

    def tell_uploads(self) -> Response:
        """Tell a user whether uploads are taken, and how much more of them."""
        owner = self._identify()
        if self._uploads is None:
            return jsonify(takes=False)
        return jsonify(takes=True, used_bytes=self._uploads.used_bytes(owner), max_bytes=self._uploads.max_bytes)

    def find_missing(self) -> Response:
        """Tell a user of which hashes no file was uploaded."""
        owner = self._identify()
        uploads = self._take_uploads()
        told = _read_hashes()
        digests = [_check_digest(each) for each in told["hashes"]]
        missing = uploads.missing(owner, digests, anew=told.get("anew") is True)
        return jsonify(missing=[digest.hex() for digest in missing])

    def receive_upload(self, content: str) -> tuple[Response, int]:
        """Keep a file that a user sends."""
        owner = self._identify()
        uploads = self._take_uploads()
        digest, size_bytes = _check_digest(content), request.content_length
        if size_bytes is None:
            raise InvalidOption("upload", content, "its Content-Length is missing")
        uploads.receive(owner, digest, size_bytes, _body("upload"))
        _log.info("%r uploaded %s: %d bytes", owner, content, size_bytes)
        return jsonify({}), 201

    def _take_uploads(self) -> ReceivedUploads:
        if self._uploads is None:
            raise InvalidOption(
                "upload",
                True,
                "this service has no store for uploads; ask the administrator (KDR_UPLOADS), or move the data to a "
                "folder that it sees",
            )
        return self._uploads

    def _identify(self) -> str:
        """Return the name of the user whose token the request has.

        Raises
        ------
        TokenNeeded, TokenRefused, ScopeMissing, HubUnavailable
        """
        member = self._viewers.identify_by_token(request.environ)
        if member is None or not member.name or member.is_browser:
            raise TokenNeeded
        return member.name

    def _check(self, owner: str, claim: Claim, told: Mapping[str, Any]) -> Registration:
        """Return what is to be stored of a claim, which was read from what is `told`.

        Raises
        ------
        InvalidOption, InvalidKey, PathRefused, NotSeenThere, ManifestNeeded
        """
        registration = claim.registration
        check_service_headers(registration)
        if registration.trusted and not self._service.has_safe_host:
            _log.warning("refused: %r wants trust for %r", owner, registration.root[:_LOGGED_BYTES])
            raise InvalidOption(
                "trusted",
                True,
                "all users' pages share one host here; publish through your own Jupyter server with "
                "JupyterRelayHub(service=''), or ask the administrator for subdomains with TLS "
                "(JupyterHub.subdomain_host)",
            )
        is_upload = bool(told.get("upload"))
        if is_upload:
            # Whatever the claim says: the user's own folder.
            root = self._take_uploads().root_of(owner)
            registration = replace(registration, root=root, is_kept=True)
            if not registration.content or registration.kind == "archive":
                raise InvalidOption("upload", True, "it takes a content key")
            return self._finish(owner, claim, replace(registration, key=self._check_content(owner, registration, told)))
        root = self._locate(owner, registration.root)
        if is_object_root(root) and (registration.content or registration.kind == "archive"):
            raise InvalidOption(
                "root", registration.root, "of an object store there are files and trees, whose hashes are made here"
            )
        try:
            # Behind the check of the roots: it tells of nothing that its owner might not publish, and so read.
            self._check_seen(root, registration, view_from_json(told))
        except (PathRefused, NotSeenThere) as error:
            _log.warning("refused: %r: %s", owner, str(error)[:_LOGGED_BYTES])
            raise
        if claim.is_by_content:
            return self._finish(owner, claim, self._hash_objects(owner, registration))
        if registration.content:
            key = self._check_content(owner, replace(registration, root=root), told)
        elif registration.key:
            key = check_chosen_key(registration.key)
        else:
            key = path_key(f"{owner}\0".encode() + claim.place, claim.key_ending, self._secret)
        if registration.kind == "archive":
            self._index(owner, root, registration)
        return self._finish(owner, claim, replace(registration, key=key, root=root))

    def _check_content(self, owner: str, registration: Registration, told: Mapping[str, Any]) -> str:
        """Return the content key that is claimed, once the manifest is here, and what was to be uploaded.

        Raises
        ------
        InvalidOption, ManifestNeeded, NotUploaded
        """
        if registration.kind == "tree":
            self._manifests.check(owner, registration.root, registration.content, told.get("index"))
        elif len(registration.signature) != SIGNATURE_BYTES:
            raise InvalidOption("signature", registration.signature, "a file's content key takes one")
        if told.get("upload"):
            uploads = self._take_uploads()
            if registration.kind == "tree":
                store = ManifestStore(self._registry.location, owner)
                uploads.check_tree(owner, store.open(registration.content, registration.root))
            else:
                uploads.check_file(owner, registration.content, registration.signature)
        return content_key(registration.content, registration.variant)

    def _finish(self, owner: str, claim: Claim, registration: Registration) -> Registration:
        now = time.time()
        return replace(
            registration,
            key=owned_key(owner, registration.key),
            owner=owner,
            claimed_at=now,
            expires_at=None if claim.ttl is None else now + claim.ttl,
        )

    def _check_seen(self, root: bytes, registration: Registration, view: View | None) -> None:
        """Raise unless the service could serve what is claimed, and sees there what the kernel sees.

        Raises
        ------
        PathRefused, NotSeenThere
        """
        if is_object_root(root):
            return
        try:
            descriptor = _open(root, registration)
        except MissingThere as error:
            if view is None:
                raise
            raise self._not_seen(registration, error.reason) from None
        try:
            is_same = view is None or compare_digest(see_open(descriptor, view.nonce), view.digest)
        except OSError as error:
            raise PathRefused(registration.root, f"it cannot be read ({error.strerror}); try again later") from None
        finally:
            os.close(descriptor)
        if not is_same:
            what = "file" if registration.kind != "tree" else "folder"
            raise self._not_seen(registration, f"where it runs, another {what} is at this path")

    def _not_seen(self, registration: Registration, reason: str) -> NotSeenThere:
        upload = "publish with upload=True (kdr publish --upload), which sends it to a store of the service, or "
        remedy = (
            f"{upload if self._uploads is not None and registration.kind != 'archive' else ''}"
            "move it to a folder that your kernel and the relay server both see, or ask the administrator "
            "(KDR_ROOTS can say SEEN_AS=FOLDER)"
        )
        return NotSeenThere(403, f"{PathRefused(registration.root, reason)}; {remedy}")

    def _index(self, owner: str, root: bytes, registration: Registration) -> None:
        """See to it that there is an index of an archive, made here: no user's word is taken for what is in it.

        Raises
        ------
        InvalidOption, PathRefused, LimitReached, RelayError
        """
        if registration.content:
            raise InvalidOption("content", registration.content, "no content key can be made of an archive's members")
        self._manifests.make_room(owner)
        descriptor = beneath.open_root_file(root)
        try:
            self._archives.find(owner, root, descriptor, read_version(descriptor))
        except UnusableArchive as error:
            raise PathRefused(registration.root, f"as a zip archive it cannot be used: {error.reason}") from None
        finally:
            os.close(descriptor)

    def _hash_objects(self, owner: str, registration: Registration) -> Registration:
        """Return a registration of an object store with a content key.

        Raises
        ------
        PathRefused, StoreFailing, LimitReached, ManifestError
        """
        place = self._stores.find(registration.root, owner)
        assert place is not None  # It was located.
        objects = StoredObjects.at(place, self._object_stores)
        if not self._listings.acquire(blocking=False):
            raise StoreBusy(
                f"{CONCURRENT_LISTINGS} prefixes are being listed for content keys, as many as a worker does"
            )
        try:
            if registration.kind == "file":
                return objects.hash_object(registration)
            return with_content(registration, self._manifests.store(owner, registration.root, objects.columns()))
        except NoSuchEntry:
            raise MissingThere(registration.root, "nothing is there") from None
        finally:
            self._listings.release()

    def _locate(self, owner: str, path: bytes) -> bytes:
        if is_object_root(path):
            return self._locate_object(owner, path)
        root = self._service.roots.locate(owner, path)
        if root is None:
            _log.warning("refused: %r may not publish %r", owner, path[:_LOGGED_BYTES])
            folders = ", ".join(map(os.fsdecode, self._service.roots.seen_by(owner))) or "none"
            raise PathRefused(path, f"what you may publish here lies in these folders: {folders}")
        return root

    def _locate_object(self, owner: str, root: bytes) -> bytes:
        if self._stores.find(root, owner) is None:
            _log.warning("refused: %r may not publish %r", owner, root[:_LOGGED_BYTES])
            prefixes = ", ".join(self._stores.seen_by(owner)) or "none"
            raise PathRefused(root, f"what you may publish here of object stores lies below these prefixes: {prefixes}")
        return root

    def _tell(self, owner: str, registrations: Sequence[Registration]) -> Sequence[dict[str, Any]]:
        roots = self._service.roots.as_seen(owner, [registration.root for registration in registrations])
        return [
            {**registration_to_json(replace(registration, root=root)), "url": self._prefix + registration.target}
            for registration, root in zip(registrations, roots, strict=True)
        ]


def _open(root: bytes, registration: Registration) -> int:
    """Return what is claimed, open; raise PathRefused if the service could not serve it."""
    is_folder = registration.kind == "tree" or registration.is_kept
    try:
        return beneath.open_directory(root, []) if is_folder else beneath.open_root_file(root)
    except NotReadable:
        raise PathRefused(
            registration.root, "the user that it runs as has no permission to read that; ask the administrator"
        ) from None
    except NoSuchEntry:
        raise MissingThere(
            registration.root,
            f"there is no such {'folder' if is_folder else 'file'} where it runs, or a link leads there",
        ) from None


def _read_claim() -> tuple[Claim, Mapping[str, Any]]:
    """Return what the request claims, and all that it tells.

    Raises
    ------
    InvalidOption
    """
    told = _read_json("claim")
    return claim_from_json(told), told


def _read_hashes() -> Mapping[str, Any]:
    """Return what the request asks of.

    Raises
    ------
    InvalidOption
    """
    told = _read_json("hashes")
    if not isinstance(told.get("hashes"), list):
        raise InvalidOption("hashes", None, "there is no list of them")
    return told


def _read_json(what: str) -> dict[str, Any]:
    """Return the JSON object that the request has as its body.

    Raises
    ------
    InvalidOption
    """
    length = request.content_length
    if length is None or length > MAX_CLAIM_BYTES:
        raise InvalidOption(what, length, f"its JSON may have {MAX_CLAIM_BYTES:,} bytes")
    try:
        told = json.loads(request.get_data())
    except (ValueError, RecursionError) as error:
        raise InvalidOption(what, None, f"it is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise InvalidOption(what, None, "it is no JSON object")
    return told


def _check_digest(told: object) -> bytes:
    if not isinstance(told, str) or not _HASH.fullmatch(told):
        raise InvalidOption("hash", told, "it is no BLAKE3 hash in hexadecimal")
    return bytes.fromhex(told)


def _body(what: str = "manifest") -> Iterator[bytes]:
    try:
        while chunk := request.stream.read(_CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise InvalidOption(what, "", "it has not come to its end") from error


_STATUS: tuple[tuple[type[HubError], int], ...] = (
    (LimitReached, 429),
    (ManifestNeeded, NEEDS_MANIFEST),
    (PathRefused, 403),
    (NotSeenThere, 403),
    (NotUploaded, NOT_UPLOADED),
    (InvalidOption, 400),
    (InvalidKey, 400),
    (ManifestError, 507),
    (RegistryError, 503),
)


def _explain(error: HubError) -> tuple[Response, int]:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status >= 500:
        _log.error("%s", error)
    # The service's own paths are for its log.
    sentence = str(error) if status < 500 else "the service cannot store this now; ask the administrator"
    reason = {"reason": NOT_SEEN_THERE} if isinstance(error, NotSeenThere) else {}
    return jsonify(error=sentence, **reason), status


def _explain_relay_error(error: RelayError) -> tuple[Response, int, list[tuple[str, str]]]:
    return jsonify(error=str(error)), int(error.status[:3]), list(error.headers)
