"""``kdr gc``."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from hub.content.cleaning import clean_up
from hub.content.snapshots import SnapshotFolder
from hub.registries import AnyRegistry
from kdr_wsgi.commands.common import Command, CommandError, open_registry, printable, printable_path


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--missing", action="store_true", help="those too whose file or directory does not exist any more"
    )
    parser.add_argument(
        "--snapshots",
        metavar="DIR",
        action="append",
        default=[],
        help="the copies in this directory, too, that no registration needs any more",
    )


def _run(options: argparse.Namespace) -> int:
    from kdr_wsgi.doctor import is_missing

    registry = open_registry(options)
    folders = [SnapshotFolder(Path(os.path.realpath(name)), registry) for name in options.snapshots]
    # First, so that a wrong name removes nothing.
    for folder in folders:
        folder.check()
    removed = registry.remove_expired(time.time())
    if options.missing:
        for registration in registry.registrations():
            is_gone = all(is_missing(source.root) for source in registration.sources)
            if is_gone and registry.revoke(registration.key):
                removed.append(registration)
    for registration in removed:
        print(f"removed {printable(registration.key)}  {printable_path(registration.root)}")
    print(f"{len(removed)} removed")
    registry.forget_hashes(is_missing)
    for what, (files, size_bytes) in clean_up(registry, folders):
        if files or what != "manifests":
            print(f"{what}: {files:,} files removed, {size_bytes:,} bytes")
    _forget_usage(registry)
    return 0


def _forget_usage(registry: AnyRegistry) -> None:
    """Remove what was counted of keys that are gone."""
    from kdr_wsgi.usage import UsageUnavailable, forget_usage

    try:
        forgotten = forget_usage(registry.location, {registration.key for registration in registry.registrations()})
    except UsageUnavailable as error:
        raise CommandError(str(error)) from error
    if forgotten:
        print(f"usage: counts of {forgotten:,} key{'' if forgotten == 1 else 's'} removed")


COMMAND = Command(
    description="Remove what has expired, and the manifests and indexes that no registration needs any more.",
    examples=(
        ("kdr gc", ""),
        ("kdr gc --missing --snapshots kept", "what is gone from the disk, and copies that nothing needs"),
    ),
    add_arguments=_add_arguments,
    run=_run,
)
