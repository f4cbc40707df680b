"""What is said of a registration to people: in a notebook, and in a terminal."""

from __future__ import annotations

import os
from datetime import datetime

from hub.measuring import Measure
from hub.registration import Registration

_READERS = {
    "private": "only you",
    "users": "whoever is logged in",
    "public": "everyone",
}

_UNITS = ("kB", "MB", "GB", "TB", "PB")


def say_readers(registration: Registration) -> str:
    """Return who may read."""
    if registration.visibility == "listed":
        members = (member.partition(":") for member in registration.audience)
        return ", ".join(["you", *(name if kind == "user" else f"group {name}" for kind, _, name in members)])
    return _READERS[registration.visibility]


def say_kind(registration: Registration) -> str:
    """Return what is published."""
    return "folder" if registration.kind == "tree" else registration.kind


def say_end(registration: Registration) -> str:
    """Return when it ends, in this machine's time."""
    if registration.expires_at is None:
        return "when revoked"
    return datetime.fromtimestamp(registration.expires_at).astimezone().strftime("%Y-%m-%d %H:%M %Z").rstrip()


def say_size(size_bytes: int) -> str:
    """Return a number of bytes with three digits and a unit of a power of 1000."""
    if size_bytes < 1000:
        return "1 byte" if size_bytes == 1 else f"{size_bytes} bytes"
    size, power = size_bytes / 1000, 0
    # What would be rounded to 1000 is 1 of the next unit.
    while size >= 999.5 and power + 1 < len(_UNITS):
        size, power = size / 1000, power + 1
    digits = 2 if size < 9.995 else 1 if size < 99.95 else 0
    return f"{size:,.{digits}f} {_UNITS[power]}"


def say_measure(registration: Registration, measured: Measure) -> str:
    """Return how much is published."""
    size = say_size(measured.size_bytes)
    if registration.kind == "file":
        return size
    if not measured.is_all:
        return f"more than {measured.files:,} files, {size}"
    return f"{measured.files:,} file{'' if measured.files == 1 else 's'}, {size}"


def say_in_terminal(text: str) -> str:
    """Return `text` without what moves the cursor, or begins a line: names may hold it."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def say_name(registration: Registration) -> str:
    """Return what the file is published as, or what the folder is called."""
    name = registration.name or os.path.basename(registration.root) or registration.root
    return name.decode("utf-8", "replace")
