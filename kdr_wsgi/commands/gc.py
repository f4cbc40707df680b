"""``kdr gc``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hub.content.cleaning import clean_up
from hub.content.snapshots import SnapshotFolder
from hub.object_urls import is_object_root
from hub.registration import Registration
from hub.registries import AnyRegistry
from kdr_wsgi.commands.common import Command, CommandError, open_registry, printable, printable_path

if TYPE_CHECKING:
    from kdr_wsgi.objects.uploads import UploadPlace


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--missing", action="store_true", help="those too whose file, directory or object does not exist any more"
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
    uploads = _find_uploads()
    folders = [SnapshotFolder(Path(os.path.realpath(name)), registry) for name in options.snapshots]
    # First, so that a wrong name removes nothing.
    for folder in folders:
        folder.check()
    removed = registry.remove_expired(time.time())
    if options.missing:
        is_gone_from_store = _store_asker()
        for registration in registry.registrations():
            if is_object_root(registration.root):
                is_gone = is_gone_from_store(registration)
            else:
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
    if uploads is not None:
        _clean_up_uploads(registry, uploads)
    _forget_usage(registry)
    return 0


def _find_uploads() -> UploadPlace | None:
    """Return where uploads are kept, where KDR_UPLOADS names that."""
    if not os.environ.get("KDR_UPLOADS"):
        return None
    from kdr_wsgi.settings import SettingError, read_stores, set_uploads_apart

    try:
        return set_uploads_apart(read_stores())[1]
    except SettingError as error:
        raise CommandError(str(error)) from error


def _clean_up_uploads(registry: AnyRegistry, uploads: UploadPlace) -> None:
    """Remove uploads that nothing needs."""
    from kdr_wsgi.errors import StoreFailing
    from kdr_wsgi.objects.cleaning import clean_up_uploads

    try:
        files, size_bytes = clean_up_uploads(registry, uploads)
    except StoreFailing as error:
        raise CommandError(f"the store of uploads cannot be cleaned up: {error.reason}") from error
    print(f"uploads: {files:,} files removed, {size_bytes:,} bytes")


def _store_asker() -> Callable[[Registration], bool]:
    """Return what tells whether a store says that nothing is there any more; what cannot be told stays."""
    from kdr_wsgi.objects.examining import examine_root
    from kdr_wsgi.objects.stores import Stores
    from kdr_wsgi.settings import SettingError, read_stores

    try:
        rules = read_stores()
    except SettingError as error:
        raise CommandError(str(error)) from error
    stores = Stores()

    def is_gone(registration: Registration) -> bool:
        found = examine_root(registration, rules, stores)
        if found.state in ("failing", "untold"):
            reason = found.reason or "KDR_STORES names no file here"
            print(
                f"kdr: warning: cannot tell whether {printable_path(registration.root)} is there: {printable(reason)}",
                file=sys.stderr,
            )
        return found.state == "missing"

    return is_gone


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
    description="Remove what has expired, and the manifests, indexes and (with KDR_UPLOADS) uploads that no "
    "registration needs any more.",
    examples=(
        ("kdr gc", ""),
        ("kdr gc --missing --snapshots kept", "what is gone from the disk, and copies that nothing needs"),
    ),
    add_arguments=_add_arguments,
    run=_run,
)
