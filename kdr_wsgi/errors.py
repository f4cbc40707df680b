"""Why a request gets no file: each error knows its HTTP status, its sentence and its headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class RelayError(Exception):
    """Base class; its sentence and headers go to the client, so they never hold a path of this machine."""

    status: ClassVar[str]
    sentence: ClassVar[str]
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.sentence


class LoginNeeded(RelayError):
    """A browser is sent to the login of the hub (RFC 6749, 4.1.1)."""

    status = "302 Found"
    sentence = "Log in to the hub first."

    def __init__(self, url: str, cookies: Sequence[str]) -> None:
        self.url = url
        self.headers = (("Location", url), *(("Set-Cookie", cookie) for cookie in cookies))


class MalformedTarget(RelayError):
    """The request's path can name no file."""

    status = "400 Bad Request"
    sentence = "The path of this URL is malformed."


class MalformedHost(RelayError):
    """The Host of the request, or what a proxy in front says of it, is none (RFC 9112, 3.2)."""

    status = "400 Bad Request"
    sentence = "The Host, or an X-Forwarded header, of this request is malformed."


class MisdirectedRequest(RelayError):
    """The Host of the request is no name of this server (RFC 9110, 15.5.20)."""

    status = "421 Misdirected Request"
    sentence = (
        "This server does not know the name by which it was asked; whoever runs it adds the name to KDR_HOSTS, "
        "or uses localhost or the machine's address."
    )


class LoginFailed(RelayError):
    """What comes from the login of the hub belongs to no login that was begun here."""

    status = "400 Bad Request"
    sentence = (
        "This login was not begun in this browser, has taken too long, or the browser refuses cookies; "
        "open the address of the file again."
    )


class LoginRefused(RelayError):
    """The hub has not given a token for the code of a login; the log says why."""

    status = "502 Bad Gateway"
    sentence = (
        "The hub has not completed this login; open the address of the file again, and if that does not help, "
        "ask the hub's administrator: the log of this service says why."
    )


class TokenRefused(RelayError):
    """The request has a token that the hub does not know (RFC 9110, 15.5.2)."""

    status = "401 Unauthorized"
    sentence = (
        "The hub does not know this token: it has expired, or was revoked; restart your server in the hub's control "
        "panel, or make a new token there."
    )
    headers = (("WWW-Authenticate", "token"),)


class TokenNeeded(RelayError):
    """Only programs may ask this, with a token in a header, which no page can make a browser send."""

    status = "401 Unauthorized"
    sentence = "This takes a token of the hub: send Authorization: token $JUPYTERHUB_API_TOKEN."
    headers = (("WWW-Authenticate", "token"),)


class ScopeMissing(RelayError):
    """The token is good, and has not the scope that this takes."""

    status = "403 Forbidden"

    def __init__(self, scope: str) -> None:
        self.scope = scope
        super().__init__(scope)

    def __str__(self) -> str:
        return (
            f"This token lacks the scope {self.scope}, which the hub's administrator gives in jupyterhub_config.py; "
            "servers that run since before that must be restarted."
        )


class NotReadable(RelayError):
    """The file exists and the relay server has no permission to read it."""

    status = "403 Forbidden"
    sentence = "The relay server has no permission to read this file."


class UnknownKey(RelayError):
    """No registration that this viewer may know of has the key."""

    status = "404 Not Found"
    sentence = "Nothing is published under this key."


class NoSuchEntry(RelayError):
    """The registration's root holds no such regular file."""

    status = "404 Not Found"
    sentence = "What is published under this key has no such file."


class ContentChanged(RelayError):
    """A content key's file is not any more what the key promises (RFC 9110, 15.5.11)."""

    status = "410 Gone"
    sentence = (
        "This file was changed or removed after it was published under the hash of its content; "
        "publish it again, with serve_file or serve_tree and content=True, for a URL of what it is now."
    )


class MethodNotAllowed(RelayError):
    """The request's method is none of those that read (RFC 9110, 15.5.6)."""

    status = "405 Method Not Allowed"
    sentence = "Files are only read here: use GET or HEAD."
    headers = (("Allow", "GET, HEAD, OPTIONS"),)


class NotRevokedHere(RelayError):
    """Whoever connects counts as the owner, to read and not to change anything."""

    status = "403 Forbidden"
    sentence = "Whoever reaches this address may read as the owner, and end nothing; in a terminal run: kdr revoke KEY"


class PreconditionFailed(RelayError):
    """If-Match or If-Unmodified-Since is false (RFC 9110, 15.5.13)."""

    status = "412 Precondition Failed"
    sentence = "The file is not in the state that the request asks for."


class RangeNotSatisfiable(RelayError):
    """No range of the request lies within the file (RFC 9110, 15.5.17)."""

    status = "416 Range Not Satisfiable"

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.headers = (("Content-Range", f"bytes */{size_bytes}"),)

    def __str__(self) -> str:
        return f"None of the ranges lies within the file's {self.size_bytes} bytes."


class UnusableWTML(RelayError):
    """No WTML with absolute URLs can be made from the relative one that is there."""

    status = "422 Unprocessable Content"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"The relative WTML that this file is made from cannot be used: {self.reason}."


class UnusableArchive(RelayError):
    """The members of an archive cannot be served."""

    status = "422 Unprocessable Content"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"The zip archive that this file is to be in cannot be used: {self.reason}."


class UnusableMember(RelayError):
    """A member of an archive cannot be served."""

    status = "422 Unprocessable Content"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"This member of a zip archive cannot be served: {self.reason}."


class InternalError(RelayError):
    """A fault of the relay server; the log has what happened."""

    status = "500 Internal Server Error"
    sentence = "The relay server failed on this request; its log says why."


class WTMLNotInstalled(RelayError):
    """What makes WTML with absolute URLs is an extra of this package."""

    status = "501 Not Implemented"
    sentence = (
        "This file is made from the relative WTML beside it by wwt_data_formats, which the relay server lacks; "
        "where the relay server runs: pip install 'kdr-wsgi[wwt]'."
    )


class FileBeingChanged(RelayError):
    """The file changed each time that it was read."""

    status = "503 Service Unavailable"
    sentence = "The file is being changed; try again in a moment."
    headers = (("Retry-After", "1"),)


class ObjectChanged(FileBeingChanged):
    """An object is not any more what the store has said of it a moment ago."""


class TooManyOpenFiles(RelayError):
    """The relay server has reached its limit of descriptors, or the machine its own."""

    status = "503 Service Unavailable"
    sentence = "The relay server has as many files open as it may have; try again in a moment."
    headers = (("Retry-After", "1"),)


class FileBeingHashed(RelayError):
    """More files are to be hashed again than there is time for."""

    status = "503 Service Unavailable"
    sentence = (
        "Files of content keys were touched after they were published, and are being hashed again; "
        "try again in a moment."
    )
    headers = (("Retry-After", "5"),)


class ArchiveBeingIndexed(RelayError):
    """The directory of an archive is being read, and it takes long."""

    status = "503 Service Unavailable"
    sentence = "The directory of this zip archive is being read; try again in a moment."
    headers = (("Retry-After", "2"),)


class IndexUnavailable(RelayError):
    """The index of an archive cannot be written.

    Attributes
    ----------
    reason : str
        For the log.
    """

    status = "503 Service Unavailable"
    sentence = "The relay server cannot write down what is in this zip archive; its log says why."
    headers = (("Retry-After", "5"),)

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ManifestUnavailable(RelayError):
    """The manifest of a tree's content key cannot be read.

    Attributes
    ----------
    reason : str
        For the log.
    """

    status = "503 Service Unavailable"
    sentence = "The relay server cannot read what this content key promises; publish the tree again, with content=True."

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class HubUnavailable(RelayError):
    """The hub cannot be asked who is logged in.

    Attributes
    ----------
    reason : str
        For the log.
    """

    status = "503 Service Unavailable"
    sentence = "The JupyterHub does not answer, so that nobody can tell who is logged in; try again in a moment."
    headers = (("Retry-After", "5"),)

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StorageFailing(RelayError):
    """The disk, or the file server, with the file fails.

    Attributes
    ----------
    reason : str
        For the log.
    """

    status = "503 Service Unavailable"
    sentence = (
        "The disk, or the file server, that has this file does not give it to the relay server; try again in a moment, "
        "and if that does not help, see whether it is mounted where the relay server runs: its log says why."
    )
    headers = (("Retry-After", "5"),)

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StoreFailing(RelayError):
    """The object store does not give what it is asked for.

    Attributes
    ----------
    reason : str
        For the log.
    """

    status = "502 Bad Gateway"
    sentence = "The object store that has this file does not give it to the relay server."
    headers = (("Retry-After", "5"),)

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StoreUnreachable(StoreFailing):
    """It cannot be reached, or answers what nobody can use (RFC 9110, 15.6.3)."""

    sentence = (
        "The object store that has this file cannot be reached, or fails; try again in a moment, and if that does not "
        "help, ask who runs the relay server: its log says why."
    )


class StoreRefusing(StoreFailing):
    """It refuses the credentials of the relay server, which are not the viewer's."""

    sentence = (
        "The object store that has this file refuses the relay server's credentials; ask who runs the relay server: "
        "its log says why."
    )
    headers = (("Retry-After", "60"),)


class StoreTooSlow(StoreFailing):
    """It has not answered in time (RFC 9110, 15.6.5)."""

    status = "504 Gateway Timeout"
    sentence = "The object store that has this file has not answered in time; try again in a moment."


class StoreBusy(StoreFailing):
    """It is asked too much, or as much as this server lets wait for it."""

    status = "503 Service Unavailable"
    sentence = "The object store that has this file is asked for too much at a time; try again in a moment."
    headers = (("Retry-After", "2"),)


class RegistryUnavailable(RelayError):
    """The registry cannot be read; the log says why."""

    status = "503 Service Unavailable"
    sentence = "The relay server cannot read its registry; run `kdr doctor` where it runs."
    headers = (("Retry-After", "5"),)


class IsDirectory(Exception):
    """The entry names a directory."""


class FileChanged(Exception):
    """The file is not any more what its headers say."""


class TruncatedBody(ConnectionAbortedError):
    """The file shrank while it was sent; servers end the connection on an OSError."""
