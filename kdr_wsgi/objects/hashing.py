"""What objects hash to: their stores' own checksums, so that none of them is read.

`hub`, which has no credentials, runs this module as a program.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from hub.content.manifests import Columns, ManifestStore, TreeWriter
from hub.content.trees import explained
from hub.content.verifying import Verified
from hub.errors import HubError
from hub.keys import content_key
from hub.registration import Registration
from hub.settings import find_registry
from kdr_wsgi.errors import NoSuchEntry, StoreFailing, StoreUnreachable
from kdr_wsgi.objects import loop
from kdr_wsgi.objects.rules import ObjectPlace, StoreRules
from kdr_wsgi.objects.stores import Store, Stores
from kdr_wsgi.objects.versions import ObjectVersion
from kdr_wsgi.settings import SettingError, read_stores

#: Objects of one piece of a manifest.
_PIECE = 1000


class StoredObjects(NamedTuple):
    """What is registered of an object store.

    Attributes
    ----------
    store : Store
    key : str
        Of the object, or what the keys below begin with, without the slash.
    """

    store: Store
    key: str

    @classmethod
    def at(cls, place: ObjectPlace, stores: Stores) -> StoredObjects:
        """Return what is at a place that may be read."""
        return cls(stores.find(place.rule, place.bucket), place.key)

    def hash_object(self, registration: Registration) -> Registration:
        """Return a file's registration with the content key of the object as it is now.

        Raises
        ------
        NoSuchEntry, StoreFailing
        """
        version = self.store.find(self.key)
        return with_content(registration, version.digest.hex(), version.make_signature())

    def columns(self) -> Iterator[Columns]:
        """Yield what a manifest has of all objects below the key.

        Raises
        ------
        NoSuchEntry
            There is none.
        StoreFailing
        """
        listed = self.list()
        last = b""
        while piece := [*islice(listed, _PIECE)]:
            for name, _ in piece:
                if name <= last:
                    raise StoreUnreachable(f"{self.store.url}: it lists keys in another order than that of their bytes")
                last = name
            yield Columns.of(
                [name + b"\0" + version.make_signature() for name, version in piece],
                [version.digest for _, version in piece],
            )
        if not last:
            raise NoSuchEntry

    def list(self) -> Iterator[tuple[bytes, ObjectVersion]]:
        """Yield all objects below the key, by the rest of their keys."""
        for name, version in self.store.list_all(f"{self.key}/" if self.key else ""):
            yield name.encode(), version


def with_content(registration: Registration, content: str, signature: bytes = b"") -> Registration:
    """Return a registration with a content key."""
    return replace(registration, key=content_key(content, registration.variant), content=content, signature=signature)


def verify_objects(registration: Registration, objects: StoredObjects, manifests: ManifestStore) -> Iterator[Verified]:
    """Yield what has become of each object that a content key promises, and each that has been added below its prefix.

    Raises
    ------
    ManifestError, StoreFailing
    """
    if registration.kind == "file":
        try:
            version = objects.store.find(objects.key)
        except NoSuchEntry:
            yield Verified(registration.name, 0, "missing")
            return
        difference = "" if version.has_signature(registration.signature) else "changed"
        yield Verified(registration.name, version.size_bytes, difference)
        return
    manifest = manifests.open(registration.content, registration.root).manifest
    position = 0
    for name, version in objects.list():
        while position < len(manifest) and manifest[position] < name:
            yield Verified(manifest[position], 0, "missing")
            position += 1
        if position == len(manifest) or manifest[position] != name:
            yield Verified(name, 0, "added")
            continue
        yield Verified(name, version.size_bytes, "" if version.digest == manifest.hash(position) else "changed")
        position += 1
    for missing in range(position, len(manifest)):
        yield Verified(manifest[missing], 0, "missing")


def _hash(kind: str, root: bytes, rules: StoreRules, manifests: ManifestStore) -> None:
    """Print what the objects of a root hash to, as JSON, and before it now and then how many have been seen."""
    place = rules.find(root, "")
    if place is None:
        prefixes = ", ".join(rules.seen_by("")) or "none, since KDR_STORES names no file"
        raise HubError(f"what may be published here of object stores lies below these prefixes: {prefixes}")
    objects = StoredObjects.at(place, Stores())
    if kind == "file":
        hashed = objects.hash_object(Registration("", "file", root))
        _say(content=hashed.content, signature=hashed.signature.hex())
        return
    with explained(manifests), TreeWriter(manifests, root) as writer:
        for columns in objects.columns():
            writer.add(columns)
            _say(files=len(columns.sizes) // 8)
        _say(content=writer.finish(), signature="")


def _say(**told: object) -> None:
    print(json.dumps(told), flush=True)


def main(kind: str, root: str) -> int:
    """Hash what is at an address, for the user whose registry ``KDR_REGISTRY`` is; what fails is told as JSON too."""
    try:
        _hash(kind, os.fsencode(root), read_stores(), ManifestStore(find_registry(None)))
    except NoSuchEntry:
        _say(error="nothing is there")
    except StoreFailing as error:
        _say(error=error.reason)
    except (HubError, SettingError) as error:
        _say(error=str(error))
    else:
        return 0
    return 1


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    loop.leave(code)
    sys.exit(code)
