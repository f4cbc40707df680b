"""What the commands share: how one is described, where it works, and how text reaches a terminal."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from hub import JupyterRelayHub, PublishedURL
from hub.errors import InvalidOption
from hub.locations import Location, has_password, is_database_url
from hub.object_urls import is_object_url
from hub.registration import VISIBILITIES, Registration
from hub.registries import AnyRegistry, registry_at
from hub.settings import find_registry


class CommandError(Exception):
    """A command cannot do what it was asked; one sentence says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `kdr`.

    Attributes
    ----------
    description : str
        What it does, in sentences.
    examples : tuple of (str, str)
        Command lines, and what each is for.
    add_arguments : callable
        Adds to a parser what the command takes.
    run : callable
        Does what was asked; returns the exit code.
    notes : str
        What else its help has to tell.
    """

    description: str
    examples: tuple[tuple[str, str], ...]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    notes: str = ""


def registry_location(options: argparse.Namespace) -> Location:
    """Return where the registry is, or would be."""
    return find_registry(options.registry)


def parse_registry(text: str) -> str:
    """Return what names a registry, without a password: every user of the machine sees command lines."""
    if is_database_url(text):
        if has_password(text):
            raise argparse.ArgumentTypeError(
                "a password on a command line is seen by every user of this machine; put the URL into KDR_REGISTRY, or "
                "the password into ~/.pgpass (PGPASSFILE)"
            )
        try:
            find_registry(text)
        except InvalidOption as error:
            raise argparse.ArgumentTypeError(error.reason) from error
    return text


def open_registry(options: argparse.Namespace) -> AnyRegistry:
    """Return the registry."""
    return registry_at(registry_location(options))


def find_hub(options: argparse.Namespace) -> JupyterRelayHub:
    """Return what registers in the registry that is named, or else where this environment says."""
    return JupyterRelayHub(key_prefix="", registry=options.registry)


def register(
    hub: JupyterRelayHub,
    path: str,
    *,
    visibility: str | list[str],
    key: str | None = None,
    extension: str = "",
    is_tree: bool = False,
    content: bool = False,
    snapshot: str | None = None,
    upload: bool = False,
    ttl: float | None = None,
) -> PublishedURL:
    """Register a file, a directory or, where it `is_tree`, the members of an archive, and return the partial URL.

    Raises
    ------
    CommandError, HubError
    """
    is_folder = path.endswith("/") if is_object_url(path) else os.path.isdir(path)
    if not (is_tree or is_folder):
        return hub.serve_file(
            path,
            extension,
            key,
            content=content,
            snapshot=snapshot,
            upload=upload,
            visibility=visibility,
            ttl=ttl,
        )
    if extension:
        what = "is a directory" if is_folder else "is published by its members (--tree)"
        raise CommandError(f"--extension is for files, and {path!r} {what}")
    if content and not is_folder:
        raise CommandError(
            "--content gives no key to the members of an archive: publish the archive itself, without --tree, or "
            "unpack it and publish the directory"
        )
    return hub.serve_tree(path, key, content=content, snapshot=snapshot, upload=upload, visibility=visibility, ttl=ttl)


def describe_readers(registration: Registration) -> str:
    """Return who may read, and whether it is trusted and a content key."""
    who = ",".join(registration.audience) or registration.visibility
    who += " trusted" if registration.trusted else ""
    if registration.content:
        who += " snapshot" if registration.is_kept else " content"
    return who


def describe_end(registration: Registration) -> str:
    """Return when a registration ends, seen from now."""
    if registration.expires_at is None:
        return "when revoked"
    if registration.is_expired():
        return "expired"
    return f"{registration.expires_at - time.time():.0f} s left"


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether somebody looks at a standard stream; Python has None for one that is closed."""
    return stream is not None and stream.isatty()


def printable(text: str) -> str:
    """Return `text` with what a terminal might act on, or cannot show, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def printable_path(path: bytes) -> str:
    """Return a path as a terminal can show it."""
    return printable(os.fsdecode(path))


def parse_visibility(text: str) -> str:
    """Return who may read, if that is somebody."""
    if text in VISIBILITIES or text.startswith(("user:", "group:")):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(VISIBILITIES)}, user:NAME and group:NAME")


def parse_positive_int(text: str) -> int:
    """Return a whole number of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)
