"""What is registered and how it is used, a row for each registration: for ``kdr list`` and ``kdr top``."""

from __future__ import annotations

from typing import NamedTuple

from hub import JupyterRelayHub
from hub.registration import Registration
from kdr_wsgi.overview import Published, look_over
from kdr_wsgi.usage import Usage


class Row(NamedTuple):
    """A registration and what is known of it, and its URL."""

    published: Published
    url: str

    @property
    def registration(self) -> Registration:
        """The registration itself."""
        return self.published.registration

    @property
    def usage(self) -> Usage | None:
        """What was read of it; None: that cannot be told."""
        return self.published.usage


class Rows(NamedTuple):
    """All rows, in the order of the keys, and why nobody can tell what was read; empty, where that can be told."""

    rows: list[Row]
    trouble: str


def read_rows(hub: JupyterRelayHub) -> Rows:
    """Return what `hub` registers with has."""
    registrations = hub.registrar.registrations()
    if hub.service:  # What is on its disk, and what was read of it, its own status page tells.
        return Rows([Row(Published(each, None, is_missing=False), url) for each, url in registrations], "")
    published, trouble = look_over((registration for registration, _ in registrations), hub.registry.location)
    return Rows([Row(each, url) for each, (_, url) in zip(published, registrations, strict=True)], trouble)
