"""What a user has published: a sequence that a notebook shows as a table, and a terminal as aligned text."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import overload

from hub.card import CLASSES, preview_address, revocable, script, style, url_before
from hub.client import PublishedURL
from hub.keys import shorten_key
from hub.measuring import find_names
from hub.object_urls import is_object_root
from hub.previews import find_any_preview
from hub.registration import Kind, Registration
from hub.wording import say_end, say_in_terminal, say_kind, say_name, say_readers

#: A table with more rows helps nobody.
MAX_ROWS = 200

#: Looking into folders for what kind they are ends after so long.
MAX_SECONDS = 0.5

_HEADS = ("Published", "Read by", "Ends", "Path", "Key", "Revoke")


@dataclass(frozen=True, slots=True)
class Publication:
    """Something that is published.

    Attributes
    ----------
    url : PublishedURL
    registration : Registration
        All that is known of it.
    """

    url: PublishedURL
    registration: Registration

    @property
    def key(self) -> str:
        """The key in the URL."""
        return self.registration.key

    @property
    def kind(self) -> Kind:
        """``file``, ``tree`` or ``archive``."""
        return self.registration.kind

    @property
    def path(self) -> Path | None:
        """Where it lies on disk, links resolved, or None for what is in an object store."""
        return None if is_object_root(self.registration.root) else Path(self.location)

    @property
    def location(self) -> str:
        """Where it lies, as a path or the address of an object or a prefix."""
        return os.fsdecode(self.registration.root)

    @property
    def visibility(self) -> str | list[str]:
        """Who may read, as `JupyterRelayHub.serve_tree` takes it."""
        return list(self.registration.audience) or self.registration.visibility

    @property
    def expires_at(self) -> float | None:
        """Seconds since the epoch at which it ends; None if nothing but a revocation ends it."""
        return self.registration.expires_at

    def revoke(self) -> bool:
        """End it: see `PublishedURL.revoke`."""
        return self.url.revoke()


class Publications(Sequence[Publication]):
    """Publications, in the order in which they are given.

    Parameters
    ----------
    publications : iterable of Publication
    """

    def __init__(self, publications: Iterable[Publication]) -> None:
        self._all = tuple(publications)

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, place: int | str) -> Publication: ...
    @overload
    def __getitem__(self, place: slice) -> Publications: ...
    def __getitem__(self, place: int | str | slice) -> Publication | Publications:
        """Return the publication at a place, or with a key; or some of them.

        Raises
        ------
        IndexError, KeyError
        """
        if isinstance(place, slice):
            return Publications(self._all[place])
        if isinstance(place, int):
            return self._all[place]
        for one in self._all:
            if one.key == place:
                return one
        raise KeyError(place)

    def __repr__(self) -> str:
        if not self._all:
            return f"Nothing is published. {_HINT}"
        heads = ("url", "kind", "read by", "ends", "path")
        rows = [heads, *(_row(one) for one in self._all[:MAX_ROWS])]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, *([_more(len(self._all))] if len(self._all) > MAX_ROWS else [])])

    def _repr_html_(self) -> str:
        if not self._all:
            return f'<div class="{CLASSES}">{style()}Nothing is published. {escape(_HINT)}</div>'
        heads = "".join(f'<th scope="col">{head}</th>' for head in _HEADS)
        deadline = time.monotonic() + MAX_SECONDS
        rows = "".join(_show_row(one, deadline) for one in self._all[:MAX_ROWS])
        more = f"<p>{escape(_more(len(self._all)))}</p>" if len(self._all) > MAX_ROWS else ""
        return (
            f'<div class="{CLASSES} kdr-wide">{style()}<div class="kdr-scroll" role="group" tabindex="0" '
            f'aria-label="Published"><table class="kdr-table"><thead><tr>{heads}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>{more}{script()}</div>"
        )


_HINT = 'hub.get_relay_hub().serve_tree("a folder") publishes one.'


def _more(number: int) -> str:
    return f"and {number - MAX_ROWS:,} more, which [{MAX_ROWS}:] shows"


def _row(one: Publication) -> tuple[str, ...]:
    registration = one.registration
    path = registration.root.decode("utf-8", "replace")
    readers, shown = say_in_terminal(say_readers(registration)), say_in_terminal(path)
    return str(one.url), one.kind, readers, say_end(registration), shown


def _show_row(one: Publication, deadline: float) -> str:
    registration = one.registration
    href, name = escape(one.url), say_name(registration)
    names = find_names(registration) if time.monotonic() < deadline else ()
    preview = find_any_preview(registration, names)
    seen = ""
    if preview is not None:
        address, label = escape(preview_address(one.url, registration, preview)), f"Preview of {escape(name)}"
        seen = f' <a class="kdr-seen" href="{address}" target="_blank" rel="noopener" aria-label="{label}">Preview</a>'
    trust = " (trusted)" if registration.trusted else ""
    kind = say_kind(registration)
    cells = (
        f'<span class="kdr-link"><a href="{href}" target="_blank" rel="noopener">{escape(name)}</a></span> '
        f'<span class="kdr-under">{kind}{seen}</span>',
        escape(say_readers(registration)) + trust,
        escape(say_end(registration)),
        escape(registration.root.decode("utf-8", "replace")),
        f'<span title="{escape(one.key)}">{escape(shorten_key(one.key))}</span>',
        '<span class="kdr-act"></span>',
    )
    told = revocable(url_before(one.url), one.key, name, f"hub.list()[{one.key!r}].revoke()")
    # A path, a name and a list of readers may be long, and are broken into lines.
    ways = (' class="kdr-long"', ' class="kdr-long"', "", ' class="kdr-long"', "", "")
    return f"<tr {told}>{''.join(f'<td{way}>{cell}</td>' for way, cell in zip(ways, cells, strict=True))}</tr>"
