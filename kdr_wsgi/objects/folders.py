"""Folders of objects, as they are listed: what keys have in common up to a slash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain

from kdr_wsgi.contents import Child
from kdr_wsgi.errors import NoSuchEntry
from kdr_wsgi.folders import Children, Page, find_marks, with_made
from kdr_wsgi.objects.stores import Listed, Store

#: How long a page is filled: to pass over a folder that holds more than a store lists at once takes a request for each.
PAGE_SECONDS = 5.0


class FolderOfObjects:
    """What lies below a prefix.

    Parameters
    ----------
    store : Store
    prefix : str
        It ends with a slash, or is empty.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def check(self) -> None:
        """Find out whether there is anything; a bucket may be empty."""
        if self._prefix and not self._store.has_below(self._prefix):
            raise NoSuchEntry

    def find_page(self, after: bytes, limit: int) -> Page:
        """Return about `limit` of what is in it, or what the store gives of it in some seconds."""
        name = after.decode("utf-8", "replace")
        whole = self._store.list_at_once(self._prefix)
        if whole is None:
            shown, is_last = self._read_page(name, limit)
        elif not whole and self._prefix:
            raise NoSuchEntry
        else:
            left = [each for each in whole if each.name.encode() > name.encode()]
            shown, is_last = left[:limit], len(left) <= limit
        # Of a folder of which there is more, only what is shown is known.
        names = {each.name.encode() for each in (shown if whole is None else whole)}
        children = [*with_made(map(_child, shown), names.__contains__)]
        following = None if is_last or not shown else shown[-1].name.encode()
        total = len(children) if following is None and not after else None if whole is None else len(whole)
        return Page(children, following, total, find_marks(names.__contains__))

    def open(self) -> Children:
        """Return all that is in it, in order, read as it is taken."""
        listed = self._store.list_folder(self._prefix)
        first = next(listed, None)
        if first is None:
            self.check()
        return Children(map(_child, chain([first] if first is not None else [], listed)))

    def _read_page(self, after: str, limit: int) -> tuple[list[Listed], bool]:
        """Return what a page has, and whether it is the last one."""
        until = time.monotonic() + PAGE_SECONDS
        listed: Iterator[Listed] = self._store.list_folder(self._prefix, after)
        shown: list[Listed] = []
        for each in listed:
            if len(shown) == limit or (shown and time.monotonic() > until):
                return shown, False
            shown.append(each)
        if not shown and not after:
            self.check()
        return shown, True


def _child(each: Listed) -> Child:
    return Child(each.name.rstrip("/").encode(), each.is_folder, each.size_bytes, each.modified_ns)
