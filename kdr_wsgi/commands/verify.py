"""``kdr verify``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

from hub.content.manifests import ManifestStore
from hub.content.verifying import Verified, verify
from hub.object_urls import is_object_root
from hub.registration import Registration, Source
from hub.registries import AnyRegistry
from kdr_wsgi.commands.common import Command, CommandError, open_registry, printable_path
from kdr_wsgi.commands.keys import add_key, find_key


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_key(parser, "as kdr list shows it, or a beginning of it that no other has")


def _run(options: argparse.Namespace) -> int:
    registry = open_registry(options)
    registration = registry.find(find_key(options.key, registry.keys_beginning))
    if registration is None:
        raise CommandError(f"the key {options.key!r} is not registered; kdr list shows what is")
    if not registration.content:
        raise CommandError(f"{options.key!r} is no content key, and promises nothing; publish with --content for one")
    bad = [place for place in registration.sources if not _verify_at(place, registration, registry)]
    if bad:
        raise CommandError(
            f"{len(bad)} of {len(registration.sources)} places have not what the key promises; "
            "publish again for a key of what is there now"
        )
    return 0


def _verify_at(place: Source, registration: Registration, registry: AnyRegistry) -> bool:
    """Read what is at one of the places of a content key; return whether it is as promised."""
    from kdr_wsgi.doctor import is_missing

    where = printable_path(place.root)
    if place.is_kept and is_object_root(place.root):
        print(f"{where}: was hashed as it was uploaded, and is not read again")
        return True
    if is_missing(place.root):
        print(f"missing  {where}")
        return False
    files = size_bytes = different = 0
    at_place = replace(registration, root=place.root, signature=place.signature, is_kept=place.is_kept)
    look = _verify_objects if is_object_root(place.root) else verify
    for verified in look(at_place, registry):
        files += 1
        size_bytes += verified.size_bytes
        if verified.difference:
            different += 1
            print(f"{verified.difference}  {printable_path(verified.entry)}")
    verdict = f"{different:,} files are not what the key promises" if different else "as the key promises"
    print(f"{where}: {files:,} files, {size_bytes:,} bytes: {verdict}")
    return not different


def _verify_objects(registration: Registration, registry: AnyRegistry) -> Iterator[Verified]:
    """Yield what a store says of each object that a content key promises."""
    from kdr_wsgi.errors import StoreFailing
    from kdr_wsgi.objects.hashing import StoredObjects, verify_objects
    from kdr_wsgi.objects.stores import Stores
    from kdr_wsgi.settings import SettingError, read_stores

    try:
        place = read_stores().find(registration.root, registration.owner)
        if place is None:
            raise CommandError(
                f"{printable_path(registration.root)} lies below no prefix of the file of KDR_STORES; run kdr verify "
                "with KDR_STORES as the relay server has it"
            )
        store = ManifestStore(registry.location, registration.owner)
        yield from verify_objects(registration, StoredObjects.at(place, Stores()), store)
    except SettingError as error:
        raise CommandError(str(error)) from error
    except StoreFailing as error:
        raise CommandError(f"the store does not tell: {error.reason}") from error


COMMAND = Command(
    description="Read all files that a content key promises (of objects, ask their store), print each that is changed, "
    "missing or added; "
    "exit code 1 if there is any.",
    examples=(("kdr verify 3f2a9c1b", "a beginning of the key is enough"),),
    add_arguments=_add_arguments,
    run=_run,
)
