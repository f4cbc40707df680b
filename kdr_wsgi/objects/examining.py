"""Whether what was registered of object stores is there, for commands: as far as that can be told in bounded time."""

from __future__ import annotations

from typing import Literal, NamedTuple

from hub.registration import Registration
from kdr_wsgi.errors import NoSuchEntry, StoreFailing
from kdr_wsgi.objects.rules import StoreRules
from kdr_wsgi.objects.stores import Stores


class Examined(NamedTuple):
    """What can be told of an object root.

    Attributes
    ----------
    state : {"there", "missing", "refused", "failing", "untold"}
        ``refused``: it lies below no prefix that may be published; ``failing``: its store does not tell; ``untold``:
        no file of stores is named here.
    reason : str
        Why, where that is not plain; it holds no secret.
    """

    state: Literal["there", "missing", "refused", "failing", "untold"]
    reason: str = ""


def examine_root(registration: Registration, rules: StoreRules, stores: Stores) -> Examined:
    """Ask the store of a registration's root, once, whether anything is there."""
    if not rules:
        return Examined("untold")
    place = rules.find(registration.root, registration.owner)
    if place is None:
        return Examined("refused")
    store = stores.find(place.rule, place.bucket)
    try:
        if registration.kind == "file":
            store.find(place.key)
            return Examined("there")
        # A bucket may be empty, and what is published of it come later.
        is_there = store.has_below(f"{place.key}/" if place.key else "") or not place.key
        return Examined("there" if is_there else "missing")
    except NoSuchEntry:
        return Examined("missing")
    except StoreFailing as error:
        return Examined("failing", error.reason)
