"""Which folders each user of a hub may publish, as its administrator says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hub.registration import Registration, Source

#: What stands for the user's name.
_USERNAME = "{username}"


class _Root(NamedTuple):
    """A folder as the service sees it, and as the users' servers do."""

    folder: str
    seen_as: str


class AllowedRoots:
    """The folders below which users may publish.

    Parameters
    ----------
    text : str
        Absolute paths, separated by colons, in which ``{username}`` stands
        for the user's name; ``SEEN_AS=FOLDER`` where users' servers see a
        folder elsewhere than the service does.

    Raises
    ------
    ValueError
        One of them cannot be used.
    """

    def __init__(self, text: str) -> None:
        self._roots = [_parse(part.strip()) for part in text.split(":") if part.strip()]
        if not self._roots:
            raise ValueError("it names no folder")

    def locate(self, owner: str, path: bytes) -> bytes | None:
        """Return where the service finds what the owner's server sees at `path`; None if it may not be published.

        No link on the way is followed but those that lead to the allowed
        folder itself.

        Parameters
        ----------
        owner : str
        path : bytes
            Absolute.
        """
        if b".." in path.split(b"/"):
            return None
        found = [
            (begin, folder)
            for folder, seen_as in self._folders_of(owner)
            for begin in (seen_as, folder)
            if _is_below(path, begin)
        ]
        if not found:
            return None
        # A folder may be seen inside another one.
        begin, folder = max(found, key=lambda pair: len(pair[0]))
        return os.path.join(folder, path[len(begin) :].strip(b"/")).rstrip(b"/")

    def seen_by(self, owner: str) -> list[bytes]:
        """Return the folders that a user may publish, as the user's server sees them."""
        return [seen_as for _, seen_as in self._folders_of(owner)]

    def as_seen(self, owner: str, paths: Iterable[bytes]) -> list[bytes]:
        """Return as what the owner's server sees what the service finds at each of `paths`."""
        folders = list(self._folders_of(owner))
        return [_translate(path, folders) for path in paths]

    def restrict(
        self, registration: Registration, is_allowed: Callable[[Source, str], bool] = lambda _source, _owner: False
    ) -> Registration | None:
        """Return a registration with those of its places that its owner may publish; None if there is none.

        `is_allowed` tells of places elsewhere.
        """
        if not registration.owner:  # The service's own.
            return registration
        folders = [folder for folder, _ in self._folders_of(registration.owner)]
        return registration.restricted_to(
            lambda source: (
                any(_is_below(source.root, folder) for folder in folders) or is_allowed(source, registration.owner)
            )
        )

    def may_hold(self, path: Path) -> bool:
        """Whether some user, whatever the name, might publish `path`."""
        named = Path(os.path.realpath(path)).parts
        return any(_matches(root.folder, named) for root in self._roots)

    def _folders_of(self, owner: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield the folders of a user, free of links, and as what the user's server sees them."""
        if not _is_name(owner):
            return
        for folder, seen_as in self._roots:
            before, has_name, behind = folder.partition(_USERNAME)
            # A link that leads to a user's folder is the administrator's word; one below it is the user's.
            real = os.path.realpath(before + owner if has_name else before) + behind.replace(_USERNAME, owner)
            yield os.fsencode(real), os.fsencode(seen_as.replace(_USERNAME, owner))


def _parse(part: str) -> _Root:
    seen_as, is_mapped, folder = part.partition("=")
    if not is_mapped:
        folder = seen_as
    for path in (seen_as, folder):
        if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise ValueError(f"{part!r} is no absolute path")
        if any(("{" in name or "}" in name) and name != _USERNAME for name in path.split("/")):
            raise ValueError(f"in {part!r} what is in braces is not {_USERNAME}, or not the whole name of a folder")
    if any(not path.strip("/") or path.strip("/") == _USERNAME for path in (seen_as, folder)):
        raise ValueError(f"{part!r} is the whole machine; name the folders that users may publish")
    return _Root(folder.rstrip("/"), seen_as.rstrip("/"))


def _translate(path: bytes, folders: Sequence[tuple[bytes, bytes]]) -> bytes:
    for folder, seen_as in folders:
        if _is_below(path, folder):
            return os.path.join(seen_as, path[len(folder) :].strip(b"/")).rstrip(b"/")
    return path


def _is_name(owner: str) -> bool:
    """Whether a user's name can be that of a folder, and of no other than the user's."""
    return bool(owner) and owner not in (".", "..") and "/" not in owner and "\0" not in owner


def _is_below(path: bytes, folder: bytes) -> bool:
    """Whether `path` is `folder` or leads below it."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _matches(folder: str, named: tuple[str, ...]) -> bool:
    before, has_name, _ = folder.partition(_USERNAME)
    fixed = Path(os.path.realpath(before)).parts if has_name else Path(os.path.realpath(folder)).parts
    if named[: len(fixed)] != fixed:
        return False
    if not has_name:
        return True
    # Behind the name there may be more folders of the template, each of which must fit.
    rest = Path(folder[len(before) :]).parts
    there = named[len(fixed) :]
    return len(there) >= len(rest) and all(name in (_USERNAME, found) for name, found in zip(rest, there, strict=False))
