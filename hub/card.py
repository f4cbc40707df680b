"""What a notebook shows of a publication: a card with its link and its facts; in a terminal two lines."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from hub.errors import HubError
from hub.keys import shorten_key
from hub.measuring import Measure, measure
from hub.object_urls import is_object_root
from hub.previews import Preview, find_any_preview, preview_url
from hub.registration import Registration
from hub.wording import say_end, say_in_terminal, say_kind, say_measure, say_name, say_readers

if TYPE_CHECKING:
    from hub.client import PublishedURL
    from hub.registrar import Registrar

#: What a notebook loads just to show how an image looks.
MAX_THUMBNAIL_BYTES = 2_000_000

#: A name with dollar signs is no formula.
CLASSES = "kdr-card mathjax_ignore tex2jax_ignore"

#: What every browser shows as an image.
_IMAGES = frozenset("apng avif bmp gif ico jpeg jpg png svg webp".split())


class Facts(NamedTuple):
    """What is known of a publication at a moment.

    Attributes
    ----------
    registration : Registration or None
        None: it is not published any more, or nobody can tell.
    measured : Measure or None
        None: nothing is there to measure.
    trouble : str
        A sentence on what is amiss; else empty.
    """

    registration: Registration | None
    measured: Measure | None
    trouble: str


def find_facts(url: PublishedURL, registrar: Registrar) -> Facts:
    """Look up what `url` publishes."""
    try:
        registration = registrar.find(url.key)
    except HubError as error:
        return Facts(None, None, f"What is published under it cannot be told: {error}")
    if registration is None:
        return Facts(None, None, "Nothing is published under this URL any more.")
    if registration.kind == "file":
        # One content may have several names.
        registration = replace(registration, name=unquote_to_bytes(url.rpartition("/")[2]))
    # Of a service, on a disk of its own; or in a store, to which the relay server alone has the credentials, and of
    # which there is a manifest at the most.
    has_manifest = bool(registration.content) and not registration.owner
    if not registration.root or (is_object_root(registration.root) and not has_manifest):
        return Facts(registration, None, "")
    try:
        return Facts(registration, measure(registration, registrar.location), "")
    except OSError as error:
        reason = error.strerror or str(error)
        return Facts(registration, None, f"What it publishes cannot be read: {reason[:1].lower()}{reason[1:]}.")


def show_text(url: PublishedURL, facts: Facts) -> str:
    """Return the card as text: the URL, and what it publishes to whom."""
    registration = facts.registration
    if registration is None:
        return f"{url!s}\n  {facts.trouble}"
    parts = [
        say_name(registration) + ("" if registration.kind == "file" else "/"),
        *([say_measure(registration, facts.measured)] if facts.measured else []),
        f"read by {say_readers(registration)}",
        f"ends {say_end(registration)}",
        *(["trusted"] if registration.trusted else []),
        f"key {shorten_key(url.key)}",
    ]
    lines = [str(url), "; ".join(parts), *([facts.trouble] if facts.trouble else [])]
    return "\n  ".join(map(say_in_terminal, lines))


def show_card(url: PublishedURL, facts: Facts) -> str:
    """Return the card as HTML.

    A page that keeps scripts and styles out is left with the link and the facts in words.
    """
    # An href that begins with a slash is made absolute by the browser that shows the notebook.
    href = escape(url)
    link = f'<div class="kdr-link"><a href="{href}" target="_blank" rel="noopener">{href}</a></div>'
    trouble = f'<p class="kdr-warn" role="note">{escape(facts.trouble)}</p>' if facts.trouble else ""
    registration = facts.registration
    if registration is None:
        return f'<div class="{CLASSES}">{style()}{link}{trouble}</div>'
    before = url_before(url)
    name = say_name(registration)
    kind = say_kind(registration)
    told = f"{kind}, {_measured(registration, facts.measured)}" if facts.measured else kind
    rows = (
        ("Read by", escape(say_readers(registration))),
        ("Ends", escape(say_end(registration))),
        ("Key", f'<span title="{escape(url.key)}">{escape(shorten_key(url.key))}</span>'),
    )
    facts_shown = "".join(f"<div><dt>{term}</dt> <dd>{said}</dd></div> " for term, said in rows)
    trust = (
        '<p class="kdr-warn" role="note">Trusted: its pages act with the login of whoever opens them.</p>'
        if registration.trusted
        else ""
    )
    return (
        f'<div class="{CLASSES} kdr-one" role="group" aria-label="Published: {escape(name)}" '
        f"{revocable(before, url.key, name, 'url.revoke()')}>{style()}"
        f"{_thumbnail(url, registration, facts.measured)}"
        f'<div class="kdr-body"><div class="kdr-head"><strong class="kdr-name">{escape(name)}</strong> '
        f'<span>{told}</span> <span class="kdr-act"></span></div>'
        f'{link}<dl class="kdr-facts">{facts_shown}</dl>{trust}{trouble}'
        f"{_preview(url, registration, facts.measured)}</div>{script()}</div>"
    )


def url_before(url: PublishedURL) -> str:
    """Return what stands before the key in a URL, with a slash at its end."""
    return url.rpartition("/")[0].removesuffix(quote(url.key, safe=""))


def preview_address(url: PublishedURL, registration: Registration, preview: Preview) -> str:
    """Return the address of the page that shows what `url` publishes."""
    return preview_url(preview, url.key, registration.name, before=url_before(url))


def revocable(before: str, key: str, name: str, remedy: str) -> str:
    """Return the attributes by which the script knows what its button revokes; `remedy` is Python that does so too."""
    told = {"key": key, "at": before, "name": name, "else": remedy}
    return " ".join(f'data-kdr-{word}="{escape(value)}"' for word, value in told.items())


@cache
def style() -> str:
    """Return the element with the styles."""
    return f"<style>{_read('card.css')}</style>"


@cache
def script() -> str:
    """Return the element with the script."""
    return f"<script>{_read('card.js')}</script>"


def _read(name: str) -> str:
    text = Path(__file__).with_name(name).read_text("utf-8")
    # Every output of a notebook has a copy, so comments and indents stay here.
    return re.sub(r"^\s*(//.*\n)?", "", text, flags=re.MULTILINE)


def _measured(registration: Registration, measured: Measure) -> str:
    return f'<span title="{measured.size_bytes:,} bytes">{escape(say_measure(registration, measured))}</span>'


def _is_image(registration: Registration, measured: Measure | None) -> bool:
    stem, dot, extension = say_name(registration).rpartition(".")
    return (
        registration.kind == "file"
        and measured is not None
        and measured.size_bytes <= MAX_THUMBNAIL_BYTES
        and bool(stem and dot)
        and extension.lower() in _IMAGES
    )


def _thumbnail(url: PublishedURL, registration: Registration, measured: Measure | None) -> str:
    if not _is_image(registration, measured):
        return ""
    # Without a text for it nothing stands where it is gone.
    return f'<img class="kdr-thumb" src="{escape(url)}" alt="" loading="lazy"> '


def _preview(url: PublishedURL, registration: Registration, measured: Measure | None) -> str:
    if measured is None or _is_image(registration, measured):
        return ""
    preview = find_any_preview(registration, measured.names)
    if preview is None:
        return ""
    address = escape(preview_address(url, registration, preview))
    title = f"Preview of {escape(say_name(registration))}"
    # Nothing is loaded before somebody opens it: a notebook may have many.
    return (
        f'<details class="kdr-preview"><summary>Preview</summary>'
        f'<a href="{address}" target="_blank" rel="noopener">Open the preview in a tab</a>'
        f'<iframe src="{address}" loading="lazy" title="{title}"></iframe></details>'
    )
